"""The one reader of tables: separators, names, types, and which image a row is about."""

from __future__ import annotations

import gzip
import json
import unicodedata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from underpaint.data.tables.matching import Match, match_paths, match_rows
from underpaint.data.tables.metadata import distinct, from_fields, from_json, from_sidecar, is_caption
from underpaint.data.tables.separators import SeparatorCount, split_tags
from underpaint.data.tables.table_file import TableFile
from underpaint.data.tables.tag_tables import TableRow, TagTable, is_table


@pytest.mark.parametrize(
    ("value", "tags"),
    [
        ("dog tree", ("dog", "tree")),
        ("golden retriever, snow", ("golden retriever", "snow")),
        ("golden retriever; snow, deep", ("golden retriever", "snow, deep")),
        ("golden retriever\nsnow; deep", ("golden retriever", "snow; deep")),
        ("1girl ;d solo", ("1girl", ";d", "solo")),
        ("1girl; ;_; ;solo girl", ("1girl", ";_;", "solo girl")),
        ("black &amp; white;c&#43;&#43;", ("black & white", "c++")),
        ("brown%20bear;a%3Bb;50%", ("brown bear", "a;b", "50%")),
        ("1,000 islands", ("1,000", "islands")),
        ("['golden retriever', \"o'clock\", None]", ("golden retriever", "o'clock")),
        ('["golden retriever", 7, 8.0]', ("golden retriever", "7", "8")),
        ("[not a list]", ("[not", "a", "list]")),
        ("[['nested']]", ("[['nested']]",)),
        ("#dog#cat", ("dog", "cat")),
        ("#dog #cat", ("dog", "cat")),
        ("c# f#", ("c#", "f#")),
        (["a", None, 3.0, float("nan")], ("a", "3")),
        (float("nan"), ()),
        (None, ()),
        (7.0, ("7",)),
        ("brown bear|snow | owl", ("brown bear", "snow", "owl")),
        ("dog :| cat", ("dog", ":|", "cat")),
        ("犬、茶色い熊，梟", ("犬", "茶色い熊", "梟")),
        ("狗；棕熊,雪", ("狗", "棕熊,雪")),
        ("1,000 Dinge، Ziege", ("1,000 Dinge", "Ziege")),
        ("", ()),
    ],
)
def test_one_rule_parts_every_cell(value: object, tags: tuple[str, ...]) -> None:
    assert distinct(split_tags(value)) == tags


def test_nested_brackets_do_not_stop_the_reader() -> None:
    assert len(split_tags("[" * 100_000 + "]" * 100_000)) == 1


@pytest.mark.parametrize(
    ("column", "separator"),
    [
        (["1girl ;d solo", "dog tree"], "blanks"),
        (["dog; cat", "golden retriever"], ";"),
        (["dog tree"] * 50 + ["salt, pepper"], "blanks"),  # a slip must not glue the tags of all others
        (["dog"] * 500 + ["golden retriever, snow"], ","),
        (["#a#b, #c", "#d, #e"], ","),
        (["['a', 'b']", "x y"], "blanks"),
        (["dog|cat", "owl"], "|"),
        (["dog ｜ cat, red", "owl"], "|"),
        (["1girl |_| solo", *["dog tree"] * 50, "o|o :| owl"], "blanks"),  # emoticons of anime boards
        (["犬、猫", "梟"], ","),
        (["狗；猫，红", "梟"], ";"),
        (["كلب، قطة"], ","),
    ],
)
def test_the_whole_column_decides(column: list[str], separator: str) -> None:
    count = SeparatorCount()
    count.add(column[:1])
    count.add(column[1:])
    assert count.choose() == separator


def write(folder: Path, name: str, rows: list[dict[str, object]]) -> Path:
    """The same rows in one of the forms."""
    file = folder / name
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), file)
    elif name.endswith(".jsonl"):
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        delimiter = "\t" if ".tsv" in name else ","
        lines = [delimiter.join(rows[0])] + [delimiter.join(f'"{value}"' for value in row.values()) for row in rows]
        end = "\r" if name.startswith("mac") else "\r\n" if name.startswith("win") else "\n"
        text = end.join([*lines, ""]).encode()
        file.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    return file


