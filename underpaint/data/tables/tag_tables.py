"""Tables about images: CSV, TSV, Parquet and JSON lines with named columns, and YFCC100M's, which have no header.

They are read block by block, so that a table of a hundred million rows takes no more memory than one of a thousand.
"""

from __future__ import annotations

import shlex
import urllib.parse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from underpaint.data.tables.csv_rows import BLOCK_BYTES, csv_rows, first_line, kind_of, numbered_csv_rows, plain
from underpaint.data.tables.metadata import COLUMNS, Metadata, distinct, from_fields
from underpaint.data.tables.separators import Separator, SeparatorCount, split_tags, word_of
from underpaint.data.tables.table_file import TableFile
from underpaint.suggest import nearest

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.csv

EXTENSIONS = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson", ".txt")
"""Extensions of tables; those of YFCC100M may also have none."""

Block = dict[str, list[object]]
"""Some rows of a table, column by column."""

BATCH_ROWS = 65_536
MOST_NAMED = 20
"""Most columns of a table that an error names."""
MOST_USUAL = 4
"""Most usual names of a column that an error gives as examples."""

JSON_ADVICE = "write one JSON object a line, in UTF-8"
PARQUET_ADVICE = "is it a Parquet file, and whole?"
_JSON_LINES = (".jsonl", ".ndjson")
_NAMES_OF_IMAGES = ("path", "key", "digest")
_OPTIONS = {
    "tags": "--tags {0} (train: data.tags={0})",
    "class": "--labels {0} (train: data.labels={0})",
    "caption": "data.captions={0}",
}
"""Ways to give a table, by its content."""

_YFCC = ("id", "user", "nickname", "taken", "uploaded", "device", "title", "description", "tags", "machine_tags")
_YFCC += ("longitude", "latitude", "accuracy", "page", "download", "licence", "licence_url", "server", "farm")
_YFCC += ("secret", "secret_original", "extension", "marker")
_YFCC_FIRST = {23: _YFCC, 25: ("line", "id", "hash", *_YFCC[1:])}
"""Columns of YFCC100M's first release by Yahoo and of the later one on Amazon, by their number (its read-me)."""

_YFCC_READ = ("id", "hash", "title", "description", "tags", "licence", "extension", "marker")


@dataclass(frozen=True, kw_only=True, slots=True)
class TableRow:
    """A row of a table, which describes one image."""

    paths: tuple[str, ...]
    """Possible paths of the image, relative to the table's folder or to the source; the first that exists counts."""
    keys: tuple[str, ...]
    """Possible keys of the image in a tar; in a folder, its path or name without extension."""
    said: Metadata
    label: str = ""
    """Class of the image in the transfer task."""
    split: str = ""
    refusal: str = ""
    """Reason why the row gives no image; "" where it does."""


class TagTable:
    """A table about images, with named columns or in the form of YFCC100M.

    Raises:
        ValueError: if the file is not a table, lacks a column that the user named, one that names the image, or one
            with any of the meanings ``needs``.
    """

    def __init__(self, table: TableFile, *, needs: Sequence[str] = ()) -> None:
        self.table = table
        self.file = table.file
        self.is_yfcc = kind_of(table.file) not in (".parquet", *_JSON_LINES) and is_yfcc(table.file)
        if self.is_yfcc and table.columns:
            raise ValueError(f"{table.file} is a table of YFCC100M, whose columns have no names; leave them out")
        self.columns = dict[str, tuple[str, ...]]() if self.is_yfcc else _columns(table, needs)
        """Names of this table's columns, by key of COLUMNS; tags may have several."""

    @cached_property
    def separator(self) -> Separator | None:
        """The separator of tags in a cell, chosen from all columns of tags; None where no cell is a text."""
        if self.is_yfcc:
            return ","
        names = self.columns.get("tags", ())
        count = SeparatorCount()
        for block in self._blocks(names) if names else ():
            for name in names:
                count.add(block[name])
        return count.choose() if count.texts else None

    def rows(self) -> Iterator[list[TableRow]]:
        """The rows, block by block, in their order."""
        if self.is_yfcc:
            yield from _yfcc(self.file)
            return
        columns = dict(self.columns)
        tags = columns.pop("tags", ())
        single = {meaning: name for meaning, (name,) in columns.items()}
        for block in self._blocks([*single.values(), *tags]):
            for name in single.values():
                if any(isinstance(value, (list, dict)) for value in block[name]):
                    raise ValueError(
                        f"{self.file} has lists in the column {name!r}; it must hold one text or number per row"
                    )
            values = zip(*(block[name] for name in (*single.values(), *tags)), strict=True)
            yield [_row(dict(zip(single, row, strict=False)), row[len(single) :], self.separator) for row in values]

    def place_of(self, number: int) -> str:
        """The place of a row, given by its number from 0, for people: its line in a CSV file, else ``row 4``."""
        kind = kind_of(self.file)
        if self.is_yfcc or kind == ".parquet" or kind in _JSON_LINES:
            return f"row {number + 1}"
        line, _ = next(islice(numbered_csv_rows(self.table), number + 1, None))  # the first is the header
        return f"line {line}"

    def _blocks(self, names: Sequence[str]) -> Iterator[Block]:
        kind, distinct_names = kind_of(self.file), list(dict.fromkeys(names))
        if kind == ".parquet":
            return _parquet_blocks(self.file, distinct_names)
        if kind in _JSON_LINES:
            return _json_blocks(self.file, distinct_names)
        return _csv_blocks(self.table, distinct_names)


