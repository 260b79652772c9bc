"""A prepared set as a ``Source``, with the facts about each image in memory, for studies, evaluations and leakage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from underpaint.data.cache import cache_folder
from underpaint.data.collections.catalog import collections
from underpaint.data.shards.prepared_set import PreparedSet, is_prepared
from underpaint.data.shards.shard_files import Patience, Shards
from underpaint.data.source import SPLITS, Source, Split

MOST_IMAGES = 5_000_000
CACHE_GIB = 32.0
"""Default limit on the size of local copies of remote shards, in GiB."""


def is_prepared_name(source: str) -> bool:
    """Whether a source's name means a folder with a prepared set; a collection's name never does."""
    return source not in [name for name, _ in collections()] and is_prepared(Path(source).expanduser())


def open_shards(folder: Path, *, cache_gib: float = CACHE_GIB) -> Shards:
    return Shards(folder, cache=cache_folder() / "shards", cache_bytes=int(cache_gib * 2**30), patience=Patience())


def prepared_source(prepared: PreparedSet) -> Source:
    """The images of a set with the names of their labels as tags, and their classes.

    Raises:
        ValueError: for more than MOST_IMAGES images.
    """
    if prepared.images > MOST_IMAGES:
        raise ValueError(
            f"{prepared.folder} has {prepared.images:,} images; studies, evaluations and data.exclude hold what is "
            f"known of each in memory, of at most {MOST_IMAGES:,}. Training reads sets of any size"
        )
    names = np.array(prepared.vocabulary().labels, dtype=object)
    class_names = (*prepared.classes.labels, "")  # the last one for -1
    path: list[str] = []
    tags: list[tuple[str, ...]] = []
    label: list[str] = []
    splits: list[tuple[Split, ...]] = []
    family: list[str] = []
    flip: list[bool] = []
    places: dict[str, tuple[int, int, bytes, str]] = {}
    for rows in prepared.scan():
        ordered = [tuple(split for split in SPLITS if split in names_of_splits) for names_of_splits in rows.splits]
        keys = [f"{rows.shard}/{key}" for key in rows.keys.to_pylist()]
        hashes = [row.tobytes() for row in rows.content_hash]
        path += keys
        tags += [tuple(names[list(rows.labels_of(row))].tolist()) for row in range(len(rows))]
        label += [class_names[number] for number in rows.classes.tolist()]
        splits += [ordered[number] for number in rows.split.tolist()]
        family += [content.hex() for content in hashes]
        flip += rows.flip.tolist()
        members = zip(rows.offset.tolist(), rows.size.tolist(), hashes, [rows.shard] * len(keys), strict=True)
        places.update(zip(keys, members, strict=True))
    return Source(
        name=prepared.name,
        root=prepared.folder,
        path=tuple(path),
        tags=tuple(tags),
        label=tuple(label),
        family=tuple(family),
        splits=tuple(splits),
        flip=tuple(flip),
        licence=prepared.licence,
        attribution=prepared.attribution,
        problems=(),
        content_hash=prepared.content_hash,
        files=_Members(open_shards(prepared.folder), places),
    )


def places_of(prepared: PreparedSet, rows: Sequence[int]) -> Iterator[tuple[int, int]]:
    """The shard of each of these rows of the source, and the row's number in it."""
    end = np.cumsum(prepared.images_of_shards)
    for row in rows:
        shard = int(end.searchsorted(row, side="right"))
        yield shard, row - (int(end[shard - 1]) if shard else 0)


class _Members:
    """Access to the images of a set by path, from the offset, size, hash and shard of each."""

    def __init__(self, shards: Shards, places: dict[str, tuple[int, int, bytes, str]]) -> None:
        self.shards, self.places = shards, places

    def read(self, path: str) -> bytes:
        offset, size, content_hash, shard = self.places[path]
        return self.shards.read(shard, offset, size, content_hash)

    def stamp(self, path: str) -> list[int | str]:
        _, size, content_hash, _ = self.places[path]
        return [size, content_hash.hex()]
