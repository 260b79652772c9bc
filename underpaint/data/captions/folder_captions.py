"""Captions of a folder's images: out of a table, and out of a text or JSON file beside each image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from underpaint.data.captions.wording import captions_of
from underpaint.data.folders.annotations import caption_rows
from underpaint.data.source import Caption, Problem
from underpaint.data.tables import metadata
from underpaint.data.tables.metadata import Metadata
from underpaint.data.tables.table_file import TableFile, table_file
from underpaint.files import MAX_JSON_BYTES
from underpaint.messages import counted

CAPTIONS_FILES = ("captions.csv", "captions.parquet", "captions.tsv", "captions.jsonl")
READERS = {".txt": metadata.from_sidecar, ".json": metadata.from_json}
"""Readers of the files beside ``dog.jpg``: ``dog.txt``, tags or one caption a line, and ``dog.json``."""
EMPTY = "an empty caption"


@dataclass(frozen=True, kw_only=True)
class FolderCaptions:
    """Captions and tags of the images of a folder, by path."""

    captions: Mapping[str, tuple[Caption, ...]]
    tags: Mapping[str, tuple[str, ...]]
    """Tags of files beside images; those of the folder's table are the source's own."""
    problems: tuple[Problem, ...]
    """Captions that are empty, too long or cannot be read, and rows without an image."""
    notes: tuple[str, ...]


def read_folder_captions(root: Path, paths: tuple[str, ...], *, table: str) -> FolderCaptions:
    """Everything written about these images; ``table`` is a file with the columns path and caption, "" the usual one.

    Several rows of an image, and several lines of a caption, are several captions.

    Raises:
        ValueError: if the table is none, or names no image.
    """
    known = frozenset(paths)
    captions: dict[str, dict[Caption, None]] = {}
    tags: dict[str, dict[str, None]] = {}
    problems: list[Problem] = []
    notes: list[str] = []

    def add(path: str, said: Metadata, place: str) -> None:
        try:
            texts = captions_of(said.caption, said.language)
        except ValueError as error:
            problems.append(Problem(key=path, reason=f"{place}: {error}"))
            return
        captions.setdefault(path, {}).update(dict.fromkeys(texts))
        tags.setdefault(path, {}).update(dict.fromkeys(said.tags or ()))

    given = _table_of(root, table)
    if given is not None:
        rows, unmatched = caption_rows(given, root, known)
        problems += unmatched
        for path, said in rows:
            add(path, said, given.file.name)
        notes.append(f"{counted(len({path for path, _ in rows}), 'image')} have a row in {given.file.name}")
    beside = 0
    for path, sidecar in _sidecars(root, paths):
        beside += 1
        try:
            add(path, _read(sidecar), sidecar.name)
        except (OSError, ValueError) as error:
            problems.append(Problem(key=path, reason=f"{sidecar.name}: {error}"))
    if beside:
        notes.append(f"{counted(beside, 'text or JSON file')} beside images")
    return FolderCaptions(
        captions={path: tuple(texts) for path, texts in captions.items()},
        tags={path: tuple(words) for path, words in tags.items()},
        problems=tuple(problems),
        notes=tuple(notes),
    )


def _table_of(root: Path, table: str) -> TableFile | None:
    if not table:
        return next((TableFile(root / name) for name in CAPTIONS_FILES if (root / name).is_file()), None)
    given = table_file(table)
    if not given.file.is_file():
        raise ValueError(f"data.captions={table} is not a file; give a table with the columns path and caption")
    return given


def _sidecars(root: Path, paths: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
    for path in paths:
        for suffix in READERS:
            sidecar = (root / path).with_suffix(suffix)
            if sidecar.is_file() and sidecar.resolve().is_relative_to(root):
                yield path, sidecar


def _read(sidecar: Path) -> Metadata:
    if sidecar.stat().st_size > MAX_JSON_BYTES:
        raise ValueError(f"a file of {sidecar.stat().st_size:,} bytes is not a caption")
    # a caption that is too long is cut by these readers, to a length that captions_of refuses
    return READERS[sidecar.suffix](sidecar.read_bytes())
