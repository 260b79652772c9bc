"""The index of a prepared set: one row per image, and one row per shard with the sums that the order needs.

``index.parquet`` has one row group per shard, so that a sample among billions is found from the sums of the shards and
by reading one row group. It is a file, or a folder of files ``part-00000.parquet`` where there are many shards: the
footer of a Parquet file is read whole, and would else grow with the set. ``shards.parquet`` holds sums per shard;
``prepared.json`` is written last and makes the set whole. See docs/formats.md.
"""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
import xxhash

from underpaint.data.source import SPLITS
from underpaint.files import reading_parquet, sync_file, sync_folder, write_json

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

FORMAT = 1
PREPARED = "prepared.json"
INDEX, SHARDS, VOCABULARY = "index.parquet", "shards.parquet", "vocabulary.parquet"
CLASSES = "classes.parquet"
"""Optional table of the transfer task's classes, by name: ``class`` (int32, from 0 on), ``name``, ``count``."""

REPEAT_UNIT = 1 << 24
"""Number of units in a repeat factor of 1. Factors are whole numbers of units, so that sums of billions are exact, and
so are floor and ceil; every float32 of at least 1 is such a multiple."""
MOST_REPEATS = 32_768
SHARDS_OF_PART = 256
MOST_ROWS = 1_000_000
"""Largest number of rows of a shard, which are decoded at once."""

MAY_BE_MISSING = ("width", "height", "caption", "language", "perceptual_hash", "licence", "class")
NO_FLIP = "no_flip"
"""Flag of an image that may not be mirrored; the other flags do not change training."""


@functools.cache
def index_schema() -> pa.Schema:
    """The ``pyarrow.Schema`` of ``index.parquet``: one row per image.

    * ``key``: the name of the sample in its shard (``tar.Member.key``), once per shard;
    * ``source``: the name of the source that it was prepared from;
    * ``shard``: the tar, as a path in the set's folder with ``/``, an absolute path, or ``s3://``, ``gs://``, ``hf://``;
    * ``offset``, ``size``: the bytes of the image in the tar;
    * ``width``, ``height``: pixels as stored, before any EXIF rotation;
    * ``labels``: distinct ids of ``vocabulary.parquet``, in order of first appearance; empty for an image without any;
    * ``repeat``: its mean number of appearances in an epoch with resampling, above 0; 1 without;
    * ``split``: names of ``source.SPLITS`` joined by ``+``; empty for an image in no split;
    * ``content_hash``: XXH3-128 of the image's bytes, big-endian (``xxhash.xxh3_128(data).digest()``);
    * ``perceptual_hash``: 64 bits;
    * ``flags``: words; ``no_flip`` is known to the loader;
    * ``class``: id of ``classes.parquet``, null for an image without one; missing in older sets.
    """
    import pyarrow as pa

    def required(name: str, kind: pa.DataType) -> pa.Field:
        return pa.field(name, kind, nullable=name in MAY_BE_MISSING)

    text, whole = pa.string(), pa.int32()
    kinds = {
        "key": text,
        "source": text,
        "shard": text,
        "offset": pa.int64(),
        "size": whole,
        "width": whole,
        "height": whole,
        "labels": pa.list_(pa.field("element", whole, nullable=False)),
        "repeat": pa.float32(),
        "caption": text,
        "language": text,
        "split": text,
        "content_hash": pa.binary(16),
        "perceptual_hash": pa.uint64(),
        "licence": text,
        "flags": pa.list_(pa.field("element", text, nullable=False)),
        "class": whole,
    }
    return pa.schema([required(name, kind) for name, kind in kinds.items()])


def is_index_schema(schema: Any) -> bool:
    """Whether a file has these columns, or those of a set without classes."""
    return any(schema.equals(known) for known in (index_schema(), index_schema().remove(len(index_schema()) - 1)))


