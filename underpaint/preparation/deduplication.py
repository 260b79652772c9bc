"""Removal of copies within one set: exact ones across all its sources, and near ones such as the frames of a burst.

One image is kept of each picture: of near copies the one with the most pixels, of those the largest file, of those the
first in the order of the set, as of exact copies. It gets the tags of the copies left out, and the first of their
captions where it has none; its licence stays its own. A copy stays in its tar, and is listed in ``dropped.parquet``
with the reason and in ``copies.parquet`` beside the image that is kept for it.

No two near copies stand in different splits: they leave, or, where exact copies alone do, the file FAMILIES says which
images belong together.

This step holds about 1,100 bytes of every image in memory: 10 million images need 11 GB.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from underpaint.data.near_duplicates.fingerprints import PACKED_BYTES, PerceptualHashes, Views, fingerprint
from underpaint.data.near_duplicates.within_set import near_copies, near_families
from underpaint.data.tables.metadata import Metadata
from underpaint.files import new_folder
from underpaint.messages import say
from underpaint.preparation.arrow_files import read_table, write_table
from underpaint.preparation.families import FAMILIES, FAMILIES_SCHEMA, Dedupe
from underpaint.preparation.partition_reader import ROWS
from underpaint.preparation.samples import FOLDER_TAGS

COPIES = "copies.parquet"
REASONS = {"exact": "an exact copy of an image that is kept", "near": "a near copy of an image that is kept"}

_FORMAT = 3
"""Version of the rules for copies, raised with every change: copies found by older rules are sought again."""
_COLUMNS = ("key", "source", "shard", "offset", "size", "width", "height", "tags", "caption")
_IMAGE = pa.struct([ROWS.field(name) for name in _COLUMNS])
COPIES_SCHEMA = pa.schema(
    {
        "kind": pa.string(),
        "copy": _IMAGE,
        "kept": _IMAGE,
        "distance": pa.int32(),
        "difference": pa.float32(),
        "mirrored": pa.bool_(),
    }
)
"""Schema of one row per copy that is left out, with the image that is kept, both with their metadata before merging.

