"""The text of a table of separated values, perhaps compressed: its encoding, its delimiter, and its rows."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import re
import shlex
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import IO

from underpaint.data.tables.metadata import COLUMNS
from underpaint.data.tables.table_file import DELIMITERS, TableFile
from underpaint.data.tables.text_form import delimiter_of, encoding_of

MAX_LINE_BYTES = 1_000_000
BLOCK_BYTES = 16 * 1024**2

_COMPRESSED: dict[str, Callable[[Path, str], IO[bytes]]] = {".gz": gzip.open, ".bz2": bz2.open}  # type: ignore[dict-item]
_KNOWN = frozenset(name for names in COLUMNS.values() for name in names)
_WORDS = {character: word for word, character in DELIMITERS.items()}


def kind_of(file: Path) -> str:
    """The extension in lower case, without that of a compression."""
    name = file.with_suffix("") if file.suffix.lower() in _COMPRESSED else file
    return name.suffix.lower()


def plain(name: str) -> str:
    """The name of a column in lower case, with ``_`` for blanks and hyphens: ``File Name`` is ``file_name``."""
    return re.sub(r"[\s-]+", "_", name.strip().lower())


def first_line(file: Path) -> bytes:
    """The first line without its end, which may be a carriage return alone."""
    try:
        with _COMPRESSED.get(file.suffix.lower(), open)(file, "rb") as opened:
            start = opened.read(MAX_LINE_BYTES)
    except (EOFError, zlib.error, OSError) as error:
        raise ValueError(f"{file} is damaged, or cannot be read: {error}") from error
    return re.split(rb"[\r\n]", start, maxsplit=1)[0]


def csv_rows(table: TableFile) -> Iterator[list[str]]:
    """The header and the rows that are not empty; raises ValueError for a quote that is never closed."""
    return (row for _, row in numbered_csv_rows(table))


def numbered_csv_rows(table: TableFile) -> Iterator[tuple[int, list[str]]]:
    """The same with the number of the line that each begins in; lines may end as on Unix, Windows or an old Mac."""
    with _opened_text(table) as text:
        delimiter = _delimiter(table)
        reader = csv.reader(text, delimiter=delimiter, strict=True)
        fields, lines = 0, 0
        try:
            for row in reader:
                if len(row) > (fields := fields or len(row)):
                    raise ValueError(
                        f"{table.file} line {reader.line_num} has more fields than the header: put values with a "
                        f"{_WORDS[delimiter]} in double quotes, and another character between tags"
                    )
                if row:
                    yield lines + 1, row
                lines = reader.line_num
        except csv.Error as error:
            # its word for a quote that is never closed is the end of the file
            text_of_error = str(error)
            reason = "a quote is opened and never closed" if "unexpected end" in text_of_error else text_of_error
            raise ValueError(f"{table.file}: the row that begins in line {lines + 1} is not CSV: {reason}") from error


def _delimiter(table: TableFile) -> str:
    if table.delimiter or kind_of(table.file) == ".tsv":
        return table.delimiter or "\t"
    with _opened_text(table) as text:
        line = text.readline(MAX_LINE_BYTES)
    named = {plain(name) for names in table.columns.values() for name in names}
    return delimiter_of(line, lambda name: plain(name) in _KNOWN | named)


def _encoding(table: TableFile) -> str:
    if table.encoding:
        return table.encoding
    status = table.file.stat()
    return _encoding_of_version(table.file, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=64)
def _encoding_of_version(file: Path, changed: int, size: int) -> str:
    named = shlex.quote(TableFile(file, encoding="shift_jis").written)
    return encoding_of(lambda: _bytes(file), file, advice=f"save it as UTF-8, or name its encoding, as in {named}")


def _bytes(file: Path) -> Iterator[bytes]:
    with _COMPRESSED.get(file.suffix.lower(), open)(file, "rb") as opened:
        while block := opened.read(BLOCK_BYTES):
            yield block


@contextmanager
def _opened_text(table: TableFile) -> Iterator[io.TextIOWrapper]:
    """The text of a table, with its line ends unchanged."""
    file, encoding = table.file, _encoding(table)
    try:
        with (
            _COMPRESSED.get(file.suffix.lower(), open)(file, "rb") as opened,
            io.TextIOWrapper(opened, encoding=encoding, newline="") as text,
        ):
            yield text
    except UnicodeError as error:  # also of UTF-16 without its mark
        raise ValueError(f"{file} is not a table in {encoding.upper()}: {error}; save it as UTF-8") from error
    except (EOFError, zlib.error, OSError) as error:
        raise ValueError(f"{file} is damaged, or cannot be read: {error}") from error
