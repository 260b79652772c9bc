"""Tags written beside images and taken back: what Exiv2 reads, what `prepare` reads, after a kill, after a person."""

from __future__ import annotations

import csv
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pyexiv2
import pytest
import torch
from PIL import Image

from support.image_files import encoded
from support.prepare_examples import prepared, tree
from support.small_runs import ENCODER, make_images, wsp_run
from underpaint import config, files
from underpaint.cli.main import main
from underpaint.core import DataInfo
from underpaint.data.loader import read_files
from underpaint.evals.label_thresholds import SEEN, LabelThreshold
from underpaint.evals.score import Interval
from underpaint.models.weights import save_module
from underpaint.objectives.classify import ClassifyConfig
from underpaint.run import execute
from underpaint.tagging import job, journal
from underpaint.tagging.heldout import held_out
from underpaint.tagging.job import Tagging, TagOptions, undo_tags, write_tags
from underpaint.tagging.journal import Journal
from underpaint.tagging.packet import EMPTY
from underpaint.tagging.sidecars import Change, planned_change
from underpaint.tagging.summary import summary

LABELS = ("red", "green", "blue", "black", "wide", "tall", "never seen")
LR = "Xmp.lr.hierarchicalSubject"


@pytest.fixture(scope="module")
def heldout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_images(tmp_path_factory.mktemp("heldout") / "heldout", count=120)


