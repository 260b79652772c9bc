"""One label space: a folder, a table and a prepared set give the same labels, streams and classes."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import underpaint
from support.prepare_examples import TAGS, index_of, names_of, pictures, prepared, write_csv, write_files, write_tars
from support.small_runs import BATCH, make_images, wsp_run
from underpaint.__main__ import main
from underpaint.core import ImageInput, LabelInput
from underpaint.data.dataset import ImageData
from underpaint.data.open_source import open_source
from underpaint.data.stream import Batching
from underpaint.data.tables.table_file import TableFile
from underpaint.preparation.joining import join_table
from underpaint.run import execute


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDERPAINT_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_files(tmp_path / "photos", pictures())


def test_a_folder_has_the_labels_of_the_set_that_is_prepared_of_it(tmp_path: Path, photos: Path) -> None:
    write_csv(photos / "tags.csv", TAGS)
    source = open_source(str(photos))
    of_folder = {family: set(tags) for family, tags in zip(source.family, source.tags, strict=True)}
    of_set = {content.hex(): names for content, names in names_of(prepared(tmp_path / "set", photos)).items()}
    assert of_folder == of_set
    assert "brown bear" in source.tags[0]
    assert source.notes_on_tags[-1].startswith("11 different tags are 8 labels, 1 dropped")
    assert "data.tag_rules=words keeps the words, in a study wsp.data.tag_rules=words" in source.notes_on_tags[-1]


def test_words_stay_where_they_are_asked_for_and_are_refused_elsewhere(tmp_path: Path, photos: Path) -> None:
    write_csv(photos / "tags.csv", TAGS)
    source = open_source(str(photos), tag_rules="words")
    assert source.tags[0] == ("brownbear", "forest")
    out = prepared(tmp_path / "set", photos)
    for name in (str(out), "openmoji"):
        with pytest.raises(ValueError, match="tag_rules"):
            ImageData(source=name, targets="tags", tag_rules="words").open()


def half_tagged(folder: Path, share: float, count: int = 240) -> Path:
    """Images of which a share has one to three of 12 tags, the later ones rare."""
    rng = np.random.default_rng(0)
    words = ("dog", "cat", "tree", "house", "car", "boat", "snow", "beach", "flower", "bridge", "train", "horse")
    folder.mkdir(parents=True)
    tags = {}
    for index in range(count):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder / f"{index:03}.png")
        if rng.random() < share:
            drawn = [min(int(rng.exponential(3)), 11) for _ in range(rng.integers(1, 4))]
            tags[f"{index:03}.png"] = [words[number] for number in dict.fromkeys(drawn)]
    write_csv(folder / "tags.csv", tags)
    return folder


def mean_repeats(data: ImageData, folder: Path) -> float:
    """How often an image of the stream stands in three epochs, divided by three."""
    opened = data.open()
    image = ImageInput(size=(8, 8), channels=3, value_range=(0.0, 255.0), mean=(0.0,) * 3, std=(1.0,) * 3)
    inputs = {"image": image, "labels": LabelInput()}
    stream = opened.stream(inputs, Batching(batch_size=8, microbatch=8), seed=0, quarantine=folder / "bad.jsonl")
    index = stream.items
    drawn = Counter[object]()
    position = 0
    while len(drawn) < opened.images or min(drawn.values()) < 3:
        drawn[index.at(position).image] += 1
        position += 1
    # an image of factor 1 stands in each epoch once, so the third time of the rarest ends the third epoch
    return position / opened.images / 3


@pytest.mark.parametrize("share", [0.5, 0.05])
@pytest.mark.parametrize("is_prepared", [False, True])
def test_the_stream_has_the_ratio_over_the_images_that_have_tags(
    tmp_path: Path, share: float, is_prepared: bool
) -> None:
    images = half_tagged(tmp_path / "photos", share)
    source = str(prepared(tmp_path / "set", images) if is_prepared else images)
    data = ImageData(source=source, targets="tags", resample="sqrt")
    assert mean_repeats(data, tmp_path) == pytest.approx(5 / 3, rel=0.1 if share == 0.5 else 0.25)


@pytest.mark.parametrize("is_prepared", [False, True])
def test_stage_one_on_the_balanced_stream_keeps_untagged_images_once_and_says_so(
    tmp_path: Path, is_prepared: bool
) -> None:
    images = half_tagged(tmp_path / "photos", 0.5)
    source = str(prepared(tmp_path / "set", images) if is_prepared else images)
    opened = ImageData(source=source, resample="sqrt").open()
    assert any("without a tag stand once in an epoch" in note for note in opened.notes)
    tagged = ImageData(source=source, resample="sqrt", targets="tags").open()
    assert not any("stand once" in note for note in tagged.notes)
    assert opened.images > tagged.images


def test_tables_written_elsewhere_are_matched_and_it_is_said(tmp_path: Path, photos: Path, capsys) -> None:
    expected = names_of(prepared(tmp_path / "plain", photos, tags=str(write_csv(tmp_path / "t.csv", TAGS))))
    for number, spell in enumerate(
        (
            lambda path: f"/home/me/Photos/{path}",
            lambda path: "C:\\Photos\\" + path.replace("/", "\\"),
            lambda path: f"photos/{path}",
            lambda path: path.rpartition("/")[2] if "oak" not in path else path,
        )
    ):
        table = write_csv(tmp_path / f"{number}.csv", {spell(path): tags for path, tags in TAGS.items()})
        out = tmp_path / f"set{number}"
        assert main(["prepare", str(photos), "--out", str(out), "--tags", str(table)]) == 0
        assert names_of(out) == expected
        printed = capsys.readouterr().out
        assert "6 of 6 rows fit an image" in printed
        assert "by the end of the path" in printed
        assert "tags are separated by semicolons" in printed


def test_tables_of_tars_are_matched_by_the_end_of_the_path(tmp_path: Path) -> None:
    tars = write_tars(tmp_path / "tars", pictures(), dict.fromkeys(TAGS, ()))
    keys = [f"{number // 4:05d}{number % 4:04d}.{name.rpartition('.')[2]}" for number, name in enumerate(TAGS)]
    table = write_csv(tmp_path / "t.csv", {f"/x/{key}": ["dog"] for key in keys})
    assert list(names_of(prepared(tmp_path / "set", tars, tags=str(table))).values()) == [{"dog"}] * 6


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({}, "has no row that names an image"),
        (
            {f"x/{path}_": tags for path, tags in TAGS.items()},
            "6 of 6 rows of .* fit no image, such as 'x/animals/bear o",
        ),
        ({**TAGS, "gone.png": ("dog",)}, r"1 of 7 rows of .* such as 'gone.png'; images are called 'animals/bear one'"),
        (dict.fromkeys(TAGS, ("12345",)), "no image has a label"),
    ],
)
def test_a_table_that_does_not_fit_ends_it(tmp_path: Path, photos: Path, capsys, rows: dict, message: str) -> None:
    table = write_csv(tmp_path / "t.csv", rows)
    with pytest.raises(ValueError, match=message):
        underpaint.prepare([photos], tmp_path / "set", tags=str(table))
    assert main(["prepare", str(photos), "--out", str(tmp_path / "set"), "--tags", str(table)]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_rows_that_fit_nothing_are_allowed_by_name(tmp_path: Path, photos: Path) -> None:
    table = write_csv(tmp_path / "t.csv", {**TAGS, "gone.png": ("dog",)})
    record = underpaint.prepare([photos], tmp_path / "set", tags=str(table), max_unmatched=0.2)
    assert record["tables"] == [
        "t.csv: 6 of 7 rows fit an image; not 'gone.png'; tags are separated by semicolons",
    ]


def test_tables_of_two_programs_are_joined_to_one_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One names images by Flickr's number, the other by their file name alone."""
    names = ("web/heron-at-lake_48000071271_o.png", "phone/heron_48000071271_b.png", "studio/Session #4 - 0003.png")
    images = pictures(names)
    photos = write_files(tmp_path / "photos", images)
    (tmp_path / "flickr.csv").write_text("id,title,tags\n48000071271,heron,heron lake\n")
    (tmp_path / "studio.csv").write_text("Filename;Rating;Keywords\nSession #4 - 0003.png;3;car, street\n")
    tables = ["--tags", str(tmp_path / "flickr.csv"), "--tags", str(tmp_path / "studio.csv")]
    assert main(["prepare", str(photos), "--out", str(tmp_path / "set"), *tables]) == 0
    found = sorted(map(sorted, names_of(tmp_path / "set").values()))
    assert found == [["car", "street"], ["heron", "lake"], ["heron", "lake"]]
    assert capsys.readouterr().out.count("1 of 1 row fit an image") == 2
    assert main(["prepare", str(photos), "--out", str(tmp_path / "set")]) == 0  # the tables are kept
    assert {len(labels) for labels in names_of(tmp_path / "set").values()} == {2}


