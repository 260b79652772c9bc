"""What is known about a collection of images: one tuple entry per image, and the splits they belong to."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Literal, Protocol, get_args, runtime_checkable

import xxhash

Split = Literal["pretrain", "heldout", "train", "test"]
"""``pretrain``: MAE and WSP learn from it. ``heldout``: the held-out loss of these stages is measured on it.
``train`` and ``test``: the two halves of the transfer task."""

SPLITS: tuple[Split, ...] = get_args(Split)

Targets = Literal["none", "tags", "class"]
"""What a run learns of an image beside its pixels."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A record that cannot be used."""

    key: str
    """The path of the image, relative to the folder, as the user wrote it."""
    reason: str


@dataclass(frozen=True, kw_only=True)
class Record:
    """One image: a line of what a Source holds column by column."""

    path: str
    tags: tuple[str, ...]
    label: str
    family: str
    splits: tuple[Split, ...]
    flip: bool


@runtime_checkable
class Files(Protocol):
    """Where the images of a source are. Paths are those of its column ``path``."""

    def read(self, path: str) -> bytes:
        """The bytes of an image; raises OSError where there are none, BadImage where they are not to be used."""
        ...

    def stamp(self, path: str) -> list[int | str]:
        """What changes when the image does, without reading it; raises OSError."""
        ...


@dataclass(frozen=True, kw_only=True)
class Folder:
    """Images that are files below ``root``."""

    root: Path

    def read(self, path: str) -> bytes:
        return (self.root / path).read_bytes()

    def stamp(self, path: str) -> list[int | str]:
        """Size and time of change in nanoseconds."""
        status = (self.root / path).stat()
        return [status.st_size, status.st_mtime_ns]


@dataclass(frozen=True, kw_only=True)
class Source:
    """All images of one folder or collection with what is known about each; one tuple entry per image."""

    name: str
    """The name of the collection, or of the folder."""
    root: Path
    path: tuple[str, ...]
    """Relative to ``root``, with ``/``, sorted."""
    tags: tuple[tuple[str, ...], ...]
    """Tags in the order given, or the names of the labels they became; () where there are none."""
    label: tuple[str, ...]
    """Class name of the transfer task, "" where there is none."""
    family: tuple[str, ...]
    """Images of one family (variants of a drawing, exact copies) never stand on both sides of a split."""
    splits: tuple[tuple[Split, ...], ...]
    """The splits of each image, asked through ``rows``. Mostly one; a labelled image of one's own folder serves both
    ``pretrain`` and ``train``; () for one that is kept out of everything (an unlabelled copy of a test image)."""
    flip: tuple[bool, ...]
    """May the image be mirrored without changing what it says?"""
    licence: str
    attribution: str
    problems: tuple[Problem, ...]
    """Records that should give an image, or say something of one, and do not."""
    content_hash: str
    """xxh3 of everything above and of the file sizes: the identity of the data."""
    files: Files = field(compare=False)
    skipped: tuple[Problem, ...] = field(default=(), compare=False)
    """Symbolic links that are not followed: no records, so they do not count as bad ones."""
    notes: tuple[str, ...] = field(default=(), compare=False)
    """Sentences about how classes and splits were read that a person should see."""
    notes_on_tags: tuple[str, ...] = field(default=(), compare=False)
    """The same about tags."""

    def rows(self, split: Split) -> list[int]:
        """The indices of the images of one split, ascending."""
        assert split in SPLITS, split
        return [row for row, splits in enumerate(self.splits) if split in splits]


def make_source(
    name: str,
    root: Path,
    *,
    records: Iterable[Record],
    problems: Iterable[Problem],
    licence: str,
    attribution: str,
    notes: tuple[str, ...] = (),
    notes_on_tags: tuple[str, ...] = (),
) -> Source:
    """Sort the records by path and turn them into columns."""
    ordered = sorted(records, key=lambda record: record.path)
    return Source(
        name=name,
        root=root,
        path=tuple(record.path for record in ordered),
        tags=tuple(record.tags for record in ordered),
        label=tuple(record.label for record in ordered),
        family=tuple(record.family for record in ordered),
        splits=tuple(record.splits for record in ordered),
        flip=tuple(record.flip for record in ordered),
        licence=licence,
        attribution=attribution,
        problems=tuple(problems),
        content_hash=_content_hash(root, ordered),
        files=Folder(root=root),
        notes=notes,
        notes_on_tags=notes_on_tags,
    )


def _content_hash(root: Path, records: list[Record]) -> str:
    state = xxhash.xxh3_128()
    for record in records:
        line = [*astuple(record), (root / record.path).stat().st_size]
        state.update(json.dumps(line, ensure_ascii=True).encode())
        state.update(b"\n")
    return state.hexdigest()
