"""Tables about images: CSV, TSV, Parquet and JSON lines with named columns, and YFCC100M's, which have no header.

They are read block by block, so that a table of a hundred million rows takes no more memory than one of a thousand.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import re
import urllib.parse
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING

from underpaint.data.tables.metadata import COLUMNS, Metadata, distinct, from_fields
from underpaint.data.tables.separators import Separator, SeparatorCount, split_tags, word_of
from underpaint.data.tables.text_form import delimiter_of, encoding_of

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.csv

EXTENSIONS = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson", ".txt")
"""Extensions of tables; those of YFCC100M may also have none."""

Block = dict[str, list[object]]
"""Some rows of a table, column by column."""

MAX_LINE_BYTES = 1_000_000
BLOCK_BYTES = 16 * 1024**2
BATCH_ROWS = 65_536

_COMPRESSED: dict[str, Callable[[Path, str], IO[bytes]]] = {".gz": gzip.open, ".bz2": bz2.open}  # type: ignore[dict-item]
JSON_ADVICE = "write one JSON object a line, in UTF-8"
PARQUET_ADVICE = "is it a Parquet file, and whole?"
_JSON_LINES = (".jsonl", ".ndjson")
_KNOWN = frozenset(name for names in COLUMNS.values() for name in names)
_WORDS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}

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
        ValueError: if the file is not a table, or lacks a column that names the image.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.is_yfcc = _kind(file) not in (".parquet", *_JSON_LINES) and is_yfcc(file)
        self.columns = dict[str, str]() if self.is_yfcc else _columns(file)
        """Names of this table's columns, by key of COLUMNS."""

    @cached_property
    def separator(self) -> Separator | None:
        """The separator of tags in a cell, chosen from the whole column; None where no cell is a text."""
        if self.is_yfcc:
            return ","
        if "tags" not in self.columns:
            return None
        count = SeparatorCount()
        for block in self._blocks([self.columns["tags"]]):
            count.add(block[self.columns["tags"]])
        return count.choose() if count.texts else None

    def rows(self) -> Iterator[list[TableRow]]:
        """The rows, block by block, in their order."""
        if self.is_yfcc:
            yield from _yfcc(self.file)
            return
        meanings = tuple(self.columns)
        for block in self._blocks(list(self.columns.values())):
            for meaning, name in self.columns.items():
                if meaning != "tags" and any(isinstance(value, (list, dict)) for value in block[name]):
                    raise ValueError(
                        f"{self.file} has lists in the column {name!r}; it must hold one text or number per row"
                    )
            values = zip(*block.values(), strict=True)
            yield [_row(dict(zip(meanings, row, strict=True)), self.separator) for row in values]

    def place_of(self, number: int) -> str:
        """The place of a row, given by its number from 0, for people: its line in a CSV file, else ``row 4``."""
        kind = _kind(self.file)
        if self.is_yfcc or kind == ".parquet" or kind in _JSON_LINES:
            return f"row {number + 1}"
        line, _ = next(islice(_numbered_csv_rows(self.file), number + 1, None))  # the first is the header
        return f"line {line}"

    def _blocks(self, names: list[str]) -> Iterator[Block]:
        kind = _kind(self.file)
        read = _parquet_blocks if kind == ".parquet" else _json_blocks if kind in _JSON_LINES else _csv_blocks
        yield from read(self.file, names)


def is_table(file: Path) -> bool:
    return _kind(file) in EXTENSIONS or is_yfcc(file)


def is_yfcc(file: Path) -> bool:
    """Whether the first line has the number of fields of YFCC100M and ends with its mark of photo or video."""
    fields = _first_line(file).split(b"\t")
    return len(fields) in _YFCC_FIRST and fields[-1] in (b"0", b"1")


def _kind(file: Path) -> str:
    """The extension in lower case, without that of a compression."""
    name = file.with_suffix("") if file.suffix.lower() in _COMPRESSED else file
    return name.suffix.lower()


def _first_line(file: Path) -> bytes:
    """The first line without its end, which may be a carriage return alone."""
    try:
        with _COMPRESSED.get(file.suffix.lower(), open)(file, "rb") as opened:
            start = opened.read(MAX_LINE_BYTES)
    except (EOFError, zlib.error, OSError) as error:
        raise ValueError(f"{file} is damaged, or cannot be read: {error}") from error
    return re.split(rb"[\r\n]", start, maxsplit=1)[0]


