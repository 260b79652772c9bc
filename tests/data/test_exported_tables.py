"""Tables in the manner of the programs that export them: their columns, separators, encodings and names of images."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest

from underpaint.data.folders.annotations import read_tags
from underpaint.data.tables.table_file import TableFile
from underpaint.data.tables.tag_tables import TagTable

EXPORTS = {
    "lightroom": 'File Name,Folder,Keywords,Rating\na.jpg,Trip,"barn owl, snow",3\nsub/b.jpg,Trip,"cat, Bär",1\n',
    "german excel": "Filename;Keywords\na.jpg;barn owl, snow\nb.jpg;cat, Bär\n",
    "capture one": "Filename\tKeywords\tRating\na.jpg\tbarn owl, snow\t5\nb.jpg\tcat, Bär\t0\n",
    "exiftool": "SourceFile,HierarchicalSubject\n./a.jpg,barn owl;snow\n./sub/b.jpg,cat;Bär\n",
    "digikam": "Image Path|Tags\n/home/me/Pictures/a.jpg|barn owl, snow\n/home/me/Pictures/sub/b.jpg|cat, Bär\n",
}
KNOWN = ("a.jpg", "sub/b.jpg")
EXPECTED = {"a.jpg": ("barn owl", "snow"), "sub/b.jpg": ("cat", "Bär")}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("program", EXPORTS)
def test_what_programs_export_is_read(
    tmp_path: Path, program: str, encoding: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "tags.csv"
    file.write_bytes(EXPORTS[program].encode(encoding))
    read = read_tags(TableFile(file), tmp_path, KNOWN)
    assert read.tags == EXPECTED
    assert not read.problems
    assert ("it is read as Windows-1252" in capsys.readouterr().err) == (encoding == "cp1252")


@pytest.mark.parametrize("encoding", ["cp1251", "koi8-r", "gbk", "shift_jis", "utf-16-le"])
def test_an_encoding_that_cannot_be_told_is_refused(tmp_path: Path, encoding: str) -> None:
    words = "大象;雪山" if encoding in ("gbk", "shift_jis") else "кошка;снег"
    file = tmp_path / "tags.csv"
    file.write_bytes(f"path,tags\na.jpg,{words}\n".encode(encoding))
    with pytest.raises(ValueError, match=r"UTF-8|has the columns"):
        read_tags(TableFile(file), tmp_path, KNOWN)


def test_byte_order_marks_say_utf_16(tmp_path: Path) -> None:
    file = tmp_path / "tags.csv"
    file.write_bytes(codecs.BOM_UTF16_BE + "path,tags\na.jpg,кошка;снег\n".encode("utf-16-be"))
    assert read_tags(TableFile(file), tmp_path, KNOWN).tags["a.jpg"] == ("кошка", "снег")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_hundred_thousand_columns_are_read(tmp_path: Path, delimiter: str) -> None:
    """Split by another character, their header is a field longer than Python reads."""
    header = delimiter.join(["path", "tags", *(f"c{number}" for number in range(100_000))])
    (tmp_path / "tags.csv").write_text(f"{header}\na.jpg{delimiter}owl\n")
    assert read_tags(TableFile(tmp_path / "tags.csv"), tmp_path, KNOWN).tags == {"a.jpg": ("owl",)}


def test_images_of_flickr_are_found_by_their_number(tmp_path: Path) -> None:
    """Flickr's own export calls a file by the title and the number of the photograph."""
    file = tmp_path / "tags.csv"
    file.write_text("id,tags\n51234567890,lake;snow\n51234567891,owl\n1234,cat\n51999999999,dog\n")
    known = ["lake-at-dawn_51234567890_o.jpg", "51234567891_a1b2c3_k.jpg", "IMG_1234.jpg", "x.jpg"]
    read = read_tags(TableFile(file), tmp_path, known)
    assert read.tags == {known[0]: ("lake", "snow"), known[1]: ("owl",)}
    assert len(read.problems) == 2, "a short number may be a camera's counter, and 51999999999 is nowhere"
    twice = ["lake_51234567890_o.jpg", "lake_51234567890_k.jpg", "51234567891.jpg"]
    tags = read_tags(TableFile(file), tmp_path, twice).tags
    assert tags == {twice[0]: ("lake", "snow"), twice[1]: ("lake", "snow"), twice[2]: ("owl",)}, "two sizes of one"


def test_images_of_boorus_are_found_by_number_or_hash(tmp_path: Path) -> None:
    """E621 and Danbooru name files by their MD5, downloaders by the number of the post; tags lie between blanks."""
    first, second = "d34e4cf0a437a5d65f8e82b7bcd02606", "0cc175b9c0f1b6a831c399e269772661"
    file = tmp_path / "posts.csv"
    file.write_text(f"id,md5,file_ext,tag_string\n81,{first},png,barn_owl snow\n92,{second},jpg,cat tree\n")
    read = read_tags(TableFile(file), tmp_path, [f"{first}.png", "92.jpg"])
    assert read.tags == {f"{first}.png": ("barn_owl", "snow"), "92.jpg": ("cat", "tree")}
    assert TagTable(TableFile(file)).columns["digest"] == ("md5",)


def test_a_comma_within_fields_does_not_decide(tmp_path: Path) -> None:
    """The header decides, not the number of commas in the rows; an unknown header is told with its columns."""
    file = tmp_path / "tags.csv"
    file.write_text("path;tags\na.jpg;one, two, three, four\n")
    assert read_tags(TableFile(file), tmp_path, KNOWN).tags == {"a.jpg": ("one", "two", "three", "four")}
    file.write_text("picture;words\na.jpg;one\n")
    with pytest.raises(ValueError, match="has the columns 'picture;words', and none of a usual name for path"):
        read_tags(TableFile(file), tmp_path, KNOWN)


def test_a_table_that_is_one_json_value_is_named_as_such(tmp_path: Path) -> None:
    """Read as CSV, it had a page of columns."""
    file = tmp_path / "tags.json"
    file.write_text('[{"path": "a.jpg", "tags": "cat"}]')
    with pytest.raises(ValueError, match=r"tags.json is one JSON value, .* one JSON object a line, .* call it .jsonl"):
        read_tags(TableFile(file), tmp_path, KNOWN)