FORMS = ("a.csv", "mac.csv", "win.csv", "a.tsv", "a.csv.gz", "a.parquet", "a.jsonl")


@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    rows: list[dict[str, object]] = [
        {"file_name": "a.jpg", "keywords": "golden retriever; snow", "title": "A walk; at last"},
        {"file_name": "ü/b.jpg", "keywords": "été", "title": ""},
    ]
    file = write(tmp_path, name, rows)
    table = TagTable(TableFile(file))
    read = [row for block in table.rows() for row in block]
    assert is_table(file)
    assert table.separator == ";"
    assert [row.paths for row in read] == [("a.jpg",), ("ü/b.jpg",)]
    assert [row.said.tags for row in read] == [("golden retriever", "snow"), ("été",)]
    assert [row.said.caption for row in read] == ["A walk; at last", ""]


def test_separators_of_other_columns_do_not_count(tmp_path: Path) -> None:
    file = write(tmp_path, "a.csv", [{"path": "a.jpg", "tags": "dog tree", "caption": "one; two\nthree"}])
    (row,) = next(TagTable(TableFile(file)).rows())
    assert row.said.tags == ("dog", "tree")


@pytest.mark.parametrize(
    ("columns", "tags"),
    [
        ({"path": ["a.jpg"], "tags": pa.array(["brown bear;snow"]).dictionary_encode()}, ("brown bear", "snow")),
        ({"path": ["a.jpg"], "tags": pa.array([["brown bear", None]])}, ("brown bear",)),
        ({"path": ["a.jpg"], "tags": pa.array([float("nan")])}, ()),
        ({"path": ["a.jpg"], "tags": pa.nulls(1)}, None),
        ({"path": ["a.jpg"], "tags": pa.array([3])}, ("3",)),
    ],
)
def test_columns_of_any_type_that_can_be_tags(tmp_path: Path, columns: dict, tags: tuple[str, ...] | None) -> None:
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    (row,) = next(TagTable(TableFile(tmp_path / "t.parquet")).rows())
    assert row.said.tags == tags