``kind`` is a key of REASONS. ``distance`` counts the bits of the hashes that differ and ``difference`` is that of the
pixels, from 0 to 1; both are 0 for exact copies.
"""


class ImageRow(TypedDict):
    """The columns of ``partition_reader.ROWS`` that deduplication uses; a row has all columns of ROWS."""

    key: str
    source: str
    shard: str
    offset: int
    size: int
    width: int
    height: int
    tags: list[str] | None
    keyword_paths: list[str]
    caption: str | None
    language: str | None
    class_name: str | None
    given_split: str | None
    problem: str | None
    flags: list[str]


class CopyRow(TypedDict):
    """A row of COPIES."""

    kind: Literal["exact", "near"]
    copy: ImageRow
    kept: ImageRow
    distance: int
    difference: float
    mirrored: bool


@dataclass(frozen=True, kw_only=True)
class _Copy:
    kept: int
    kind: Literal["exact", "near"]
    distance: int = 0
    difference: float = 0.0
    mirrored: bool = False


def folder_name(partitions: Sequence[str], dedupe: Dedupe) -> str:
    """The name of the folder that holds the rows of these partitions without copies."""
    return f"dedupe-{xxhash.xxh3_64_hexdigest(repr([_FORMAT, dedupe, *partitions]).encode())}"


def write_without_copies(files: Sequence[Path], out: Path, target: Path, dedupe: Dedupe) -> None:
    """Write the rows of all partitions into the folder ``target``, with copies as rows with a ``problem``, and COPIES.

    ``files`` are the rows of the partitions in the order of the set; shards lie in ``out``. FAMILIES is written with
    it, and has rows where near copies stay.
    """
    images = _Images(files, out)
    say(f"Looking for copies among {images.count:,} images")
    exact = _exact_copies(images)
    copies = exact if dedupe == "exact" else _copies(images, exact)
    families = _families(images, exact) if dedupe == "exact" else FAMILIES_SCHEMA.empty_table()
    with new_folder(target) as part:
        rows = images.rows({*copies, *(copy.kept for copy in copies.values())})
        changed = _merged(rows, copies)
        by_file: dict[int, dict[int, ImageRow]] = {}
        for image, row in changed.items():
            by_file.setdefault(images.file_of(image), {})[images.row_of(image)] = row
        for number, file in enumerate(files):
            pq.write_table(_replaced(read_table(file), by_file.get(number, {})), part / file.name, compression="zstd")
        pairs: list[CopyRow] = [
            {
                "kind": copy.kind,
                "copy": rows[image],
                "kept": rows[copy.kept],
                "distance": copy.distance,
                "difference": copy.difference,
                "mirrored": copy.mirrored,
            }
            for image, copy in sorted(copies.items())
        ]
        pq.write_table(pa.Table.from_pylist(pairs, COPIES_SCHEMA), part / COPIES, compression="zstd")
        pq.write_table(families, part / FAMILIES, compression="zstd")


def write_copies(deduped: Path | None, out: Path) -> dict[str, int]:
    """Write COPIES into a set, or remove it where ``deduped`` is None.

    Returns the numbers left out, by kind, and as ``joined`` that of near copies that stay, in the split of another.
    """
    if deduped is None:
        (out / COPIES).unlink(missing_ok=True)
        return {}
    table = read_table(deduped / COPIES)
    write_table(table, out / COPIES)
    kinds = table["kind"].to_pylist()
    families = read_table(deduped / FAMILIES)["family"]
    return {kind: kinds.count(kind) for kind in REASONS} | {"joined": len(families) - len(families.unique())}


class _Images:
    """Sizes, hashes and places of all images of a set, numbered through the partitions."""

    def __init__(self, files: Sequence[Path], out: Path) -> None:
        self._files, self._out = files, out
        columns = ["problem", "shard", "offset", "size", "width", "height", "content_hash", "fingerprint"]
        tables = [read_table(file, columns) for file in files]
        used = [np.flatnonzero(table["problem"].is_null().to_numpy()) for table in tables]
        tables = [table.filter(table["problem"].is_null()) for table in tables]
        self._rows = np.concatenate([*used, np.zeros(0, dtype=np.int64)])
        self._starts = np.cumsum([0, *(len(rows) for rows in used)])
        self._shards = [table["shard"][0].as_py() if len(table) else "" for table in tables]
        table = pa.concat_tables(tables).combine_chunks()
        self.count = len(table)
        self.pixels = table["width"].to_numpy().astype(np.int64) * table["height"].to_numpy()
        self._offset, self.size = table["offset"].to_numpy(), table["size"].to_numpy()
        self.hashes = _packed(table["content_hash"], 16)
        self.prints = PerceptualHashes.unpacked(_packed(table["fingerprint"], PACKED_BYTES).tobytes())

    def file_of(self, image: int) -> int:
        return int(self._starts.searchsorted(image, side="right")) - 1

    def row_of(self, image: int) -> int:
        """The number of an image's row in the table of its partition."""
        return int(self._rows[image])

    def rows(self, images: set[int]) -> dict[int, ImageRow]:
        """The rows of some images, without their fingerprints."""
        rows: dict[int, ImageRow] = {}
        by_file: dict[int, list[int]] = {}
        for image in sorted(images):
            by_file.setdefault(self.file_of(image), []).append(image)
        for number, members in by_file.items():
            table = read_table(self._files[number], [name for name in ROWS.names if name != "fingerprint"])
            for image, row in zip(
                members, table.take([self.row_of(image) for image in members]).to_pylist(), strict=True
            ):
                rows[image] = row
        return rows

    def views(self, images: Sequence[int]) -> Views:
        return fingerprint([self._read(image) for image in images]).views

    def _read(self, image: int) -> bytes:
        with (self._out / self._shards[self.file_of(image)]).open("rb") as shard:
            shard.seek(int(self._offset[image]))
            return shard.read(int(self.size[image]))


def _packed(column: pa.ChunkedArray, width: int) -> np.ndarray:
    """The column of fixed-width binary values as an array, without a copy where it has one chunk."""
    values = column.combine_chunks()
    if not len(values):
        return np.zeros(0, dtype=f"V{width}")
    return np.frombuffer(values.buffers()[1], dtype=f"V{width}", count=len(values), offset=values.offset * width)