def is_table(file: Path) -> bool:
    return kind_of(file) in EXTENSIONS or is_yfcc(file)


def is_yfcc(file: Path) -> bool:
    """Whether the first line has the number of fields of YFCC100M and ends with its mark of photo or video."""
    fields = first_line(file).split(b"\t")
    return len(fields) in _YFCC_FIRST and fields[-1] in (b"0", b"1")


def _row(fields: dict[str, object], cells: Sequence[object], separator: Separator | None) -> TableRow:
    """A row with one value by meaning, and the ``cells`` of its columns of tags."""
    path, key, digest, label, split = (
        word_of(fields.pop(name, None)) for name in (*_NAMES_OF_IMAGES, "class", "split")
    )
    said = from_fields(fields)
    filled = [cell for cell in cells if cell is not None]
    if filled:
        tags = distinct(tag for cell in filled for tag in split_tags(cell, separator))
        said = Metadata(tags=tags).merged_with(said)
    return TableRow(
        paths=(path,) if path else (),
        keys=tuple(name for name in (key, digest) if name),
        said=said,
        label=label,
        split=split,
        refusal="" if path or key or digest else "a row without a path",
    )


def _block(file: Path, batch: pyarrow.RecordBatch, names: list[str]) -> Block:
    for name in names:
        _require_readable(file, name, batch.column(name).type)
    return {name: batch.column(name).to_pylist() for name in names}


def _require_readable(file: Path, name: str, kind: pyarrow.DataType) -> None:
    """Raise ValueError for a column that holds neither texts or numbers nor lists of them."""
    from pyarrow import types

    inner = kind.value_type if types.is_dictionary(kind) else kind
    if types.is_list(inner) or types.is_large_list(inner) or types.is_fixed_size_list(inner):
        inner = inner.value_type
        inner = inner.value_type if types.is_dictionary(inner) else inner
    if types.is_nested(inner) or types.is_binary(inner) or types.is_large_binary(inner):
        raise ValueError(f"{file} has the column {name!r} of type {kind}; it must hold text, or lists of text")