@functools.cache
def shards_schema() -> pa.Schema:
    """The ``pyarrow.Schema`` of ``shards.parquet``: one row per shard, in the order of the index.

    ``part`` and ``row_group`` are the place of its rows, ``digest`` is their hash. ``splits`` has an entry for each
    split with images in the shard: the number of images and the sum of their repeat factors in 1 / REPEAT_UNIT, both
    for all images and for those with a label, and the largest number of labels of one image.
    """
    import pyarrow as pa

    count = pa.int32()
    sums = {"images": count, "repeats": pa.int64(), "labelled": count, "labelled_repeats": pa.int64()}
    split = pa.struct({"split": pa.string(), **sums, "most_labels": count})
    columns = {"shard": pa.string(), "part": count, "row_group": count, "images": count, "digest": pa.binary(16)}
    return pa.schema({**columns, "splits": pa.list_(split)})


def fixed_repeats(repeat: np.ndarray) -> np.ndarray:
    """Repeat factors in whole multiples of 1 / REPEAT_UNIT, at least one of them."""
    return np.maximum(np.rint(repeat.astype(np.float64) * REPEAT_UNIT), 1).astype(np.int64)


class SplitSums(TypedDict):
    """The sums over the images of one split in a shard; see ``shards_schema``."""

    split: str
    images: int
    repeats: int
    labelled: int
    labelled_repeats: int
    most_labels: int


class ShardRow(TypedDict):
    """A row of ``shards.parquet``."""

    shard: str
    part: int
    row_group: int
    images: int
    digest: bytes
    splits: list[SplitSums]


class IndexWriter:
    """Writes the index of a set, shard by shard; the set is complete when ``finish`` returns.

    ``finish`` replaces an older index of the folder; a process killed during it leaves a folder that cannot be opened.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._part = folder / f"{INDEX}.part"
        shutil.rmtree(self._part, ignore_errors=True)
        self._part.mkdir(parents=True)
        self._rows: list[ShardRow] = []
        self._names: set[str] = set()
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> IndexWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        shutil.rmtree(self._part, ignore_errors=True)

    def add(self, table: pa.Table) -> None:
        """Add the rows of one shard, a table with the columns of ``index_schema``; they are sorted by offset here.

        Raises:
            ValueError: if the rows are not of one shard, or hold an invalid value.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        if "class" not in table.column_names:
            table = table.append_column("class", pa.nulls(len(table), pa.int32()))
        rows = table.select(index_schema().names).cast(index_schema()).combine_chunks().sort_by("offset")
        name = _check(rows)
        if name in self._names:
            raise ValueError(f"the shard {name} was added before; add all its rows at once")
        number, group = divmod(len(self._rows), SHARDS_OF_PART)
        if group == 0:
            if self._writer is not None:
                self._writer.close()
            how: dict[str, Any] = {"compression": "zstd", "write_statistics": ["key", "shard"]}
            how["use_dictionary"] = ["source", "shard", "language", "split", "licence"]
            self._writer = pq.ParquetWriter(self._part / f"part-{number:05d}.parquet", index_schema(), **how)
        assert self._writer is not None
        self._writer.write_table(rows, row_group_size=len(rows))
        self._names.add(name)
        self._rows.append(
            {
                "shard": name,
                "part": number,
                "row_group": group,
                "images": len(rows),
                "digest": _digest(rows),
                "splits": list(_sums(rows)),
            }
        )

    def finish(self, *, name: str, licence: str, attribution: str) -> None:
        """Move the index into place and write ``prepared.json``; images with labels need ``vocabulary.parquet`` before.

        Raises:
            ValueError: if no shard was added.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        if not self._rows:
            raise ValueError(f"{self.folder}: there is no shard with images")
        assert self._writer is not None
        self._writer.close()
        self._writer = None
        shards = pa.Table.from_pylist(self._rows, shards_schema())
        pq.write_table(shards, self._part / SHARDS, compression="zstd")
        (self.folder / PREPARED).unlink(missing_ok=True)
        self._move(self._part / SHARDS, self.folder / SHARDS)
        parts = sorted(self._part.iterdir())
        self._move(self._part if len(parts) > 1 else parts[0], self.folder / INDEX)
        about = {"format": FORMAT, "name": name, "images": sum(row["images"] for row in self._rows)}
        about |= {"shards": len(self._rows), "content_hash": self._content_hash()}
        write_json(self.folder / PREPARED, about | {"licence": licence, "attribution": attribution})

    def _move(self, new: Path, old: Path) -> None:
        for file in [new, *new.iterdir()] if new.is_dir() else [new]:
            sync_file(file)
        if old.is_dir():
            shutil.rmtree(old)
        elif new.is_dir():
            old.unlink(missing_ok=True)
        os.replace(new, old)
        sync_folder(old.parent)

    def _content_hash(self) -> str:
        """The hash of the rows and the labels' names without the paths of shards, so that a set may be moved."""
        state = xxhash.xxh3_128(b"".join(row["digest"] for row in self._rows))
        for label, name in read_labels(self.folder):
            state.update(f"{label}\x1f{name}\n".encode())
        for label, name in read_labels(self.folder, CLASSES, column="class"):
            state.update(f"class {label}\x1f{name}\n".encode())
        return state.hexdigest()


