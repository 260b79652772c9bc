"""Folders as photo programs leave them: XMP files, hierarchies, folders of their own, names of albums."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow.parquet as pq
import pyexiv2
import pytest

from support.image_copies import photograph
from support.image_files import encoded
from support.prepare_examples import names_of, picture, prepared, write_files
from underpaint.cli.main import main
from underpaint.preparation.plan import folder_names


def packet(folder: Path, fields: dict[str, list[str]]) -> bytes:
    """An XMP packet as Exiv2 writes it (digiKam's library)."""
    file = folder.with_name(f"{folder.name}.writer.jpg")
    file.write_bytes(encoded(photograph(0), "JPEG"))
    with pyexiv2.Image(str(file)) as image:
        image.modify_xmp(fields)
        written = image.read_raw_xmp()
    file.unlink()
    return written.encode()


def rows_of(out: Path) -> dict[str, dict]:
    files = (out / "prepare_work" / "rows").glob("*.parquet")
    return {row["key"]: row for file in files for row in pq.read_table(file).to_pylist()}


def test_hierarchies_of_lightroom_and_digikam_give_all_their_words(tmp_path: Path) -> None:
    lightroom = {"Xmp.dc.subject": ["barn owl"], "Xmp.lr.hierarchicalSubject": ["Animals|Birds|barn owl"]}
    digikam = {"Xmp.digiKam.TagsList": ["Animals/Birds/barn owl", "Places/Norway"]}
    flat = {"Xmp.dc.subject": ["Animals > Birds > barn owl"]}
    images = {f"{name}.jpg": encoded(photograph(number), "JPEG") for number, name in enumerate("abc")}
    beside = {
        "a.xmp": packet(tmp_path / "p", lightroom),
        "b.jpg.xmp": packet(tmp_path / "p", digikam),
        "c.xmp": packet(tmp_path / "p", flat),
    }
    out = prepared(tmp_path / "set", write_files(tmp_path / "photos", {**images, **beside}))
    rows = rows_of(out)
    assert rows["a"]["tags"] == ["barn owl", "Birds", "Animals"]
    assert rows["b"]["tags"] == ["barn owl", "Birds", "Animals", "Norway", "Places"]
    assert rows["a"]["keyword_paths"] == rows["c"]["keyword_paths"] == ["Animals|Birds|barn owl"]
    vocabulary = {row["label"]: row for row in pq.read_table(out / "vocabulary.parquet").to_pylist()}
    (owl,) = (row for row in vocabulary.values() if "barn owl" in row["tags"])
    (above,) = owl["parents"]
    assert "Birds" in vocabulary[above]["tags"]
    assert "Animals" in vocabulary[vocabulary[above]["parents"][0]]["tags"]
    assert owl["count"] == 3, "an image counts once for a label, whatever the number of its spellings"


def test_a_newer_xmp_file_replaces_the_keywords_inside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inside = encoded(photograph(0), "JPEG", xmp=packet(tmp_path / "p", {"Xmp.dc.subject": ["cat"]}))
    beside = packet(tmp_path / "p", {"Xmp.dc.subject": ["dog"]})
    folder = write_files(tmp_path / "photos", {"new.jpg": inside, "new.xmp": beside, "old.jpg": inside + b" "})
    write_files(folder, {"old.xmp": beside, "empty.jpg": inside + b"  ", "empty.xmp": packet(tmp_path / "p", {})})
    for name in ("new", "empty"):
        os.utime(folder / f"{name}.jpg", (1e9, 1e9))
    os.utime(folder / "old.xmp", (1e9, 1e9))
    assert main(["prepare", str(folder), "--out", str(tmp_path / "set")]) == 0
    tags = {name: row["tags"] for name, row in rows_of(tmp_path / "set").items()}
    assert tags == {"new": ["dog"], "old": ["dog", "cat"], "empty": ["cat"]}
    assert "1 images have an XMP file newer than they are" in capsys.readouterr().out


def test_a_changed_sidecar_is_read_again(tmp_path: Path) -> None:
    folder = write_files(tmp_path / "photos", {"a.png": picture(0), "b.png": picture(1), "a.txt": b"owl, dog"})
    out = prepared(tmp_path / "set", folder)
    assert sum(map(len, names_of(out).values())) == 2
    (folder / "a.txt").write_text("owl, dog, cat")
    (folder / "b.txt").write_text("fox, dog")
    assert sum(map(len, names_of(prepared(out, folder)).values())) == 5


@pytest.mark.parametrize(
    ("which", "names"),
    [
        ("last", ("Bergen",)),
        ("first", ("Places",)),
        ("all", ("Bergen", "Norway", "Places")),
        ("none", ()),
    ],
)
def test_the_folders_that_give_tags_are_chosen(which, names: tuple[str, ...]) -> None:
    assert folder_names("Fotos/Places/Norway/2019 Bergen/100CANON/a.jpg", which) == names


def test_tags_of_folders_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("2019/cats/a.png", "2019/dogs/b.png", "2020/dogs/c.png", "d.png")
    folder = write_files(tmp_path / "photos", {name: picture(number) for number, name in enumerate(names)})
    write_files(folder, {"2019/cats/@eaDir/thumb.png": picture(9), "2020/dogs/b.txt": b"", "d.txt": b"tree, snow"})
    assert main(["prepare", str(folder), "--out", str(tmp_path / "set")]) == 0
    told = capsys.readouterr().out
    assert "3 of 4 images have no tag but the name of a folder: most labels say where" in told
    assert [row["flags"] for row in rows_of(tmp_path / "set").values()].count(["folder_tags"]) == 3
    assert main(["prepare", str(folder), "--out", str(tmp_path / "set"), "--folders", "none"]) == 0
    assert "name of a folder" not in capsys.readouterr().out
    assert sorted(map(len, names_of(tmp_path / "set").values())) == [0, 0, 0, 2]