def test_a_table_about_another_source_is_not_a_source(tmp_path: Path, photos: Path) -> None:
    table = write_csv(tmp_path / "names only.csv", {path.rpartition("/")[2]: tags for path, tags in TAGS.items()})
    with pytest.raises(ValueError, match=r"no row of .* names an image file in .*; .* with --tags '.*names only.csv'"):
        underpaint.prepare([photos, table], tmp_path / "set")


def test_a_record_with_one_table_is_continued(tmp_path: Path, photos: Path) -> None:
    """Sets of earlier releases name it, or "", instead of a list."""
    out = prepared(tmp_path / "set", photos, tags=str(write_csv(tmp_path / "t.csv", TAGS)))
    expected = names_of(out)
    record = json.loads((out / "prepare.json").read_text())
    record["settings"] |= {name: record["settings"][name][0] for name in ("tags", "tags_hash")}
    (out / "prepare.json").write_text(json.dumps(record))
    underpaint.prepare([photos], out)
    assert names_of(out) == expected


@pytest.mark.parametrize("share", [float("nan"), -0.1, 1.5])
def test_a_share_of_rows_is_a_share(tmp_path: Path, photos: Path, share: float) -> None:
    with pytest.raises(ValueError, match=r"max_unmatched=.* must be a share between 0 and 1"):
        underpaint.prepare([photos], tmp_path / "set", max_unmatched=share)