def read_labels(folder: Path, file: str = VOCABULARY, *, column: str = "label") -> list[tuple[int, str]]:
    """The ids and names of ``vocabulary.parquet``, or of the classes; [] where there is no such file."""
    import pyarrow.parquet as pq

    if not (folder / file).is_file():
        return []
    with reading_parquet(folder / file):
        table = pq.read_table(folder / file, columns=[column, "name"])
    return list(zip(table[column].to_pylist(), table["name"].to_pylist(), strict=True))


def _check(rows: pa.Table) -> str:
    """The name of the shard of these rows.

    Raises:
        ValueError: if they are of several shards, or hold an invalid value.
    """
    import pyarrow.compute as pc

    names = rows["shard"].unique().to_pylist()
    if len(names) != 1:
        raise ValueError(f"the rows of one shard are written at a time, these are of {len(names)}: {names[:3]}")
    where = f"shard {names[0]}"
    if len(rows) > MOST_ROWS:
        raise ValueError(f"{where} has {len(rows)} images; at most {MOST_ROWS} are read, so make smaller shards")
    if len(rows["key"].unique()) != len(rows):
        raise ValueError(f"{where} has a key twice")
    if pc.min(rows["offset"]).as_py() < 0 or pc.min(rows["size"]).as_py() < 1:  # pyright: ignore[reportAttributeAccessIssue]
        raise ValueError(f"{where} has an image without bytes, or before the start of the tar")
    repeat = rows["repeat"].to_numpy()
    if not ((repeat > 0) & (repeat <= MOST_REPEATS)).all():
        raise ValueError(f"{where} has repeat factors outside ]0, {MOST_REPEATS}]")
    for split in rows["split"].unique().to_pylist():
        if not set(split.split("+") if split else ()) <= set(SPLITS):
            raise ValueError(f"{where} has images of the split {split!r}; splits are {', '.join(SPLITS)}, joined by +")
    return names[0]


def _digest(rows: pa.Table) -> bytes:
    """The hash of all values of the rows that training depends on."""
    labels = rows["labels"].combine_chunks()
    state = xxhash.xxh3_128()
    for column in (rows["key"], rows["split"]):
        state.update("\n".join(column.to_pylist()).encode() + b"\0")
    state.update(b"".join(rows["content_hash"].to_pylist()))
    state.update(np.asarray(labels.value_lengths(), dtype="<i4").tobytes())
    state.update(np.asarray(labels.flatten(), dtype="<i4").tobytes())
    state.update(fixed_repeats(rows["repeat"].to_numpy()).astype("<i8").tobytes())
    state.update("\n".join(" ".join(sorted(flags)) for flags in rows["flags"].to_pylist()).encode())
    if rows["class"].null_count < len(rows):
        state.update(np.asarray(rows["class"].fill_null(-1), dtype="<i4").tobytes())
    return state.digest()


def _sums(rows: pa.Table) -> Iterator[SplitSums]:
    split = np.array(rows["split"].to_pylist(), dtype=str)
    repeats = fixed_repeats(rows["repeat"].to_numpy())
    labels = np.asarray(rows["labels"].combine_chunks().value_lengths())
    for name in SPLITS:
        values, value = np.unique(split, return_inverse=True)
        chosen = np.array([name in splits.split("+") for splits in values])[value]
        if chosen.any():
            labelled = chosen & (labels > 0)
            yield {
                "split": name,
                "images": int(chosen.sum()),
                "repeats": int(repeats[chosen].sum()),
                "labelled": int(labelled.sum()),
                "labelled_repeats": int(repeats[labelled].sum()),
                "most_labels": int(labels[chosen].max()),
            }
