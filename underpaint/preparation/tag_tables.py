"""Tables about images: CSV, TSV and Parquet with named columns, and the tables of YFCC100M, which have no header.

They are read block by block, so that a table of a hundred million rows takes no more memory than one of a thousand.
"""

from __future__ import annotations

import bz2
import gzip
import urllib.parse
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from underpaint.data.folders.annotations import split_tags
from underpaint.preparation.metadata import COLUMNS, Metadata, distinct, from_fields

EXTENSIONS = (".csv", ".tsv", ".parquet", ".txt")
"""Of tables; those of YFCC100M may be called ``.txt``, or have no extension at all."""

_COMPRESSED: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open}
MAX_LINE_BYTES = 1_000_000
BLOCK_BYTES = 16 * 1024**2
BATCH_ROWS = 65_536

_YFCC = ("id", "user", "nickname", "taken", "uploaded", "device", "title", "description", "tags", "machine_tags")
_YFCC += ("longitude", "latitude", "accuracy", "page", "download", "licence", "licence_url", "server", "farm")
_YFCC += ("secret", "secret_original", "extension", "marker")
_YFCC_FIRST = {23: _YFCC, 25: ("line", "id", "hash", *_YFCC[1:])}
"""The columns of Yahoo's first release and of the later one on Amazon's, by their number (YFCC100M's read-me)."""

_YFCC_READ = ("id", "hash", "title", "description", "tags", "licence", "extension", "marker")


@dataclass(frozen=True, kw_only=True, slots=True)
class TableRow:
    """What one row says about one image."""

    paths: tuple[str, ...]
    """Where the image may lie, relative to the table's folder or to the source: the first that is there counts."""
    keys: tuple[str, ...]
    """What the image may be called in a tar, or without its extension in a folder."""
    said: Metadata
    refusal: str = ""
    """Why it is no image; mostly nothing."""


def is_table(file: Path) -> bool:
    return _kind(file) in EXTENSIONS or is_yfcc(file)


def is_yfcc(file: Path) -> bool:
    """Has the first line as many fields as the tables of YFCC100M, and ends it with the mark of photo or video?"""
    fields = _first_line(file).rstrip(b"\r\n").split(b"\t")
    return len(fields) in _YFCC_FIRST and fields[-1] in (b"0", b"1")


def _kind(file: Path) -> str:
    """The extension, without that of a compression."""
    name = file.with_suffix("") if file.suffix.lower() in _COMPRESSED else file
    return name.suffix.lower()


def _first_line(file: Path) -> bytes:
    try:
        with _COMPRESSED.get(file.suffix.lower(), open)(file, "rb") as opened:
            return opened.readline(MAX_LINE_BYTES)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{file} is damaged: {error}") from error


def read_rows(file: Path) -> Iterator[list[TableRow]]:
    """The rows of a table, block by block.

    Raises:
        ValueError: if it is no such table, or lacks a column that names the image.
    """
    if _kind(file) == ".parquet":
        yield from _named(file, _parquet_batches)
    elif is_yfcc(file):
        yield from _yfcc(file)
    else:
        yield from _named(file, _csv_batches)


def _named(file: Path, batches: Any) -> Iterator[list[TableRow]]:
    """Rows of a table with a header; one column names the image, and one separator of tags holds for all rows."""
    chosen = _columns(file)
    semicolons = (
        any(_has_semicolon(batch, chosen["tags"]) for batch in batches(file, [chosen["tags"]]))
        if ("tags" in chosen)
        else False
    )
    for batch in batches(file, list(chosen.values())):
        columns = {what: batch.column(name).to_pylist() for what, name in chosen.items()}
        yield [
            _row({what: column[number] for what, column in columns.items()}, semicolons=semicolons)
            for number in range(batch.num_rows)
        ]


def _row(fields: dict[str, Any], *, semicolons: bool) -> TableRow:
    tags = fields.pop("tags", None)
    said = from_fields({name: value for name, value in fields.items() if name not in ("path", "key")})
    path, key = (_word(fields.get(name)) for name in ("path", "key"))
    return TableRow(
        paths=(path,) if path else (),
        keys=(key,) if key else (),
        said=said if tags is None else Metadata(tags=distinct(split_tags(tags, semicolons))).merged_with(said),
        refusal="" if path or key else "a row without a path",
    )


def _word(value: Any) -> str:
    return "" if value is None else str(value).strip()


