"""The record of a collection of images: tags, class, family and splits of each, one tuple entry per image."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, get_args, runtime_checkable

import xxhash

Split = Literal["pretrain", "heldout", "train", "test"]
"""Name of a split: ``pretrain`` trains MAE and WSP, ``heldout`` measures the held-out loss of these stages, and
``train`` and ``test`` are the two halves of the transfer task."""

SPLITS: tuple[Split, ...] = get_args(Split)

Targets = Literal["none", "tags", "class"]
"""Kind of target that a run learns from an image: none, its tags, or its class."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A record that cannot be used."""

    key: str
    """Path of the image, relative to the folder, as the user wrote it."""
    reason: str


class Caption(NamedTuple):
    """A sentence about an image."""

    text: str
    language: str = ""
    """Name of the language, such as ``en``; "" where nobody says it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """An image with the facts about it; ``Source`` holds the same column by column."""

    path: str
    tags: tuple[str, ...]
    label: str
    family: str
    splits: tuple[Split, ...]
    flip: bool
    captions: tuple[Caption, ...] = ()
    accepted: tuple[str, ...] = ()
    """Classes that are a right answer, if they are others than ``label`` alone."""


@runtime_checkable
class Files(Protocol):
    """Access to the images of a source by the paths in its column ``path``."""

    def read(self, path: str) -> bytes:
        """The bytes of an image; raises OSError where it cannot be read, BadImage where it must not be used."""
        ...

    def stamp(self, path: str) -> list[int | str]:
        """Two values that change when the image does, obtained without reading it; raises OSError."""
        ...


@dataclass(frozen=True, kw_only=True)
class Folder:
    """Images that are files below ``root``."""

    root: Path

    def read(self, path: str) -> bytes:
        return (self.root / path).read_bytes()

    def stamp(self, path: str) -> list[int | str]:
        """Size, and the times of change of content and of the file's entry: programs set the former, not the latter."""
        status = os.stat(f"{self.root}/{path}")  # a Path would take longer to make than to look at
        return [status.st_size, f"{status.st_mtime_ns} {status.st_ctime_ns}"]


@dataclass(frozen=True, kw_only=True)
class Source:
    """All images of one folder or collection with the facts about each, one tuple entry per image."""

    name: str
    """The name of the collection, or of the folder."""
    root: Path
    path: tuple[str, ...]
    """Paths relative to ``root``, with ``/``, sorted."""
    tags: tuple[tuple[str, ...], ...]
    """Tags in the order given, or the names of the labels they became; () where there are none."""
    label: tuple[str, ...]
    """Class name in the transfer task; "" for an image without one."""
    family: tuple[str, ...]
    """Name of the image's family, such as variants of a drawing or exact copies; no family is divided by a split."""
    splits: tuple[tuple[Split, ...], ...]
    """The splits of each image, queried by ``rows``. Most images have one; a labelled image of a user's folder is in
    both ``pretrain`` and ``train``; an image that is in no split, as an unlabelled copy of a test image, has ()."""
    flip: tuple[bool, ...]
    """Whether the image may be mirrored without changing its meaning."""
    licence: str
    attribution: str
    problems: tuple[Problem, ...]
    """Records that should give an image, or say something of one, and do not."""
    content_hash: str
    """XXH3-128 of all records and file sizes, which identifies the data."""
    files: Files = field(compare=False)
    skipped: tuple[Problem, ...] = field(default=(), compare=False)
    """Symbolic links that are not followed: no records, so they do not count as bad ones."""
    notes: tuple[str, ...] = field(default=(), compare=False)
    """Sentences for the user about how classes and splits were read."""
    notes_on_tags: tuple[str, ...] = field(default=(), compare=False)
    """Sentences for the user about how tags were read."""
    captions: tuple[tuple[Caption, ...], ...] = field(default=(), compare=False)
    """Captions that a collection brings; () for a folder, whose captions are read by ``data/captions`` alone."""
    accepted: tuple[tuple[str, ...], ...] = field(default=(), compare=False)
    """Classes that are a right answer for each test image, if they are others than ``label`` alone; () where not."""

    class_table: str = field(default="", compare=False)
    """Checksum of the package's table of the classes; "" where folders or files name them."""

    def rows(self, split: Split) -> list[int]:
        """The indices of the images of one split, ascending."""
        assert split in SPLITS, split
        return [row for row, splits in enumerate(self.splits) if split in splits]


def one_outer_folder(source: Source) -> Path | None:
    """The folder that all images lie in, where it holds two folders or more of them: those may be classes."""
    parts = [path.split("/") for path in source.path]
    is_inner = all(len(each) > 2 for each in parts) and len({each[0] for each in parts}) == 1
    return source.root / parts[0][0] if is_inner and len({each[1] for each in parts}) > 1 else None


def make_source(
    name: str,
    root: Path,
    *,
    records: Iterable[Record],
    problems: Iterable[Problem],
    licence: str,
    attribution: str,
    content_hash: str = "",
) -> Source:
    """Sort the records by path and turn them into columns; ``content_hash`` saves its computation where it is known."""
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
        content_hash=content_hash or _content_hash(root, ordered),
        captions=tuple(record.captions for record in ordered),
        accepted=tuple(r.accepted for r in ordered) if any(r.accepted for r in ordered) else (),
        files=Folder(root=root),
    )


def _content_hash(root: Path, records: list[Record]) -> str:
    """The hash of everything but captions, which only pairs are made of and which have a hash of their own."""
    state = xxhash.xxh3_128()
    for record in records:
        line = [record.path, record.tags, record.label, record.family, record.splits, record.flip]
        line += [record.accepted] if record.accepted else []
        line.append(os.stat(f"{root}/{record.path}").st_size)
        state.update(json.dumps(line, ensure_ascii=True).encode())
        state.update(b"\n")
    return state.hexdigest()
