"""A table as a person names it: a file, and after it perhaps the columns that have unusual names.

``posts.csv:path=Datei,tags=Motiv,tags=Ort`` has two columns of tags. The same text works wherever a table is named.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from io import BytesIO, TextIOWrapper
from pathlib import Path

from underpaint.data.tables.metadata import COLUMNS
from underpaint.suggest import hint

DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "bar": "|"}
"""Characters between fields by the words for them, in order of precedence."""
_FORM = ("delimiter", "encoding")
_START = re.compile(rf":(?=({'|'.join((*COLUMNS, *_FORM))})=)")
_ANY = re.compile(r"(.+?):(\w+)=")
_NEXT = re.compile(rf",(?=({'|'.join((*COLUMNS, *_FORM))})=)")


@dataclass(frozen=True)
class TableFile:
    """A table's file, and how its text and columns are named; what is not named is found."""

    file: Path
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Names of columns by key of COLUMNS; tags may have several."""
    delimiter: str = ""
    encoding: str = ""

    @property
    def written(self) -> str:
        """The text that names the table in this way, with the path of this file."""
        named = [(key, name) for key, names in self.columns.items() for name in names]
        words = [word for word, character in DELIMITERS.items() if character == self.delimiter]
        named += [("delimiter", word) for word in words]
        named += [("encoding", self.encoding)] if self.encoding else []
        return str(self.file) + (":" + ",".join(f"{key}={name}" for key, name in named) if named else "")


def table_file(written: str | Path) -> TableFile:
    """The table that ``FILE`` or ``FILE:path=NAME,tags=NAME`` names; the file need not exist.

    A column's name may have commas and equals signs. Besides columns, ``delimiter`` (comma, semicolon, tab or bar) and
    ``encoding`` can be named.

    Raises:
        ValueError: for a column that is named twice or with an empty name, an unknown delimiter or encoding.
    """
    file = Path(written).expanduser()
    parts = [] if file.exists() else _START.split(str(written), maxsplit=1)
    if len(parts) < 2:
        _refuse_unknown_key(str(written))
        return TableFile(file)
    named: dict[str, list[str]] = {}
    rest = str(written)[len(parts[0]) + 1 :]
    for each in _entries(rest):
        key, _, name = each.partition("=")
        if not name.strip():
            raise ValueError(f"{written} names no column after {key}=; write {key}=NAME")
        named.setdefault(key, []).append(name.strip())
    if twice := [key for key, names in named.items() if len(names) > 1 and key != "tags"]:
        raise ValueError(f"{written} names {twice[0]} twice; only tags may have several columns")
    return TableFile(
        Path(parts[0]).expanduser(),
        {key: tuple(names) for key, names in named.items() if key not in _FORM},
        delimiter=_delimiter(*named.get("delimiter", ())),
        encoding=_encoding(*named.get("encoding", ())),
    )


def absolute(written: str | Path) -> str:
    """The same table by the absolute path of its file."""
    table = table_file(written)
    return replace(table, file=table.file.resolve()).written


def _entries(text: str) -> list[str]:
    """The text cut at each comma that a known key follows."""
    cuts = [match.start() for match in _NEXT.finditer(text)]
    starts, ends = [0, *(cut + 1 for cut in cuts)], [*cuts, len(text)]
    return [text[start:end] for start, end in zip(starts, ends, strict=True)]


def _refuse_unknown_key(written: str) -> None:
    """Raise ValueError for a text that begins with a file, and goes on with another word than those known."""
    if (match := _ANY.match(written)) and Path(match[1]).expanduser().is_file():
        raise ValueError(f"{written} names {match[2]}=; {hint(match[2], (*COLUMNS, *_FORM), form='{}=')}")


def _delimiter(word: str = "") -> str:
    if word and word not in DELIMITERS:
        raise ValueError(f"delimiter={word} is unknown; {hint(word, DELIMITERS)}")
    return DELIMITERS.get(word, "")


def _encoding(name: str = "") -> str:
    try:
        TextIOWrapper(BytesIO(), encoding=name or "utf-8")
    except LookupError as error:
        raise ValueError(f"encoding={name} is unknown; usual ones are utf-8, cp1252, cp1251 and shift_jis") from error
    return name
