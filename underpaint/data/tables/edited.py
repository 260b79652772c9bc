"""CSV files that a person has edited: spreadsheets save other separators and encodings than the package writes."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from io import StringIO
from pathlib import Path

from underpaint.data.tables.text_form import delimiter_of, encoding_of

MAX_BYTES = 64 * 1024**2


def edited_rows(
    file: Path, columns: Sequence[str], *, optional: Sequence[str] = (), advice: str
) -> Iterator[tuple[int, dict[str, str]]]:
    """The number of the line, and the cells in these columns, of each row that is not empty.

    An ``optional`` column that the file lacks is not among the cells; ``advice`` ends the message about a file or a
    column that is missing. Separators and encodings are those of tables of tags.

    Raises:
        ValueError: if the file is missing, too large or not CSV, lacks a column, or has a row that is longer than the
            header.
    """
    if not file.is_file():
        raise ValueError(f"{file} does not exist; {advice}")
    if (size := file.stat().st_size) > MAX_BYTES:
        raise ValueError(f"{file} has {size:,} bytes; a table that is edited by hand has at most {MAX_BYTES:,}")
    content = file.read_bytes()
    known = {*columns, *optional}
    try:
        text = content.decode(encoding_of(lambda: [content], file))
        delimiter = delimiter_of(text.partition("\n")[0], lambda name: _plain(name) in known)
        reader = csv.reader(StringIO(text, newline=""), delimiter=delimiter, strict=True)
        header = [_plain(name) for name in next(reader, [])]
        if missing := sorted(set(columns) - set(header)):
            raise ValueError(f"{file} lacks the columns {', '.join(missing)}; {advice}")
        if twice := [name for name in header if name in known and header.count(name) > 1]:
            raise ValueError(f"{file} has the column {twice[0]!r} twice; remove or rename one of them")
        places = {name: header.index(name) for name in header if name in known}
        for row in reader:
            if any(row[len(header) :]):
                raise ValueError(
                    f"{file} line {reader.line_num} has more fields than the header; put a text with {delimiter!r} "
                    "into double quotes"
                )
            if any(row):
                padded = [*row, *[""] * (len(header) - len(row))]
                yield reader.line_num, {name: padded[place] for name, place in places.items()}
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is not a CSV file: {error}") from error


def _plain(name: str) -> str:
    return name.strip().lower()