def test_rows_about_one_sample_of_a_shard_are_merged(tmp_path: Path) -> None:
    tars = write_tars(tmp_path / "tars", pictures(), dict.fromkeys(TAGS, ()))
    rows = "".join(f"/x/000000000.png,{tag}\n" for tag in ("dog", "oak"))
    (tmp_path / "t.csv").write_text(f"path,tags\n{rows}")
    names = names_of(prepared(tmp_path / "set", tars, tags=str(tmp_path / "t.csv")))
    assert [labels for labels in names.values() if labels] == [{"dog", "oak"}]


def test_every_tag_stands_in_the_audit(tmp_path: Path, photos: Path) -> None:
    """3,001 tags on one image, and a tag of 500 letters."""
    many = [f"unheard{number:04d}of" for number in range(3_001)]
    table = write_csv(tmp_path / "t.csv", {**TAGS, "plants/oak.png": [*many, "long" * 125]})
    audit = pq.read_table(prepared(tmp_path / "set", photos, tags=str(table)) / "tags_audit.parquet").to_pylist()
    reason = {row["tag"]: row["reason"] for row in audit}
    assert reason.keys() >= set(many)
    assert [text for tag, text in reason.items() if tag.startswith("longlong")] == ["longer than 200 letters"]


def label_file(folder: Path, *, splits: bool) -> Path:
    """The colours as classes; with splits, every third image is tested on."""
    lines = (folder / "labels.csv").read_text().splitlines()
    if splits:
        ends = ["split", *("val" if number % 3 == 0 else "train" for number in range(len(lines) - 1))]
        lines = [f"{line},{end}" for line, end in zip(lines, ends, strict=True)]
    target = folder.parent / f"labels-{splits}.csv"
    target.write_text("\n".join(lines) + "\n")
    return target