def _has_semicolon(batch: Any, name: str) -> bool:
    import pyarrow
    import pyarrow.compute

    compute: Any = pyarrow.compute
    column = batch.column(name)
    is_text = pyarrow.types.is_string(column.type) or pyarrow.types.is_large_string(column.type)
    return is_text and bool(compute.any(compute.match_substring(column, ";")).as_py())


def _columns(file: Path) -> dict[str, str]:
    """What is read of a table: from a key of COLUMNS to the name that the table has for it."""
    there = _header(file)
    lower = {name.strip().lower(): name for name in reversed(there)}
    chosen = {what: lower[name] for what, names in COLUMNS.items() for name in reversed(names) if name in lower}
    twice = [name for name in chosen.values() if there.count(name) > 1]
    if twice:
        raise ValueError(f"{file} has the column {twice[0]!r} twice; which one counts? Remove or rename the other")
    if not {"path", "key"} & chosen.keys():
        raise ValueError(
            f"{file} has the columns {', '.join(map(repr, there[:20])) or 'none'}; one must name the image: "
            f"{', '.join(COLUMNS['path'])}, or {', '.join(COLUMNS['key'])}"
        )
    return chosen


def _header(file: Path) -> list[str]:
    import pyarrow
    import pyarrow.parquet

    if _kind(file) == ".parquet":
        try:
            return list(pyarrow.parquet.read_schema(file).names)
        except pyarrow.ArrowInvalid as error:
            raise ValueError(f"{file} is not a Parquet file: {error}") from error
    import csv

    try:
        text = _first_line(file).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not a table in UTF-8: {error}; save it as UTF-8") from error
    return next(csv.reader([text], delimiter=_delimiter(file)), [])


def _delimiter(file: Path) -> str:
    return "\t" if _kind(file) == ".tsv" else ","


def _parquet_batches(file: Path, names: list[str]) -> Iterator[Any]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(file) as opened:
            yield from opened.iter_batches(batch_size=BATCH_ROWS, columns=names)
    except pyarrow.ArrowInvalid as error:
        raise ValueError(f"{file} is not a Parquet file: {error}") from error


def _csv_batches(file: Path, names: list[str]) -> Iterator[Any]:
    """Record batches of strings."""
    import pyarrow
    from pyarrow import csv

    convert = csv.ConvertOptions(include_columns=names, column_types={name: pyarrow.string() for name in names})
    parse = csv.ParseOptions(delimiter=_delimiter(file), newlines_in_values=True)
    yield from _batches(file, csv.ReadOptions(block_size=BLOCK_BYTES), parse, convert)


def _batches(file: Path, read: Any, parse: Any, convert: Any) -> Iterator[Any]:
    import pyarrow
    from pyarrow import csv

    try:
        with csv.open_csv(file, read_options=read, parse_options=parse, convert_options=convert) as opened:
            yield from opened
    except (pyarrow.ArrowInvalid, pyarrow.ArrowKeyError) as error:
        raise ValueError(
            f"{file} cannot be read as a table: {error}; put what holds a comma in double quotes, save it as UTF-8"
        ) from error


def _yfcc(file: Path) -> Iterator[list[TableRow]]:
    import pyarrow
    from pyarrow import csv

    names = _YFCC_FIRST[_first_line(file).count(b"\t") + 1]
    wanted = [name for name in _YFCC_READ if name in names]
    convert = csv.ConvertOptions(include_columns=wanted, column_types={name: pyarrow.string() for name in wanted})
    parse = csv.ParseOptions(delimiter="\t", quote_char=False, double_quote=False)
    read = csv.ReadOptions(block_size=BLOCK_BYTES, column_names=list(names))
    for batch in _batches(file, read, parse, convert):
        yield [_yfcc_row(row) for row in batch.to_pylist()]


def _yfcc_row(row: dict[str, str]) -> TableRow:
    """Texts are escaped as in addresses, tags separated by commas; images lie as on Amazon's, or under their ids."""
    tags, title, description = (urllib.parse.unquote_plus(row[name]) for name in ("tags", "title", "description"))
    named, digest = row["id"], row.get("hash", "")
    file = f"{named}.{row['extension'] or 'jpg'}"
    hashed = f"{digest[:3]}/{digest[3:6]}/{digest}.jpg"
    return TableRow(
        paths=(*((f"data/images/{hashed}", f"images/{hashed}", hashed) if digest else ()), f"images/{file}", file),
        keys=tuple(name for name in (named, digest) if name),
        said=Metadata(
            tags=distinct(tags.split(",")),
            caption=". ".join(text.strip() for text in (title, description) if text.strip()),
            licence=row["licence"],
        ),
        refusal="a video" if row["marker"] == "1" else "",
    )
