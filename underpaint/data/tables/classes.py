"""Classes and splits out of a table, which may say one thing of each image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, NoReturn

from underpaint.data.splits import split_of_name
from underpaint.data.tables.tag_tables import TableRow, TagTable


class Classes(NamedTuple):
    """Class and split ("" where the table has none) by name of the image."""

    said: dict[str, tuple[str, str]]
    repeats: int
    """Number of rows that say of an image what an earlier one says."""


def classes_by_name(table: TagTable, named: Iterable[tuple[str, TableRow]]) -> Classes:
    """The classes of a table from all its rows, in order, each with the name of its image ("" for none).

    Raises:
        ValueError: if two rows say different things of one image, or one names an unknown split.
    """
    said: dict[str, tuple[str, str]] = {}
    first: dict[str, int] = {}
    repeats = 0
    for number, (name, row) in enumerate(named):
        if not name:
            continue
        now = row.label, split_of_name(row.split, table.file) if "split" in table.columns else ""
        if said.setdefault(name, now) != now:
            _refuse(table, name, {first[name]: said[name], number: now})
        repeats += name in first
        first.setdefault(name, number)
    return Classes(said, repeats)


def _refuse(table: TagTable, name: str, said: Mapping[int, tuple[str, str]]) -> NoReturn:
    """Raise ValueError for an image of which two rows, given by their numbers, say different classes or splits."""
    named = [
        f"{table.place_of(number)} says class {label!r}" + f" and split {split!r}" * ("split" in table.columns)
        for number, (label, split) in said.items()
    ]
    raise ValueError(f"{table.file} lists {name!r} twice: {', '.join(named)}; delete one of the two")