def test_ids_that_became_floats_are_whole_numbers_again(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": pa.array([7.0, None, 8.5]), "tags": ["a", "b", "c"]}), tmp_path / "t.parquet")
    assert [row.keys for row in next(TagTable(TableFile(tmp_path / "t.parquet")).rows())] == [("7",), (), ("8.5",)]


def test_a_path_counts_before_a_number_called_id(tmp_path: Path) -> None:
    file = write(tmp_path, "a.csv", [{"id": "1", "path": "x.jpg", "tags": "dog"}])
    (row,) = next(TagTable(TableFile(file)).rows())
    assert (row.paths, row.keys) == (("x.jpg",), ())


@pytest.mark.parametrize(
    ("written", "known", "expected"),
    [
        ("a/b.jpg", ["a/b.jpg", "b.jpg"], Match(path="a/b.jpg")),
        ("./a//b.jpg", ["a/b.jpg"], Match(path="a/b.jpg")),
        ("a\\b.jpg", ["a/b.jpg"], Match(path="a/b.jpg")),
        ("my%20photo.jpg", ["my photo.jpg"], Match(path="my photo.jpg")),
        ("my+photo%21.jpg", ["my photo!.jpg"], Match(path="my photo!.jpg")),
        ("100%25.jpg", ["100%25.jpg", "100%.jpg"], Match(path="100%25.jpg")),
        (unicodedata.normalize("NFD", "é.jpg"), ["é.jpg"], Match(path="é.jpg")),
        ("é.jpg", [unicodedata.normalize("NFD", "é.jpg")], Match(path=unicodedata.normalize("NFD", "é.jpg"))),
        ("/home/me/photos/a/b.jpg", ["a/b.jpg", "c/b.jpg"], Match(path="a/b.jpg", by_end=True)),
        ("C:\\photos\\a\\b.jpg", ["a/b.jpg"], Match(path="a/b.jpg", by_end=True)),
        ("file:///photos/a/b%20c.jpg", ["a/b c.jpg"], Match(path="a/b c.jpg", by_end=True)),
        ("b.jpg", ["photos/b.jpg"], Match(path="photos/b.jpg", by_end=True)),
        ("b.jpg", ["x/b.jpg", "y/b.jpg"], Match(path="", reason="may be x/b.jpg or y/b.jpg")),
        ("z/b.jpg", ["x/b.jpg"], Match(path="", reason="missing file")),
        ("../a/b.jpg", ["a/b.jpg"], Match(path="", reason="missing file")),
        ("", ["a.jpg"], Match(path="", reason="missing file")),
    ],
)
def test_paths_are_matched_as_people_write_them(written: str, known: list[str], expected: Match) -> None:
    assert match_paths([written], known) == [expected]


def test_two_rows_for_one_end_fit_neither() -> None:
    """`cat/1.jpg` and `dog/1.jpg` of another folder are not both the 1.jpg here, and an exact row comes first."""
    first, second = match_paths(["cat/1.jpg", "dog/1.jpg"], ["1.jpg"])
    assert (first.path, second.path) == ("", "")
    assert "other rows end as 1.jpg" in first.reason
    exact, end = match_paths(["1.jpg", "dog/1.jpg"], ["1.jpg"])
    assert (exact.path, end.path) == ("1.jpg", "")
    again = match_paths(["/x/1.jpg", "/x/1.jpg"], ["1.jpg"])
    assert [match.path for match in again] == ["1.jpg", "1.jpg"], "several rows of one image are merged"


def row_of(*paths: str, keys: tuple[str, ...] = ()) -> TableRow:
    return TableRow(paths=paths, keys=keys, said=from_fields({}))


def test_keys_are_paths_without_extension() -> None:
    known = ["a/7.jpg", "8.png", "8.jpg"]
    rows = [row_of(keys=("a/7",)), row_of(keys=("8",)), row_of("x.jpg", "8.png", keys=("8",))]
    assert [match.path for match in match_rows(rows, known)] == ["a/7.jpg", "", "8.png"]
    assert match_rows([row_of(keys=("7",))], known)[0] == Match(path="a/7.jpg", by_end=True)


def test_a_long_number_is_that_of_all_copies_of_a_photograph() -> None:
    known = ["web/lake_48000071271_o.jpg", "web/lake_48000071271_b.jpg", "Backup/lake_48000071271_o.jpg"]
    dates = ["2019/p_20190612_1.jpg", "2019/p_20190612_2.jpg"]
    photo, day = match_rows([row_of(keys=("48000071271",)), row_of(keys=("20190612",))], [*known, *dates])
    assert {photo.path, *photo.copies} == set(known)
    assert (day.path, day.copies) == ("", ())
    assert day.reason == "may be 2019/p_20190612_1 or 2019/p_20190612_2"


@pytest.mark.parametrize(
    ("text", "caption"),
    [
        ("A dog, running on the beach.", True),
        ("a man riding a wave on a surfboard, blue sky", True),
        ("the dog of my sister, on the beach", True),
        ("A dog runs.\nThe dog jumps.", True),
        ("two dogs", True),
        ("一只狗在跑。", True),
        ("狗、猫", False),
        ("My #dog in the #snow", True),
        ("golden retriever, snow, beach", False),
        ("golden retriever\nsnow", False),
        ("dog", False),
        ("#dog #golden", False),
        ("1girl; solo; long hair", False),
        ("['a dog', 'b']", False),
    ],
)
def test_captions_are_no_tags(text: str, caption: bool) -> None:
    assert is_caption(text) == caption
    said = from_sidecar(text.encode())
    assert (said.tags is None, bool(said.caption)) == (caption, caption)


def test_json_follows_the_same_rule_and_drops_half_letters() -> None:
    assert from_json(b'{"tags": "golden retriever, snow"}').tags == ("golden retriever", "snow")
    assert from_json(b'{"tags": ["a", "\\ud800", 3, {"b": 1}]}').tags == ("a", "3")


def test_no_tag_is_lost_for_its_number_or_its_length() -> None:
    assert len(distinct(map(str, range(3_001)))) == 3_001
    (long,) = distinct(["x" * 500])
    assert len(long) == 201