def _replaced(table: pa.Table, rows: dict[int, ImageRow]) -> pa.Table:
    """The table with some rows replaced, by row number."""
    if not rows:
        return table
    return pa.Table.from_pylist([rows.get(place, row) for place, row in enumerate(table.to_pylist())], ROWS)


def _exact_copies(images: _Images) -> dict[int, _Copy]:
    """The images whose bytes an earlier image has."""
    _, first, inverse = np.unique(images.hashes, return_index=True, return_inverse=True)
    original = first[inverse]
    exact = np.flatnonzero(original != np.arange(images.count))
    return {image: _Copy(kept=int(original[image]), kind="exact") for image in exact.tolist()}


def _families(images: _Images, exact: dict[int, _Copy]) -> pa.Table:
    """The families of near copies among the images that stay, without those of one image."""
    rest = np.setdiff1d(np.arange(images.count), np.fromiter(exact, dtype=np.int64))
    first = near_families(images.prints.at(rest), lambda rows: images.views(rest[rows].tolist()))
    members = np.flatnonzero(np.bincount(first, minlength=len(first))[first] > 1)
    hashes = images.hashes[rest]
    columns = {"content_hash": members, "family": first[members]}
    return pa.table({name: [h.tobytes() for h in hashes[rows]] for name, rows in columns.items()}, FAMILIES_SCHEMA)


def _copies(images: _Images, copies: dict[int, _Copy]) -> dict[int, _Copy]:
    """The exact copies and the near ones, by number of the image."""
    rest = np.setdiff1d(np.arange(images.count), np.fromiter(copies, dtype=np.int64))
    order = rest[np.lexsort((-images.size[rest].astype(np.int64), -images.pixels[rest]))]
    near: dict[int, _Copy] = {}
    for copy in near_copies(images.prints.at(order), lambda rows: images.views(order[rows].tolist())):
        near[int(order[copy.row])] = _Copy(
            kept=int(order[copy.kept]),
            kind="near",
            distance=copy.distance,
            difference=copy.difference,
            mirrored=copy.mirrored,
        )
    # the bytes of an exact copy are those of its original: where that one leaves, both have one image kept for them
    return {image: near.get(copy.kept, copy) for image, copy in copies.items()} | near


def _merged(rows: dict[int, ImageRow], copies: dict[int, _Copy]) -> dict[int, ImageRow]:
    """The changed rows: a copy gets a problem and loses its tags, the image kept for it gets them."""
    changed: dict[int, ImageRow] = {
        image: {
            **rows[image],
            "key": _shown(rows[image]),
            "problem": REASONS[copies[image].kind],
            "tags": [],
            "keyword_paths": [],
        }
        for image in sorted(copies)
    }
    for image, copy in sorted(copies.items()):
        kept = changed.setdefault(copy.kept, {**rows[copy.kept]})
        copied: ImageRow = {**rows[image]}
        if _is_named_by_folder(kept) and copied["tags"] and not _is_named_by_folder(copied):
            kept["tags"], kept["flags"] = [], [flag for flag in kept["flags"] if flag != FOLDER_TAGS]
        elif _is_named_by_folder(copied) and kept["tags"] and not _is_named_by_folder(kept):
            copied["tags"] = []
        said = _said(kept).merged_with(_said(copied))
        kept["tags"], kept["caption"] = list(said.tags or ()), said.caption or None
        kept["keyword_paths"] = list(dict.fromkeys([*kept["keyword_paths"], *copied["keyword_paths"]]))
        kept["language"] = said.language or None
        kept["class_name"], kept["given_split"] = said.label or None, said.split
    return changed


def _is_named_by_folder(row: ImageRow) -> bool:
    """Whether its tags are names of folders, which are tags only where nobody gave others."""
    return FOLDER_TAGS in row["flags"]


def _shown(row: ImageRow) -> str:
    """The key as the table of images left out shows it, with the tar's name where the tar is read in place."""
    shard = Path(row["shard"])
    return f"{shard.name}/{row['key']}" if shard.is_absolute() else row["key"]


def _said(row: ImageRow) -> Metadata:
    return Metadata(
        tags=tuple(row["tags"] or ()),
        caption=row["caption"] or "",
        language=row["language"] or "",
        label=row["class_name"] or "",
        split=row["given_split"],
    )