def _row(fields: dict[str, object], separator: Separator | None) -> TableRow:
    names = ("path", "key", "digest", "class", "split")
    path, key, digest, label, split = (word_of(fields.pop(name, None)) for name in names)
    tags = fields.pop("tags", None)
    said = from_fields(fields)
    return TableRow(
        paths=(path,) if path else (),
        keys=tuple(name for name in (key, digest) if name),
        said=said if tags is None else Metadata(tags=distinct(split_tags(tags, separator))).merged_with(said),
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


def _columns(file: Path) -> dict[str, str]:
    if _kind(file) == ".json":
        raise ValueError(f"{file} is one JSON value, and a table has a row a line; {JSON_ADVICE}, and call it .jsonl")
    there = _header(file)
    lower = {_plain(name): name for name in reversed(there) if isinstance(name, str)}
    chosen = {what: lower[name] for what, names in COLUMNS.items() for name in reversed(names) if name in lower}
    twice = [name for name in chosen.values() if there.count(name) > 1]
    if twice:
        raise ValueError(f"{file} has the column {twice[0]!r} twice; remove or rename one of them")
    if not {"path", "key", "digest"} & chosen.keys():
        raise ValueError(
            f"{file} has the columns {', '.join(map(repr, there[:20])) or 'none'}; one must name the image: "
            f"{', '.join(COLUMNS['path'])}, or {', '.join(COLUMNS['key'])}"
        )
    if "path" in chosen:
        for name in ("key", "digest"):
            chosen.pop(name, "")  # numbers of rows are called id, too
    return chosen


def _plain(name: str) -> str:
    """The name of a column in lower case, with ``_`` for blanks and hyphens: ``File Name`` is ``file_name``."""
    return re.sub(r"[\s-]+", "_", name.strip().lower())


def _header(file: Path) -> list[str]:
    if _kind(file) == ".parquet":
        import pyarrow.parquet

        with _arrow_errors(file, PARQUET_ADVICE):
            return list(pyarrow.parquet.read_schema(file).names)
    if _kind(file) in _JSON_LINES:
        with _arrow_errors(file, JSON_ADVICE):
            return next((list(batch.schema.names) for batch in _json_batches(file)), [])
    return next(_csv_rows(file), [])


def _delimiter(file: Path) -> str:
    if _kind(file) == ".tsv":
        return "\t"
    with _opened_text(file) as text:
        line = text.readline(MAX_LINE_BYTES)
    return delimiter_of(line, lambda name: _plain(name) in _KNOWN)


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


def _csv_blocks(file: Path, names: list[str]) -> Iterator[Block]:
    """Blocks of a CSV file, all values as texts; a row may be shorter than the header, never longer."""
    rows = _csv_rows(file)
    header = next(rows, [])
    places = [header.index(name) for name in names]
    while chunk := list(islice(rows, BATCH_ROWS)):
        yield {
            name: [row[place] if place < len(row) else "" for row in chunk]
            for name, place in zip(names, places, strict=True)
        }


def _csv_rows(file: Path) -> Iterator[list[str]]:
    """The header and the rows that are not empty; raises ValueError for a quote that is never closed."""
    return (row for _, row in _numbered_csv_rows(file))


def _numbered_csv_rows(file: Path) -> Iterator[tuple[int, list[str]]]:
    """The same with the number of the line that each begins in; lines may end as on Unix, Windows or an old Mac."""
    with _opened_text(file) as text:
        delimiter = _delimiter(file)
        reader = csv.reader(text, delimiter=delimiter, strict=True)
        fields, lines = 0, 0
        try:
            for row in reader:
                if len(row) > (fields := fields or len(row)):
                    raise ValueError(
                        f"{file} line {reader.line_num} has more fields than the header: put values with a "
                        f"{_WORDS[delimiter]} in double quotes, and another character between tags"
                    )
                if row:
                    yield lines + 1, row
                lines = reader.line_num
        except csv.Error as error:
            # its word for a quote that is never closed is the end of the file
            text_of_error = str(error)
            reason = "a quote is opened and never closed" if "unexpected end" in text_of_error else text_of_error
            raise ValueError(f"{file}: the row that begins in line {lines + 1} is not CSV: {reason}") from error


def _encoding(file: Path) -> str:
    status = file.stat()
    return _encoding_of_version(file, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=64)
def _encoding_of_version(file: Path, changed: int, size: int) -> str:
    return encoding_of(lambda: _bytes(file), file)


def _bytes(file: Path) -> Iterator[bytes]:
    with _COMPRESSED.get(file.suffix.lower(), open)(file, "rb") as opened:
        while block := opened.read(BLOCK_BYTES):
            yield block


@contextmanager
def _opened_text(file: Path) -> Iterator[io.TextIOWrapper]:
    """The text of a table, with its line ends unchanged."""
    try:
        with (
            _COMPRESSED.get(file.suffix.lower(), open)(file, "rb") as opened,
            io.TextIOWrapper(opened, encoding=_encoding(file), newline="") as text,
        ):
            yield text
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not a table in UTF-8: {error}; save it as UTF-8") from error
    except (EOFError, zlib.error, OSError) as error:
        raise ValueError(f"{file} is damaged, or cannot be read: {error}") from error


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

    names = _YFCC_FIRST[_first_line(file).count(b"\t") + 1]
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