def _columns(table: TableFile, needs: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The columns that the user named, and of the others those with usual names."""
    file = table.file
    if kind_of(file) == ".json":
        raise ValueError(f"{file} is one JSON value, and a table has a row a line; {JSON_ADVICE}, and call it .jsonl")
    there = _header(table)
    chosen = {meaning: tuple(_found(name, there, file) for name in names) for meaning, names in table.columns.items()}
    named = {name for names in chosen.values() for name in names}
    lower = {plain(name): name for name in reversed(there) if isinstance(name, str) and name not in named}
    of_image = [meaning for meaning in _NAMES_OF_IMAGES if meaning in chosen]
    for meaning, names in COLUMNS.items():
        usual = next((lower[name] for name in names if name in lower), None)
        if usual is not None and meaning not in chosen and not (of_image and meaning in _NAMES_OF_IMAGES):
            chosen[meaning] = (usual,)
    twice = [name for names in chosen.values() for name in names if there.count(name) > 1]
    if twice:
        raise ValueError(f"{file} has the column {twice[0]!r} twice; remove or rename one of them")
    lacking = [] if chosen.keys() & set(_NAMES_OF_IMAGES) else ["path"]
    lacking += [] if not needs or chosen.keys() & set(needs) else [needs[0]]
    if lacking:
        _refuse(table, there, lacking, needs)
    if "path" in chosen and "path" not in table.columns:
        for meaning in ("key", "digest"):
            chosen.pop(meaning, ())  # numbers of rows are called id, too
    return chosen


def _found(name: str, there: Sequence[str], file: Path) -> str:
    """The column that the user called so, perhaps in another case."""
    if name in there:
        return name
    alike = [each for each in there if plain(each) == plain(name)]
    if not alike:
        close = nearest(name, there[:MOST_NAMED])
        meant = f"; did you mean {close!r}?" if close else ""
        raise ValueError(f"{file} has no column {name!r} among {_named(there)}{meant}")
    return alike[0]


def _named(there: Sequence[str]) -> str:
    """Words with the names of the columns."""
    further = f" and {len(there) - MOST_NAMED:,} more" if len(there) > MOST_NAMED else ""
    return f"the columns {', '.join(map(repr, there[:MOST_NAMED])) or 'none'}{further}"


def _refuse(table: TableFile, there: Sequence[str], lacking: Sequence[str], needs: Sequence[str]) -> NoReturn:
    """Raise ValueError for a table without columns of the meanings ``lacking``, with the text that names them."""
    usual = " or ".join(f"{meaning}, as {', '.join(COLUMNS[meaning][:MOST_USUAL])}, ..." for meaning in lacking)
    wanted = {**table.columns, **dict.fromkeys(lacking, ("COLUMN",))}
    example = shlex.quote(replace(table, columns=wanted).written)
    option = _OPTIONS.get(needs[0], "{}") if needs else "{}"
    raise ValueError(
        f"{table.file} has {_named(there)}, and none of a usual name for {usual}; name it after the file: "
        f"{option.format(example)}"
    )


def _header(table: TableFile) -> list[str]:
    file = table.file
    if kind_of(file) == ".parquet":
        import pyarrow.parquet

        with _arrow_errors(file, PARQUET_ADVICE):
            return list(pyarrow.parquet.read_schema(file).names)
    if kind_of(file) in _JSON_LINES:
        with _arrow_errors(file, JSON_ADVICE):
            return next((list(batch.schema.names) for batch in _json_batches(file)), [])
    return next(csv_rows(table), [])


@contextmanager
def _arrow_errors(file: Path, advice: str) -> Iterator[None]:
    """Turn Arrow's exceptions into ValueError with the file's name and advice."""
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, UnicodeDecodeError, OSError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{file} cannot be read as a table: {first}; {advice}") from error


def _parquet_blocks(file: Path, names: list[str]) -> Iterator[Block]:
    import pyarrow.parquet

    with _arrow_errors(file, PARQUET_ADVICE), pyarrow.parquet.ParquetFile(file) as opened:
        for batch in opened.iter_batches(batch_size=BATCH_ROWS, columns=names):
            yield _block(file, batch, names)


def _json_blocks(file: Path, names: list[str]) -> Iterator[Block]:
    for batch in _json_batches(file):
        with _arrow_errors(file, JSON_ADVICE):
            block = _block(file, batch, names)
        yield block


def _json_batches(file: Path) -> Iterator[pyarrow.RecordBatch]:
    """Batches of rows from a file with one JSON object per line."""
    import pyarrow.json

    with _arrow_errors(file, JSON_ADVICE):
        read = pyarrow.json.ReadOptions(block_size=BLOCK_BYTES)
        with pyarrow.json.open_json(file, read_options=read) as opened:
            yield from opened


def _csv_blocks(table: TableFile, names: list[str]) -> Iterator[Block]:
    """Blocks of a CSV file, all values as texts; a row may be shorter than the header, never longer."""
    rows = csv_rows(table)
    header = next(rows, [])
    places = [header.index(name) for name in names]
    while chunk := list(islice(rows, BATCH_ROWS)):
        yield {
            name: [row[place] if place < len(row) else "" for row in chunk]
            for name, place in zip(names, places, strict=True)
        }


def _open_csv(
    file: Path,
    read: pyarrow.csv.ReadOptions,
    parse: pyarrow.csv.ParseOptions,
    convert: pyarrow.csv.ConvertOptions,
) -> Iterator[pyarrow.RecordBatch]:
    import pyarrow.csv

    with (
        _arrow_errors(file, "save it as UTF-8"),
        pyarrow.csv.open_csv(file, read_options=read, parse_options=parse, convert_options=convert) as opened,
    ):
        yield from opened


def _yfcc(file: Path) -> Iterator[list[TableRow]]:
    import pyarrow
    import pyarrow.csv

    names = _YFCC_FIRST[first_line(file).count(b"\t") + 1]
    wanted = [name for name in _YFCC_READ if name in names]
    convert = pyarrow.csv.ConvertOptions(
        include_columns=wanted, column_types={name: pyarrow.string() for name in wanted}
    )
    parse = pyarrow.csv.ParseOptions(delimiter="\t", quote_char=False, double_quote=False)
    read = pyarrow.csv.ReadOptions(block_size=BLOCK_BYTES, column_names=list(names))
    for batch in _open_csv(file, read, parse, convert):
        with _arrow_errors(file, "save it as UTF-8"):
            rows = batch.to_pylist()
        yield [_yfcc_row(row) for row in rows]


def _yfcc_row(row: dict[str, str]) -> TableRow:
    """A row of YFCC100M with texts and tags decoded; its paths are those on Amazon and those by id."""
    title, description = (urllib.parse.unquote_plus(row[name]) for name in ("title", "description"))
    named, digest = row["id"], row.get("hash", "")
    file = f"{named}.{row['extension'] or 'jpg'}"
    hashed = f"{digest[:3]}/{digest[3:6]}/{digest}.jpg"
    return TableRow(
        paths=(*((f"data/images/{hashed}", f"images/{hashed}", hashed) if digest else ()), f"images/{file}", file),
        keys=tuple(name for name in (named, digest) if name),
        said=Metadata(
            # a comma of a tag itself is escaped, so they are split before they are decoded
            tags=distinct(urllib.parse.unquote_plus(tag) for tag in row["tags"].split(",")),
            caption=". ".join(text.strip() for text in (title, description) if text.strip()),
            licence=row["licence"],
        ),
        refusal="a video" if row["marker"] == "1" else "",
    )
