"""Columns that a person names after a table's file, wherever a table is given."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import underpaint
from support.prepare_examples import picture, write_files
from underpaint import first_look
from underpaint.cli.main import main
from underpaint.data.folders.annotations import read_tags
from underpaint.data.open_source import open_source
from underpaint.data.tables.table_file import TableFile, absolute, table_file
from underpaint.fitted_recipes import NETWORKS, Fitted

POSTS = "Datei;Motiv;Ort, Land;Gruppe\na.png;Hund, Katze;Oslo;train\nb.png;Eule;;test\n"
NAMED = "path=Datei,tags=Motiv,tags=Ort, Land"
KNOWN = ("a.png", "b.png")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = write_files(tmp_path / "photos", {name: picture(number) for number, name in enumerate(KNOWN)})
    (folder / "tags.csv").write_text(POSTS)
    return folder


def read(written: str, folder: Path) -> dict[str, tuple[str, ...]]:
    return dict(read_tags(table_file(written), folder, KNOWN).tags)


@pytest.mark.parametrize(
    ("named", "first"),
    [
        (NAMED, ("Hund", "Katze", "Oslo")),
        ("path=datei,tags=MOTIV", ("Hund", "Katze")),
        ("tags=Ort, Land,path=Datei", ("Oslo",)),
        ("key=Datei,tags=Gruppe,delimiter=semicolon,encoding=utf-8", ("train",)),
    ],
)
def test_named_columns_are_read(photos: Path, named: str, first: tuple[str, ...]) -> None:
    if named.startswith("key"):
        (photos / "tags.csv").write_text(POSTS.replace(".png", ""))
    assert read(f"{photos}/tags.csv:{named}", photos)["a.png"] == first


def test_a_named_encoding_and_a_named_delimiter_are_those_of_the_file(photos: Path) -> None:
    table = photos / "tags.csv"
    table.write_bytes("Файл|Теги\na.png|кошка; снег\n".encode("koi8-r"))
    with pytest.raises(ValueError, match="or name its encoding, as in "):
        read(str(table), photos)
    assert read(f"{table}:path=Файл,tags=Теги,delimiter=bar,encoding=koi8-r", photos) == {"a.png": ("кошка", "снег")}
    with pytest.raises(ValueError, match="not a table in UTF-16"):
        read(f"{table}:path=Файл,tags=Теги,encoding=utf-16", photos)


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("", "has the columns 'Datei;Motiv;Ort', ' Land;Gruppe', and none of a usual name for path.* or tags"),
        ("path=Datei", "--tags '?{}:path=Datei,tags=COLUMN'? [(]train: data.tags="),
        ("path=Date,tags=Motiv", "no column 'Date' among the columns 'Datei', 'Motiv', .*; did you mean 'Datei'[?]"),
        ("path=Datei,path=Motiv", "names path twice"),
        ("path=,tags=Motiv", "no column after path="),
        ("path=Datei,tags=Motiv,delimiter=semikolon", "delimiter=semikolon is unknown; did you mean semicolon"),
        ("path=Datei,tags=Motiv,encoding=utf8mb4", "encoding=utf8mb4 is unknown"),
        ("paht=Datei", "names paht=; did you mean path="),
    ],
)
def test_a_name_that_is_no_column_is_answered_with_those_there_are(photos: Path, named: str, message: str) -> None:
    table = f"{photos}/tags.csv"
    with pytest.raises(ValueError, match=message.format(re.escape(table))):
        read(f"{table}:{named}" if named else table, photos)


def test_the_text_of_a_table_survives_and_a_file_of_that_name_comes_first(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos)
    assert absolute(f"tags.csv:{NAMED}") == f"{photos.resolve()}/tags.csv:{NAMED}"
    assert table_file(absolute(f"tags.csv:{NAMED}")).columns == table_file(f"tags.csv:{NAMED}").columns
    (photos / "a.csv:path=b").write_text("path,tags\n")
    assert table_file("a.csv:path=b") == TableFile(Path("a.csv:path=b"))


def test_every_way_to_give_a_table_takes_named_columns(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder's own table that cannot be read alone is read as it is named, by look, prepare and an open folder."""
    table = f"{photos}/tags.csv:{NAMED}"
    with pytest.raises(ValueError, match="none of a usual name for path"):
        open_source(str(photos))
    source = open_source(str(photos), tags=table, labels=f"{photos}/tags.csv:path=Datei,class=Motiv,split=Gruppe")
    assert dict(zip(source.path, source.label, strict=True)) == {"a.png": "Hund, Katze", "b.png": "Eule"}
    assert source.splits == (("pretrain", "train"), ("test",))
    fitted = Fitted(recipe="mae_laptop", fields=(), network=NETWORKS[0], device="cpu", seconds=1.0)
    monkeypatch.setattr(first_look, "fit", lambda *_, **__: fitted)
    found = first_look.look(photos, tags=table)
    assert found.survey.tags.images == 2
    assert f"--tags '{table}'" in found.commands[0].line
    out = photos.parent / "set"
    for _ in range(2):  # the second start finds the first one's record
        assert main(["prepare", str(photos), "--out", str(out), "--tags", table]) == 0
    assert set(pq.read_table(out / "tags_audit.parquet")["tag"].to_pylist()) >= {"Hund", "Katze", "Oslo", "Eule"}
    with pytest.raises(ValueError, match="none of a usual name for path"):
        underpaint.prepare(photos / "tags.csv", photos.parent / "other")
    made = underpaint.prepare(f"{photos}/tags.csv:{NAMED}", photos.parent / "other")
    assert made["counts"]["images"] == 2
