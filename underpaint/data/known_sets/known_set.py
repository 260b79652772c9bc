"""A published dataset: how it lies on disk, and what it must hold before anything is trained or scored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from underpaint.data.folders.listing import list_folder
from underpaint.data.source import Record

SHOWN = 3


class Images(NamedTuple):
    """Images of a dataset, read from its folder."""

    records: list[Record]
    notes: tuple[str, ...] = ()
    class_table: str = ""
    """Checksum of the package's table of the classes, if it has them."""
    border: int = 0
    """Number of pixels that are cut off each side of every image."""


@dataclass(frozen=True, kw_only=True)
class KnownSet:
    """A dataset with its published counts."""

    name: str
    title: str
    licence: str
    layout: str
    """Files that its folder must hold, for messages."""
    classes: int
    train: int
    test: int
    read: Callable[[Path], Images]


def record(path: str, label: str, *, tested: bool, accepted: tuple[str, ...] = ()) -> Record:
    """An image; it is a family of its own, since the files of millions of images are not compared."""
    splits = ("test",) if tested else ("pretrain", "train")
    return Record(path=path, tags=(), label=label, family=path, splits=splits, flip=True, accepted=accepted)


def class_folders(root: Path, folder: str) -> dict[str, list[str]]:
    """The paths of the images in each folder of ``root/folder``, relative to ``root``, by the folder's name.

    Raises:
        ValueError: if there is no such folder.
    """
    place = root / folder
    if not place.is_dir():
        raise ValueError(f"{place} is not a folder")
    by_folder: dict[str, list[str]] = {}
    for path in list_folder(place.resolve()).images:
        name, _, _ = path.rpartition("/")
        by_folder.setdefault(name, []).append(f"{folder}/{path}" if folder != "." else path)
    return by_folder


def require_classes(there: Iterable[str], expected: Sequence[str], *, where: str) -> None:
    """Raise ValueError, naming the first of them, for classes that are missing or unknown."""
    names = set(there)
    missing, unknown = sorted(set(expected) - names), sorted(names - set(expected))
    if missing or unknown:
        sentences = [
            f"{len(some):,} {what} ({named(some)})"
            for some, what in ((missing, "missing"), (unknown, "unknown"))
            if some
        ]
        raise ValueError(f"{where} must have {len(expected):,} classes: {' and '.join(sentences)}")


def require_once(paths: Sequence[str], *, where: str, of: str = "lines") -> None:
    """Raise ValueError for an image that is there twice among the lines, or the files, of ``where``."""
    seen: set[str] = set()
    for path in paths:
        if path in seen:
            raise ValueError(f"{where} has {path} twice; delete one of the {of}")
        seen.add(path)


def named(names: Sequence[str]) -> str:
    """The first of some names, for a message."""
    shown = [name or "images outside the folders" for name in names[:SHOWN]]
    return ", ".join(shown) + (", ..." if len(names) > SHOWN else "")


def require_files(root: Path, paths: Iterable[str], *, where: str) -> None:
    """Raise ValueError for listed images that are not there."""
    missing = [path for path in paths if not (root / path).is_file()]
    if missing:
        raise ValueError(f"{where} lists {len(missing):,} images that {root} lacks ({named(missing)}); add them")
