"""Copies within one set: what leaves is what all pairs give, nothing is lost, and a page shows it."""

from __future__ import annotations

import base64
import csv
import io
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageOps

import underpaint
from support.all_pairs import all_near_copies
from support.html_page import Page
from support.image_copies import drawing, photograph, scaled
from support.image_files import encoded
from support.prepare_examples import index_of, names_of, outputs, prepared, write_csv, write_files, write_tars
from underpaint.__main__ import main
from underpaint.data.near_duplicates.fingerprints import fingerprint
from underpaint.preparation import deduplication, pipeline
from underpaint.preparation.settings import continued, summary
from underpaint.report import write_report

TAGS = {"3.png": ("sea",), "copy of 3.png": ("beach", "sea"), "small 2.jpg": ("owl",), "2.png": ("bird",)}


def burst(shift: int) -> bytes:
    wide = photograph(99).resize((200, 128))
    return encoded(wide.crop((shift, 0, shift + 128, 128)), "JPEG", quality=92)


def images() -> dict[str, bytes]:
    files = {f"burst/{shift:02d}.jpg": burst(shift) for shift in range(0, 30, 3)}
    files |= {f"{number}.png": encoded(photograph(number)) for number in range(5)}
    files |= {f"drawing {number}.png": encoded(drawing(number)) for number in range(4)}
    files |= {"copy of 3.png": files["3.png"], "mirror.png": encoded(ImageOps.mirror(photograph(1)))}
    files |= {"small 2.jpg": encoded(scaled(photograph(2), 0.6), "JPEG")}
    files |= {
        "large 0.png": encoded(scaled(photograph(0), 1.5)),
        "4 small file.jpg": encoded(photograph(4), "JPEG", quality=80),
        "flat.png": encoded(Image.new("RGB", (40, 40), "teal")),
    }
    return files


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A folder with tags, and tars that hold copies of some of its images."""
    tmp_path = tmp_path_factory.mktemp("sources")
    photos = write_files(tmp_path / "photos", images())
    write_csv(photos / "tags.csv", TAGS)
    in_tars = {"a/x.png": images()["3.png"], "a/y.jpg": burst(6), "a/z.png": encoded(photograph(50))}
    tars = write_tars(tmp_path / "tars", in_tars, {"a/x.png": ("water",), "a/y.jpg": (), "a/z.png": ()})
    return [photos, tars]


@pytest.fixture(scope="module")
def out(sources: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("deduped") / "set", *sources, shard_images=8, dedupe="near")


def place(row: dict) -> tuple[str, int]:
    return row["shard"], row["offset"]


def copies_of(out: Path) -> list[dict]:
    return pq.read_table(out / "copies.parquet").to_pylist()


def test_what_leaves_is_what_all_pairs_give(tmp_path: Path, sources: list[Path], out: Path) -> None:
    """Exact copies by their bytes, near ones pair by pair: the most pixels first, then the largest file."""
    everything = index_of(prepared(tmp_path / "all", *sources, shard_images=8))
    content = {
        place(row): (tmp_path / "all" / row["shard"]).read_bytes()[row["offset"] :][: row["size"]] for row in everything
    }
    distinct: dict[bytes, dict] = {}
    for row in everything:
        distinct.setdefault(content[place(row)], row)
    ordered = sorted(distinct.values(), key=lambda row: (-row["width"] * row["height"], -row["size"]))
    near = all_near_copies(fingerprint([content[place(row)] for row in ordered]))
    kept_for = {place(ordered[copy.row]): place(ordered[copy.kept]) for copy in near}
    first = {place(row): place(distinct[content[place(row)]]) for row in everything}
    expected = {one: kept_for.get(first[one], first[one]) for one in first if one in kept_for or first[one] != one}

    copies = copies_of(out)
    assert {place(row["copy"]): place(row["kept"]) for row in copies} == expected
    assert {place(row) for row in index_of(out)} == first.keys() - expected.keys()
    kinds = {(Path(row["copy"]["key"]).name, row["kept"]["key"]): row["kind"] for row in copies}
    assert kinds[("copy of 3", "3")] == "exact"
    near_pairs = [("4 small file", "4"), ("small 2", "2"), ("mirror", "1"), ("0", "large 0")]
    assert {kinds[pair] for pair in near_pairs} == {"near"}
    assert len([row for row in copies if row["kept"]["key"].startswith("burst/")]) >= 6
    assert {row["mirrored"] for row in copies if row["copy"]["key"] == "mirror"} == {True}


def test_the_image_that_stays_has_the_tags_of_all(out: Path) -> None:
    names = pq.read_table(out / "vocabulary.parquet")["name"].to_pylist()
    labels = {row["key"]: {names[label] for label in row["labels"]} for row in index_of(out)}
    assert labels["3"] == {"sea", "beach", "water"}
    assert labels["2"] == {"bird", "owl"}
    audit = {row["tag"]: row["count"] for row in pq.read_table(out / "tags_audit.parquet").to_pylist()}
    assert audit["sea"] == 1, "counted once for one picture"


def test_nothing_is_lost(out: Path) -> None:
    dropped = {row["key"]: row["reason"] for row in pq.read_table(out / "dropped.parquet").to_pylist()}
    assert len(index_of(out)) + len(dropped) == len(images()) + 3
    assert dropped["copy of 3"] == dropped["00000.tar/000000000"] == "an exact copy of an image that is kept"
    assert dropped["small 2"] == "a near copy of an image that is kept"
    for row in copies_of(out):
        copy = row["copy"]
        content = (out / copy["shard"]).read_bytes()[copy["offset"] :][: copy["size"]]
        with Image.open(io.BytesIO(content)) as image:
            assert image.size == (copy["width"], copy["height"])
    small = next(row["copy"] for row in copies_of(out) if row["copy"]["key"] == "small 2")
    assert small["tags"] == ["owl"]


def test_copies_come_back_without_reading(
    tmp_path: Path, sources: list[Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "set"
    given = ["prepare", *map(str, sources), "--out", str(out)]
    assert main([*given, "--dedupe"]) == 0
    record = json.loads((out / "prepare.json").read_text())
    copies = copies_of(out)
    counts = {kind: sum(row["kind"] == kind for row in copies) for kind in ("exact", "near")}
    assert record["copies"] == {**counts, "joined": 0}
    said = capsys.readouterr().out
    assert f"{record['copies']['exact']} exact copies and {record['copies']['near']} near copies left out" in said
    assert "near_copies.html" in said
    monkeypatch.setattr(pipeline, "read_partition", lambda *_: pytest.fail("nothing is to be read"))
    assert main(given) == 0, "the set stays as it was asked for"
    assert copies_of(out) == copies
    assert main([*given, "--no-dedupe"]) == 0
    assert len(index_of(out)) == len(images()) + 3
    assert not any((out / name).exists() for name in ("copies.parquet", "copy_pictures.parquet", "near_copies.html"))
    assert not list((out / "prepare_work").glob("dedupe-*"))


def test_a_set_that_grows_is_the_set_of_all_sources(tmp_path: Path, sources: list[Path], out: Path) -> None:
    first = prepared(tmp_path / "set", sources[0], shard_images=8, dedupe="near")
    underpaint.prepare([str(sources[1])], first)
    others = ("copy_pictures.parquet", "near_copies.html")
    grown = {name: content for name, content in outputs(first).items() if name not in others}
    assert grown == outputs(out)


def test_an_interrupted_search_is_done_again(
    tmp_path: Path, sources: list[Path], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = deduplication.near_copies

    def stop(*given: object) -> object:
        raise OSError("the disk is full")

    monkeypatch.setattr(deduplication, "near_copies", stop)
    with pytest.raises(OSError, match="the disk is full"):
        prepared(tmp_path / "set", *sources, shard_images=8, dedupe="near")
    monkeypatch.setattr(deduplication, "near_copies", original)
    assert outputs(prepared(tmp_path / "set", *sources, shard_images=8, dedupe="near")) == outputs(out)


def test_other_rules_for_copies_make_the_set_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_files(tmp_path / "photos", {f"{number}.png": encoded(photograph(number)) for number in range(2)})
    for rules, is_kept in (("old", False), ("old", True), ("new", False)):
        monkeypatch.setattr(deduplication, "_FORMAT", rules)
        underpaint.prepare(folder, tmp_path / "set", dedupe="near")
        assert ("prepared already" in capsys.readouterr().err) == is_kept, rules


def test_a_set_without_copies_has_an_empty_page(tmp_path: Path) -> None:
    photos = write_files(tmp_path / "photos", {f"{number}.png": encoded(photograph(number)) for number in range(3)})
    record = underpaint.prepare([str(photos)], tmp_path / "set", dedupe=True)
    assert record.get("copies") == {"exact": 0, "near": 0, "joined": 0}
    assert "There are none" in Page(tmp_path / "set" / "near_copies.html").text


def test_the_page_shows_every_pair_with_what_is_kept(tmp_path: Path) -> None:
    hostile = "<script>alert(1)<"
    photos = write_files(tmp_path / "photos", images())
    write_files(photos, {f"{hostile}/a.png": encoded(photograph(70)), "70.png": encoded(scaled(photograph(70), 0.7))})
    write_csv(photos / "tags.csv", {**TAGS, "70.png": ("<b>bold</b>",)})
    out = tmp_path / "set"
    underpaint.prepare([str(photos)], out, dedupe=True)
    near = [row for row in copies_of(out) if row["kind"] == "near"]
    page = Page(out / "near_copies.html")
    pictures = [found for tag, found in page.tags if tag == "img"]
    groups = {row["kept"]["key"] for row in near}
    assert len(near) > 10
    assert [found["alt"] for found in pictures].count("kept") == len(groups)
    assert [found["alt"] for found in pictures].count("left out") == len(near)
    for found in pictures:
        with Image.open(io.BytesIO(base64.b64decode(str(found["src"]).partition(",")[2]))) as image:
            assert max(image.size) <= 96
    assert all(row["copy"]["key"] in page.text and row["kept"]["key"] in page.text for row in near)
    assert "<b>bold</b>" in page.text
    assert not [tag for tag, _ in page.tags if tag == "script"]
    in_report = Page(out / "prepare.html")
    shown = [found["alt"] for tag, found in in_report.tags if tag == "img"]
    assert shown.count("kept") == min(len(groups), 6)
    assert "The image that is kept of each group has the most pixels" in in_report.text
    differences = [float(value) for value in page.values if "." in value]
    assert sorted(differences) == pytest.approx(sorted(row["difference"] for row in near))
    write_report(out, images=False)
    assert not [tag for tag, _ in Page(out / "near_copies.html").tags if tag == "img"]
    assert 'href="near_copies.html"' in (out / "prepare.html").read_text(encoding="utf-8")


def classes() -> dict[str, str]:
    """A class for every frame of the burst and every photograph and drawing."""
    return {name: next((kind for kind in ("burst", "drawing") if name.startswith(kind)), "photo") for name in images()}


def test_near_copies_that_stay_are_in_one_split(tmp_path: Path) -> None:
    """Frames of a burst differ in their bytes, so each would be drawn for training or testing by itself."""
    photos = write_files(tmp_path / "photos", images())
    with (tmp_path / "classes.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "class"), *classes().items()])
    labels = str(tmp_path / "classes.csv")
    splits = {
        dedupe: {row["key"]: row["split"] for row in index_of(prepared(out, photos, labels=labels, dedupe=dedupe))}
        for dedupe, out in (("none", tmp_path / "all"), ("exact", tmp_path / "exact"))
    }
    frames = [f"burst/{shift:02d}" for shift in range(0, 30, 3)]
    assert len({splits["none"][frame] for frame in frames}) == 2, "else this shows nothing"
    assert {splits["exact"][frame] for frame in frames} == {"pretrain+train"}, "the only family of its class"
    assert splits["none"].keys() - splits["exact"].keys() == {"copy of 3"}
    for copy, original in (("small 2", "2"), ("mirror", "1"), ("large 0", "0"), ("4 small file", "4")):
        assert splits["exact"][copy] == splits["exact"][original]
    assert set(splits["exact"].values()) == {"pretrain+train", "test"}
    record = json.loads((tmp_path / "exact" / "prepare.json").read_text())
    assert record["copies"] == {"exact": 1, "near": 0, "joined": 13}
    assert "13 near copies stay, each in the split of the image that it copies" in summary(record, tmp_path / "exact")


def test_a_record_of_an_older_release_means_both_kinds(tmp_path: Path) -> None:
    photos = write_files(tmp_path / "photos", {"0.png": encoded(photograph(0)), "1.png": encoded(photograph(1))})
    out = prepared(tmp_path / "set", photos)
    record = json.loads((out / "prepare.json").read_text())
    for older, meant in ((True, "near"), (False, "none")):
        record["settings"]["dedupe"] = older
        (out / "prepare.json").write_text(json.dumps(record))
        assert continued(out, [], {}).dedupe == meant
        assert continued(out, [], {"dedupe": older}).dedupe == meant


def test_names_of_folders_are_no_tags_of_an_image_whose_copy_has_tags(tmp_path: Path) -> None:
    """Whichever of the two is kept; and only images of the set are counted as named by folders."""
    own, album, other = (encoded(photograph(number)) for number in (1, 2, 3))
    files = {"trip/1.png": own, "trip/1.txt": b"owl, tree", "heron/1.png": own}
    files |= {
        "harbour/2.png": album,
        "trip/2.png": album,
        "trip/2.txt": b"boat",
        "heron/3.png": other,
        "heron/4.png": other,
    }
    photos = write_files(tmp_path / "photos", files)
    record = underpaint.prepare(photos, tmp_path / "set", dedupe="exact")
    assert sorted(map(sorted, names_of(tmp_path / "set").values())) == [["boat"], ["heron"], ["owl", "tree"]]
    assert record["counts"]["folder_tags"] == 1