@pytest.mark.parametrize("splits", [False, True])
def test_a_set_holds_classes_and_splits_beside_canonical_tags(tmp_path: Path, splits: bool) -> None:
    photos = make_images(tmp_path / "photos", 60)
    labels = label_file(photos, splits=splits)
    out = tmp_path / "set"
    record = underpaint.prepare([photos], out, labels=str(labels))
    assert record["counts"]["classes"] == 4
    of_set, of_folder = open_source(str(out)), open_source(str(photos), labels=str(labels))
    by_family = {family: row for row, family in enumerate(of_folder.family)}
    rows = [by_family[family] for family in of_set.family]
    assert [of_folder.label[row] for row in rows] == list(of_set.label)
    assert [set(of_folder.tags[row]) for row in rows] == [set(tags) for tags in of_set.tags]
    tested = {of_set.family[row] for row in of_set.rows("test")}
    assert tested == {of_folder.family[row] for row in of_folder.rows("test")}
    assert {of_set.family[row] for row in of_set.rows("train")} == set(of_set.family) - tested
    assert len(tested) == (20 if splits else round(0.3 * 15) * 4)
    for row in of_set.rows("test"):
        assert of_set.splits[row] == ("test",)
    classes = ImageData(source=str(out), split="train", targets="class").open()
    assert classes.vocabulary.labels == ("black", "blue", "green", "red")
    assert classes.images == 60 - len(tested)


def test_a_copy_of_a_tested_image_is_kept_out(tmp_path: Path) -> None:
    photos = make_images(tmp_path / "photos", 24)
    labels = label_file(photos, splits=True)
    tested = next(line.split(",")[0] for line in labels.read_text().splitlines() if line.endswith(",val"))
    (photos / "copy.png").write_bytes((photos / tested).read_bytes())
    out = prepared(tmp_path / "set", photos, labels=str(labels))
    (copy,) = (row for row in index_of(out) if row["key"] == "copy")
    assert (copy["split"], copy["class"]) == ("", None)


def test_a_run_and_an_evaluation_use_the_classes_of_a_set(tmp_path: Path) -> None:
    photos = make_images(tmp_path / "photos")
    out = prepared(tmp_path / "set", photos, labels=str(photos / "labels.csv"))
    run = wsp_run(photos, steps=4)
    data = ImageData(source=str(out), split="train", targets="class", scale=(0.4, 1.0))
    result = execute(replace(run, data=data), tmp_path / "run")
    assert result["samples"] == 4 * BATCH
    assert json.loads((tmp_path / "run" / "model" / "labels.json").read_text())["labels"][0] == "black"
    rows = underpaint.evaluate("knn", tmp_path / "run", [f"dataset={out}"])
    assert {row["metric"] for row in rows}
    assert rows[0]["n_test"] == len(open_source(str(out)).rows("test"))


@pytest.mark.parametrize("known", [["photos/a.png", "b.png"], []])
def test_a_table_of_classes_that_says_two_things_of_one_image_is_refused(tmp_path: Path, known: list[str]) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("path,class\na.png,red\nb.png,blue\na.png,red\n")
    join_table(TableFile(table), tmp_path, known=known, images=None, is_of="classes")
    table.write_text("path,class\na.png,red\nb.png,blue\na.png,blue\n")
    with pytest.raises(
        ValueError, match=r"a.png' twice: line 2 says class 'red', line 4 says class 'blue'; delete one"
    ):
        join_table(TableFile(table), tmp_path, known=known, images=None, is_of="classes")


def test_classes_can_be_added_to_a_set_and_a_wrong_split_is_named(tmp_path: Path) -> None:
    photos = make_images(tmp_path / "photos", 24)
    out = prepared(tmp_path / "set", photos)
    assert open_source(str(out)).rows("test") == []
    before = json.loads((out / "prepared.json").read_text())["content_hash"]
    underpaint.prepare([photos], out, labels=str(photos / "labels.csv"))
    assert open_source(str(out)).rows("test")
    assert json.loads((out / "prepared.json").read_text())["content_hash"] != before
    wrong = tmp_path / "wrong.csv"
    wrong.write_text(
        (photos / "labels.csv").read_text().replace("class\n", "class,split\n").replace("red\n", "red,tset\n")
    )
    with pytest.raises(ValueError, match="has the split 'tset'; write one of train"):
        underpaint.prepare([photos], out, labels=str(wrong))