@pytest.fixture(scope="module")
def model(heldout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random encoder whose head is fitted to the colours; the shapes are guessed."""
    with (heldout / "tags.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    kind = ClassifyConfig(encoder=replace(ENCODER, width=64), loss="bce")
    module: Any = kind.build(DataInfo(seed=0, labels=LABELS, images=120))
    images, problems = read_files([heldout / row["path"] for row in rows], format=module.image_input)
    assert not any(problems)
    truth = torch.tensor([[float(label in row["tags"].split(";")) for label in LABELS] for row in rows])
    truth[:, 4:6] = torch.from_numpy(np.random.default_rng(0).random((len(rows), 2))).float()
    with torch.no_grad():
        feature = module.eval().feature(images, None)
        whole = torch.cat([feature, torch.ones(len(rows), 1)], dim=1)
        solved = torch.linalg.lstsq(whole.double(), truth.double(), driver="gelsd").solution.float()
        module.head.weight.copy_(20 * solved[:-1].T)
        module.head.bias.copy_(20 * solved[-1] - 10)
    folder = tmp_path_factory.mktemp("runs") / "run"
    description = {"type": "ClassifyConfig", "config": config.record(kind), "facts": {"seed": 0, "images": 120}}
    beside = {"labels.json": {"format": 1, "labels": list(LABELS), "count": [1] * len(LABELS)}}
    save_module(folder / "model", module, description, beside)
    return folder


def written(image: Path, fields: dict[str, list[str]]) -> bytes:
    """An XMP packet by Exiv2 in an image, and alone."""
    with pyexiv2.Image(str(image)) as opened:
        opened.modify_xmp(fields)
        return opened.read_raw_xmp().encode()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Boxes beside sidecars of Lightroom and digiKam, a JPEG with keywords inside, a raw file, an unreadable image."""
    folder = make_images(tmp_path / "photos", count=24)
    (folder / "tags.csv").unlink()
    (folder / "labels.csv").unlink()
    red, green, blue, further = (folder / f"a/{name}.png" for name in ("b/000", "001", "002", "005"))
    scratch = tmp_path / "scratch.jpg"
    scratch.write_bytes(encoded(Image.new("RGB", (8, 8)), "JPEG"))
    lightroom = written(scratch, {"Xmp.dc.subject": ["holiday", "Red"], LR: ["Trips|holiday", "Red"]})
    for image in (red, green, blue):
        image.with_suffix(".xmp").write_bytes(lightroom)
    blue.with_suffix(".cr2").write_bytes(b"raw")
    tags_list = {"Xmp.digiKam.TagsList": ["Places/Norway"], LR: ["Places|Norway"], "Xmp.dc.subject": ["Norway"]}
    scratch.write_bytes(encoded(Image.new("RGB", (8, 8)), "JPEG"))
    further.with_name(f"{further.name}.xmp").write_bytes(written(scratch, tags_list))
    jpeg = folder / "inside.jpg"
    jpeg.write_bytes(encoded(Image.open(green).convert("RGB"), "JPEG", quality=95))
    written(jpeg, {"Xmp.dc.subject": ["boat"]})
    jpeg.with_suffix(".xmp").write_bytes(lightroom)
    (folder / "cut.png").write_bytes(red.read_bytes()[:60])
    for file in folder.rglob("*"):
        os.utime(file, (1.7e9, 1.7e9))
    os.utime(jpeg.with_suffix(".xmp"), (1.6e9, 1.6e9))
    green.with_suffix(".xmp").chmod(0o640)
    return folder


def state(folder: Path) -> dict[str, tuple[bytes, int, int]]:
    """Content, time and permissions of every file."""
    found = {name: (folder / name).stat() for name in tree(folder)}
    return {name: (tree(folder)[name], s.st_mtime_ns, s.st_mode) for name, s in found.items()}


def options(heldout: Path, precision: float = 0.8) -> TagOptions:
    return TagOptions(precision=precision, heldout=str(heldout), workers=0)


def test_a_dry_run_writes_nothing_beside_the_images(
    photos: Path, model: Path, heldout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, out = state(photos), tmp_path / "out"
    command = ["predict", str(model), str(photos), "--write", "xmp", "--precision", "0.8", "--out", str(out)]
    assert main([*command, "--heldout", str(heldout), "--workers", "0"]) == 0
    assert state(photos) == before
    told = capsys.readouterr().out
    assert (
        "precision 80% on 120 held-out images of heldout: 4 of 6 labels reach it, 2 are not visible in pixels" in told
    )
    assert "nothing is written yet: add --apply" in told
    labels = {row["label"]: row for row in pq.read_table(out / "labels.parquet").to_pylist()}
    assert {name for name, row in labels.items() if row["written"]} == {"red", "green", "blue", "black"}
    assert labels["wide"]["verdict"] == "not visible in pixels"
    assert labels["red"]["precision_low"] < labels["red"]["precision"] <= 1
    rows = pq.read_table(out / "predicted.parquet").to_pylist()
    with (out / "predicted.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [(row["path"], ";".join(row["predicted_tags"]), row["problem"]) for row in rows] == [
        (row["path"], row["predicted_tags"], row["problem"]) for row in table
    ]
    assert len(rows) == 26
    assert {Path(row["path"]).name for row in rows if row["problem"]} == {"cut.png"}


@pytest.mark.parametrize(
    ("precision", "rows", "told"),
    [
        (
            0.9,
            [("owl", 6, 0.72), ("cat", 5, 0.0)],
            "on 15 held-out images for 90%, and the most frequent one is on 6",
        ),
        (0.9, [("owl", 6, 0.72)], "(--heldout SOURCE), or --precision 0.7 writes 1 label"),
        (0.9, [("owl", 40, 0.65), ("cat", 30, 0.81)], "not that sure of any label; --precision 0.8 writes 1 label"),
        (0.9, [("owl", 40, 0.4)], "no label reaches even 50%: the model has learnt too little; train longer"),
        (0.5, [("owl", 40, 0.3)], "the model has learnt too little"),
    ],
)
def test_it_is_said_why_nothing_is_written(
    tmp_path: Path, precision: float, rows: list[tuple[str, int, float]], told: str
) -> None:
    seen = {"average_precision": Interval(0.5, 0.4, 0.6), "chance": 0.1, "verdict": SEEN, "threshold": None}
    labels = [LabelThreshold(label=name, images=images, reachable=reach, **seen) for name, images, reach in rows]
    made = Tagging(out=tmp_path, applied=False, thresholds=labels, heldout="photos", heldout_images=60, images=193)
    *_, last = summary(made, TagOptions(precision=precision)).splitlines()
    assert last.startswith("nothing to write: ")
    assert told in last


def test_exiv2_reads_the_tags_and_undo_restores_every_byte(
    photos: Path, model: Path, heldout: Path, tmp_path: Path
) -> None:
    before, out = state(photos), tmp_path / "out"
    done = write_tags(model, photos, out=out, apply=True, options=options(heldout))
    predicted = {row["path"]: row["predicted_tags"] for row in pq.read_table(out / "predicted.parquet").to_pylist()}
    after = tree(photos)
    assert all(after[name] == content for name, (content, _, _) in before.items() if not name.endswith(".xmp"))
    assert len(after) == len(before) + done.created
    assert done.changed == 3
    for image, labels in predicted.items():
        said = {"red"} if Path(image).name in ("000.png", "001.png", "002.png", "inside.jpg") else set[str]()
        sidecar = Path(f"{image}.xmp") if Path(f"{image}.xmp").exists() else Path(image).with_suffix(".xmp")
        wanted = [f"underpaint|{label}" for label in labels if label not in said]
        if not wanted:
            continue
        with pyexiv2.Image(str(sidecar)) as opened:
            tags = opened.read_xmp()[LR]
        assert [tag for tag in tags if tag.startswith("underpaint|")] == wanted
    names = {path.name: path for path in photos.rglob("*.xmp")}
    assert "002.png.xmp" in names, "002.xmp describes the raw file, too"
    assert names["002.xmp"].read_bytes() == before["a/002.xmp"][0]
    assert names["000.xmp"].read_bytes() == before["a/b/000.xmp"][0], "a person said it"
    again = write_tags(model, photos, out=out, apply=True, options=options(heldout))
    assert again.created == again.changed == 0
    assert tree(photos) == after
    undone = undo_tags(photos, out)
    assert (undone.restored, undone.deleted, undone.kept) == (done.changed, done.created, [])
    assert state(photos) == before
    with pytest.raises(ValueError, match="nothing to undo"):
        undo_tags(photos, out)


def test_a_killed_call_goes_on_and_can_be_undone(
    photos: Path, model: Path, heldout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, whole = state(photos), tmp_path / "whole"
    done = write_tags(model, photos, out=whole, apply=True, options=options(heldout))
    sidecars = {path for path in tree(photos) if path.endswith(".xmp")}
    undo_tags(photos, whole)
    monkeypatch.setattr(job, "CHANGES_OF_PART", 4)
    count, real = [0], files.write_bytes

    def stops(path: Path, content: bytes, **how: Any) -> None:
        count[0] += path.suffix == ".xmp"
        if count[0] == 7 and path.suffix == ".xmp":
            raise KeyboardInterrupt
        real(path, content, **how)

    monkeypatch.setattr(journal.files, "write_bytes", stops)
    with pytest.raises(KeyboardInterrupt):
        write_tags(model, photos, out=tmp_path / "out", apply=True, options=options(heldout))
    rest = write_tags(model, photos, out=tmp_path / "out", apply=True, options=options(heldout))
    assert rest.created + rest.changed == done.created + done.changed - 6
    assert {path for path in tree(photos) if path.endswith(".xmp")} == sidecars
    undo_tags(photos, tmp_path / "out")
    assert state(photos) == before


def test_a_file_that_a_person_changed_stays(photos: Path, model: Path, heldout: Path, tmp_path: Path) -> None:
    before, out = state(photos), tmp_path / "out"
    write_tags(model, photos, out=out, apply=True, options=options(heldout))
    changed = next(path for path in sorted(photos.rglob("*.png.xmp")) if path.name != "005.png.xmp")
    changed.write_bytes(changed.read_bytes() + b"\n<!-- mine -->")
    content = changed.read_bytes()
    assert undo_tags(photos, out).kept == [changed]
    after = state(photos)
    assert after.pop(changed.relative_to(photos).as_posix())[0] == content
    assert after == before


def test_what_cannot_be_written_is_left_and_the_others_are_not(
    photos: Path, model: Path, heldout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder, a pipe and a huge file in the place of sidecars, a name too long, and a folder in the way."""
    images = sorted(path for path in photos.rglob("*.png") if path.name not in ("000.png", "001.png", "002.png"))
    folder, pipe, huge, long, locked = images[3:8]
    folder.with_name(f"{folder.name}.xmp").mkdir()
    os.mkfifo(pipe.with_name(f"{pipe.name}.xmp"))
    huge.with_name(f"{huge.name}.xmp").write_bytes(EMPTY)
    with huge.with_suffix(".xmp").open("wb") as file:
        file.truncate(3 << 20)
    long.rename(long.with_name("\U0001f9ff" * 61 + ".png"))  # 248 bytes, of which a system takes 255
    locked.with_name(f"{locked.name}.xmp.part").mkdir()
    before, out = state(photos), tmp_path / "out"
    words = ["predict", str(model), str(photos), "--write", "xmp", "--precision", "0.8", "--heldout", str(heldout)]
    assert main([*words, "--out", str(out), "--apply"]) == 0
    told = capsys.readouterr().out
    assert "left alone 2 times: in the place of the XMP file there is a folder, or something else" in told
    assert "left alone 1 time: the XMP file has 3,145,728 bytes" in told
    assert ": cannot be written: File name too long" in told
    assert ": cannot be written: Is a directory" in told
    assert len([name for name in tree(photos) if name.endswith(".xmp")]) > 15
    assert not [name for name in tree(photos) if name.endswith(".part")]
    undo_tags(photos, out)
    assert state(photos) == before


def test_an_empty_sidecar_is_filled(tmp_path: Path) -> None:
    image = tmp_path / "a.jpg"
    image.write_bytes(encoded(Image.new("RGB", (8, 8)), "JPEG"))
    (tmp_path / "a.jpg.xmp").write_bytes(b" \n")
    change = planned_change(image, ["owl"], model="m")
    assert change is not None
    assert change.before == b" \n"
    assert b"underpaint|owl" in change.after


def test_undo_of_another_folder_of_the_same_name_is_refused(
    photos: Path, model: Path, heldout: Path, tmp_path: Path
) -> None:
    before, out = state(photos), tmp_path / "out"
    write_tags(model, photos, out=out, apply=True, options=options(heldout))
    other = tmp_path / "other" / "photos"
    other.mkdir(parents=True)
    with pytest.raises(ValueError, match="holds the undo file of tags in"):
        undo_tags(other, out)
    other.rmdir()
    photos.rename(other)
    undo_tags(other, out)
    assert state(other) == before


def rows_of(out: Path) -> dict[str, dict[str, Any]]:
    tables = (out / "prepare_work" / "rows").glob("*.parquet")
    return {row["key"]: row for file in tables for row in pq.read_table(file).to_pylist() if not row["problem"]}


def test_prepare_reads_people_s_tags_alone(photos: Path, model: Path, heldout: Path, tmp_path: Path) -> None:
    """A second training must not learn from the first one's predictions, nor lose a word because of them."""
    told = ("tags", "keyword_paths")
    before = rows_of(prepared(tmp_path / "before", photos, folders="none"))
    assert sum(bool(row["tags"]) for row in before.values()) == 5
    assert sorted(before["inside"]["tags"]) == ["Red", "Trips", "boat", "holiday"]
    write_tags(model, photos, out=tmp_path / "out", apply=True, options=options(heldout))
    after = rows_of(prepared(tmp_path / "after", photos, folders="none"))
    assert {key: [row[name] for name in told] for key, row in after.items()} == {
        key: [row[name] for name in told] for key, row in before.items()
    }
    predicted = sum("predicted_tags" in row["flags"] for row in after.values())
    assert predicted > 15
    assert files.read_json(tmp_path / "after" / "prepare.json")["counts"]["predicted_tags"] == predicted
    assert not any("newer_sidecar" in row["flags"] for row in after.values())


def test_another_job_replaces_the_tags_and_its_undo_restores_them(
    photos: Path, model: Path, heldout: Path, tmp_path: Path
) -> None:
    write_tags(model, photos, out=tmp_path / "first", apply=True, options=options(heldout))
    first = state(photos)
    with pytest.raises(ValueError, match=r"other tags \(precision differ\)"):
        write_tags(model, photos, out=tmp_path / "first", options=options(heldout, 0.7))
    sidecar = next(path for path in sorted(photos.rglob("*.png.xmp")) if path.name != "005.png.xmp")
    mended = sidecar.read_bytes().replace(b"<rdf:li>", b"<rdf:li>old ")
    sidecar.write_bytes(mended)
    write_tags(model, photos, out=tmp_path / "second", apply=True, options=options(heldout, 0.7))
    assert sidecar.read_bytes() != mended
    undo_tags(photos, tmp_path / "second")
    name = sidecar.relative_to(photos).as_posix()
    assert sidecar.read_bytes() == mended
    assert {k: v for k, v in state(photos).items() if k != name} == {k: v for k, v in first.items() if k != name}


def test_tables_alone(photos: Path, model: Path, heldout: Path, tmp_path: Path) -> None:
    before = state(photos)
    done = write_tags(model, photos, out=tmp_path / "out", form="csv", options=options(heldout))
    assert state(photos) == before
    assert done.tags > 10
    with pytest.raises(ValueError, match="without apply"):
        write_tags(model, photos, out=tmp_path / "out", form="csv", apply=True, options=options(heldout))


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--apply"], "--apply does nothing without --write"),
        (["--write", "xmp", "--top", "3"], "--top does nothing with --write"),
        (["--write", "csv", "--undo"], "--write csv changes nothing"),
        (["--write", "xmp", "--apply", "--undo"], "leave one of them out"),
        (["--write", "xmp", "--undo"], "nothing to undo"),
        (["--write", "xmp", "--precision", "90"], "precision=90.0 must lie between"),
        (["--write", "xmp"], "not the folder of a run"),
    ],
)
def test_errors_are_one_line(
    words: list[str], reason: str, heldout: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(model), str(heldout), *words]) == 2
    assert reason in capsys.readouterr().err


def test_the_held_out_images_of_a_run_are_its_own(tmp_path: Path) -> None:
    images = make_images(tmp_path / "images", count=110)
    copy = (images / "a" / "001.png").read_bytes()
    run = tmp_path / "run"
    execute(wsp_run(images, steps=2), run)
    rows = held_out(run)
    assert list(rows.rows) == rows.source.rows("heldout") != []
    assert all("heldout" in rows.source.splits[row] for row in rows.rows)
    assert all(set(names) & {"red", "green", "blue", "black"} for names in rows.names)
    (images / "new.png").write_bytes(copy + b" ")
    with pytest.raises(ValueError, match="is not as it was when"):
        held_out(run)


def test_an_undo_file_names_nothing_outside_the_folder(tmp_path: Path) -> None:
    """Whoever passes on a folder of a run could otherwise have any file of the user written over."""
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    for number, name in enumerate(("../a.xmp", "/etc/a.xmp", "a.jpg", "")):
        change = Change(
            sidecar=photos / "a.xmp", before=b"", mode=None, changed=0, after=b"after", written=1, predicted=()
        )
        (photos / "a.xmp").write_bytes(b"")
        Journal(out / str(number), photos).write([change])
        job = {"format": 1, "folder": str(photos), "model": "", "precision": 0.9, "heldout": ""}
        files.write_json(out / str(number) / "job.json", job)
        part = out / str(number) / "undo" / "000000.parquet"
        table = pq.read_table(part)
        pq.write_table(table.set_column(0, table.schema.field(0), [[name.encode()]]), part)
        with pytest.raises(ValueError, match="not an XMP file in the folder"):
            undo_tags(photos, out / str(number))
        assert (photos / "a.xmp").read_bytes() == b"after"
