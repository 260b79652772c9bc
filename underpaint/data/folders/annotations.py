"""Tags and classes that stand in a file beside the images."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from io import StringIO
from pathlib import Path, PurePosixPath
from typing import Any

from underpaint.data.source import Problem


def read_tags(file: Path) -> list[tuple[str, tuple[str, ...]]]:
    """(path, tags) of each row of a CSV or Parquet file with the columns ``path`` and ``tags``.

    In CSV, only ``;`` separates tags if the file contains any, else spaces. In Parquet the column holds lists, or
    strings to which the same rule applies. Tags are lower-cased, without surrounding spaces and a leading ``#``.
    """
    if file.suffix.lower() == ".parquet":
        rows = _parquet(file, ("path", "tags"))
        texts = [tags for _, tags in rows if isinstance(tags, str)]
        semicolons = any(";" in text for text in texts)
    else:
        text = _text(file)
        rows = _csv(file, text, ("path", "tags"))
        semicolons = ";" in text
    return [(str(path), _clean(split_tags(tags, semicolons))) for path, tags in rows]


def read_classes(file: Path) -> list[tuple[str, str]]:
    """(path, class) of each row of a CSV file with the columns ``path`` and ``class``."""
    return [(path, name.strip()) for path, name in _csv(file, _text(file), ("path", "class"))]


def misplaced(path: str, root: Path, known: Iterable[str]) -> Problem | None:
    """Why a row's path names none of the ``known`` images of ``root``; no problem where it does."""
    pure = PurePosixPath(path)
    if path in known:
        return None
    if pure.is_absolute() or ".." in pure.parts:
        return Problem(key=path, reason="the path leaves the folder")
    try:
        there = (root / path).is_file()
    except (OSError, ValueError):  # a name too long, or with a NUL
        there = False
    return Problem(key=path, reason="not an image file that is read" if there else "missing file")


def normal_path(path: str) -> str:
    """The path as a folder listing spells it: without spaces around it and without ``./``."""
    return str(PurePosixPath(path.strip()))


def split_tags(tags: object, semicolons: bool) -> Iterable[str]:
    """One cell's tags: a list as it is, a text at ``;`` where the file has any, else at spaces."""
    if tags is None:
        return ()
    if isinstance(tags, str):
        return tags.split(";") if semicolons else tags.split()
    return [str(tag) for tag in tags if tag is not None]  # type: ignore[union-attr]  # a list column


def _clean(tags: Iterable[str]) -> tuple[str, ...]:
    """Distinct tags in the order given. Real normalisation of hashtags is the vocabulary's business."""
    cleaned = (tag.strip().removeprefix("#").strip().lower() for tag in tags)
    return tuple(dict.fromkeys(tag for tag in cleaned if tag))


def _text(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not a CSV file in UTF-8: {error}; save it as UTF-8") from error


def _csv(file: Path, text: str, columns: tuple[str, str]) -> list[tuple[str, str]]:
    reader = csv.DictReader(StringIO(text, newline=""), strict=True)
    rows: list[tuple[str, str]] = []
    try:
        _require(file, columns, tuple(reader.fieldnames or ()))
        for row in reader:
            if None in row:
                raise ValueError(
                    f"{file} line {reader.line_num} has more fields than the header: put what holds a comma in double "
                    f"quotes, and ';' or spaces between tags"
                )
            rows.append((row[columns[0]] or "", row[columns[1]] or ""))
        return rows
    except csv.Error as error:
        # the reader counts the lines of whole rows; its word for a quote that is never closed is the end of the file
        what = "a quote is opened and never closed" if "unexpected end" in str(error) else str(error)
        raise ValueError(f"{file}: the row that begins in line {reader.line_num + 1} is not CSV: {what}") from error


def _parquet(file: Path, columns: tuple[str, str]) -> list[tuple[object, object]]:
    import pyarrow
    import pyarrow.parquet

    try:
        schema = pyarrow.parquet.read_schema(file)
        _require(file, columns, tuple(schema.names))
        _require_text(file, schema, columns)
        table = pyarrow.parquet.read_table(file, columns=list(columns))
    except pyarrow.ArrowInvalid as error:
        raise ValueError(f"{file} is not a Parquet file: {error}") from error
    return list(zip(table[columns[0]].to_pylist(), table[columns[1]].to_pylist(), strict=True))


def _require_text(file: Path, schema: Any, columns: tuple[str, str]) -> None:
    """The first column holds strings, the second strings or lists of them; nulls are none of our business."""
    from pyarrow import types

    def is_text(kind: Any) -> bool:
        kind = kind.value_type if types.is_dictionary(kind) else kind
        return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)

    path, values = (schema.field(name).type for name in columns)
    lists = types.is_list(values) or types.is_large_list(values) or types.is_fixed_size_list(values)
    if not is_text(path):
        raise ValueError(f"{file} has the column {columns[0]!r} of type {path}; it must hold text")
    if not is_text(values) and not (lists and is_text(values.value_type)) and not types.is_null(values):
        raise ValueError(f"{file} has the column {columns[1]!r} of type {values}; it must hold text or lists of text")


def _require(file: Path, columns: tuple[str, str], found: tuple[str, ...]) -> None:
    missing = [name for name in columns if name not in found]
    if missing:
        raise ValueError(
            f"{file} has the columns {', '.join(map(repr, found)) or 'none'}; it needs {columns[0]!r} and "
            f"{columns[1]!r}, separated by a comma"
        )
    twice = [name for name in columns if found.count(name) > 1]
    if twice:
        raise ValueError(f"{file} has the column {twice[0]!r} twice; which one counts? Remove or rename the other")
