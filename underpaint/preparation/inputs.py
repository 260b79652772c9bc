"""What a SOURCE of ``underpaint prepare`` is: a folder of images, a table about images, or tar shards."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from underpaint.data.folders.folder import refuse_unreadable
from underpaint.preparation import tag_tables

Kind = Literal["folder", "table", "tars"]

OWN_TABLES = ("tags.csv", "tags.parquet", "tags.tsv", "metadata.csv", "metadata.parquet")
"""The first of these in a folder tells the tags of its images."""


@dataclass(frozen=True, kw_only=True)
class PreparedFrom:
    """One source: where it lies and how it is read."""

    name: str
    """Its last word, made distinct: it begins the names of its shards and stands in the index."""
    path: str
    """As the user gave it, made absolute."""
    kind: Kind
    table: str = ""
    """A folder's own table."""

    @property
    def root(self) -> Path:
        """The folder that paths are relative to."""
        is_file = self.kind == "table" or self.path.endswith(".tar")
        return Path(self.path).parent if is_file else Path(self.path)


def describe(sources: Sequence[str]) -> tuple[PreparedFrom, ...]:
    """Look at each source; the same one named twice counts once.

    Raises:
        ValueError: for one that is not there, or that holds nothing to read.
    """
    found: list[PreparedFrom] = []
    for given in dict.fromkeys(str(Path(source).expanduser().resolve()) for source in sources):
        name = _distinct_name(Path(given), {one.name for one in found})
        found.append(_look(Path(given), name))
    if not found:
        raise ValueError("prepare needs a SOURCE: a folder of images, a table (.csv, .tsv, .parquet), or tar shards")
    return tuple(found)


def _look(path: Path, name: str) -> PreparedFrom:
    if path.is_file():
        kind: Kind = "tars" if path.suffix == ".tar" else "table"
        if kind == "table" and not tag_tables.is_table(path):
            raise ValueError(
                f"{path} is neither a tar nor a table ({', '.join(tag_tables.EXTENSIONS)}, or one of YFCC100M); "
                f"name the folder that holds the images"
            )
        return PreparedFrom(name=name, path=str(path), kind=kind)
    if not path.is_dir():
        raise ValueError(f"{path} does not exist; a SOURCE is a folder of images, a table of them, or tar shards")
    if tar_files(path):
        return PreparedFrom(name=name, path=str(path), kind="tars")
    table = next((path / own for own in OWN_TABLES if (path / own).is_file()), None)
    return PreparedFrom(name=name, path=str(path), kind="folder", table=str(table or ""))


def require_apart(sources: Sequence[str | Path], out: Path) -> None:
    """Raise ValueError where a set would lie in what it is made from, or the other way round, and grow for ever."""
    target = out.expanduser().resolve()
    for source in (Path(one).expanduser().resolve() for one in sources):
        if target.is_relative_to(source) or source.is_relative_to(target):
            raise ValueError(f"--out {out} and the source {source} lie in each other; choose a folder beside it")


def tar_files(path: Path) -> list[Path]:
    """The tars of a folder and those below it, or the one tar itself, in the order of their names; none hidden."""
    if path.is_file():
        return [path]
    found: list[Path] = []
    for folder, folders, names in os.walk(path, onerror=refuse_unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(folder) / name for name in names if name.endswith(".tar") and not name.startswith(".")]
    return sorted(found)


def _distinct_name(path: Path, taken: set[str]) -> str:
    plain = "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in path.stem)[:40] or "images"
    numbered = (plain if number == 1 else f"{plain}-{number}" for number in range(1, len(taken) + 2))
    return next(name for name in numbered if name not in taken)
