"""The sources of ``underpaint prepare``: a folder of images, a table about images, or tar shards."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from underpaint.data.folders.listing import Listing, list_folder, refuse_unreadable
from underpaint.data.shards.archives import is_tar, unread_archive, unread_archives
from underpaint.data.source import Problem
from underpaint.data.tables import tag_tables
from underpaint.data.tables.table_file import absolute, table_file

Kind = Literal["folder", "table", "tars"]

OWN_TABLES = ("tags.csv", "tags.parquet", "tags.tsv", "metadata.csv", "metadata.parquet")
"""Names of tables of tags in a folder of images; the first that exists is read."""


@dataclass(frozen=True, kw_only=True)
class PreparedFrom:
    """A source of images: its path and the way it is read."""

    name: str
    """A distinct name made from the last part of the path; shards' names begin with it, and the index has it."""
    path: str
    """The path that the user gave, made absolute; that of a table may name its columns."""
    kind: Kind
    table: str = ""
    """Path of a folder's own table of tags; "" where it has none."""

    @property
    def root(self) -> Path:
        """The folder that paths are relative to."""
        path = table_file(self.path).file
        return path.parent if self.kind == "table" or (self.kind == "tars" and path.is_file()) else path


def describe(sources: Sequence[str]) -> tuple[PreparedFrom, ...]:
    """Describe each source; one named twice counts once, and a folder of tars and other images is two sources.

    Raises:
        ValueError: for a source that does not exist or cannot be read.
    """
    described: list[PreparedFrom] = []
    for given in dict.fromkeys(absolute(source) for source in sources):
        path = table_file(given).file
        for kind, table in _kinds(path):
            if kind != "table" and given != str(path):
                raise ValueError(f"{given} names columns, and {path} is not a table")
            name = _distinct_name(path, {source.name for source in described})
            described.append(PreparedFrom(name=name, path=given, kind=kind, table=table))
    if not described:
        raise ValueError("prepare needs a SOURCE: a folder of images, a table (.csv, .tsv, .parquet), or tar shards")
    return tuple(described)


def passed_over(source: PreparedFrom, listing: Listing) -> list[Problem]:
    """The files of a folder that are not read though they may hold images or tags, each with the reason."""
    problems = [*listing.unread, *unread_archives(source.root)]
    if source.table or not tar_files(source.root):
        return problems
    table = own_table(source.root)
    reason = "a table beside tars is not joined to their images; name it with --tags"
    return [*problems, *([Problem(key=Path(table).name, reason=reason)] if table else [])]


def _kinds(path: Path) -> Iterator[tuple[Kind, str]]:
    """The one or two ways in which a source is read, each with the folder's own table of tags."""
    if path.is_file():
        yield _kind_of_file(path), ""
        return
    if not path.is_dir():
        raise ValueError(f"{path} does not exist; a SOURCE is a folder of images, a table of them, or tar shards")
    table = own_table(path)
    if not tar_files(path):
        yield "folder", table
        return
    yield "tars", ""
    listing = list_folder(path)
    if listing.images or listing.links or listing.unread or unread_archives(path) or table:
        yield "folder", table if listing.images else ""


def _kind_of_file(path: Path) -> Kind:
    if is_tar(path.name):
        return "tars"
    if reason := unread_archive(path.name):
        raise ValueError(f"{path} cannot be prepared: {reason}")
    if not tag_tables.is_table(path):
        raise ValueError(
            f"{path} is neither a tar nor a table ({', '.join(tag_tables.EXTENSIONS)}, or one of YFCC100M); "
            f"name the folder that holds the images"
        )
    return "table"


def own_table(folder: Path) -> str:
    """Path of the table of tags in a folder of images; "" without one."""
    return next((str(folder / name) for name in OWN_TABLES if (folder / name).is_file()), "")


def require_apart(sources: Sequence[str | Path], out: Path) -> None:
    """Raise ValueError where a set would lie in one of its sources, or a source in the set."""
    target = out.expanduser().resolve()
    for source in (table_file(given).file.resolve() for given in sources):
        if target.is_relative_to(source) or source.is_relative_to(target):
            raise ValueError(f"--out {out} and the source {source} lie in each other; choose a folder beside it")


def tar_files(path: Path) -> list[Path]:
    """The tars in a folder and its sub-folders without hidden ones, sorted; for a file, that file alone."""
    if path.is_file():
        return [path]
    tars: list[Path] = []
    for folder, folders, names in os.walk(path, onerror=refuse_unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        tars += [Path(folder) / name for name in names if is_tar(name) and not name.startswith(".")]
    return sorted(tars)


def _distinct_name(path: Path, taken: Collection[str]) -> str:
    plain = "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in path.stem)[:40] or "images"
    numbered = (plain if number == 1 else f"{plain}-{number}" for number in range(1, len(taken) + 2))
    return next(name for name in numbered if name not in taken)
