"""A small prepared set, written here without `underpaint prepare`: real tars, the index, the vocabulary."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from PIL import Image

from support.image_files import encoded, noise
from underpaint.data.shards.index import IndexWriter
from underpaint.data.shards.tar import list_members

NAMES = ("red", "green", "blue", "wide")


def image_bytes(number: int, *, format: str = "png", size: tuple[int, int] = (12, 10)) -> bytes:
    """Noise of its own for each number."""
    return encoded(Image.fromarray(noise(number, size)), format)


def write_tar(file: Path, members: Sequence[tuple[str, bytes]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w") as tar:
        for name, content in members:
            about = tarfile.TarInfo(name)
            about.size = len(content)
            tar.addfile(about, io.BytesIO(content))


def rows_of(tar: Path, shard: str, **columns: Any) -> pa.Table:
    """The index rows of the images of a tar; further columns as lists, else plain ones."""
    with tar.open("rb") as file:
        members = [one for one in list_members(file, shard)[0] if one.extension not in ("json", "txt", "cls")]
        contents = []
        for one in members:
            file.seek(one.offset)
            contents.append(file.read(one.size))
    n = len(members)
    plain: dict[str, Any] = {
        "key": [one.key for one in members],
        "source": ["test"] * n,
        "shard": [shard] * n,
        "offset": [one.offset for one in members],
        "size": [one.size for one in members],
        "width": [10] * n,
        "height": [12] * n,
        "labels": [[]] * n,
        "repeat": [1.0] * n,
        "caption": pa.nulls(n, pa.string()),
        "language": pa.nulls(n, pa.string()),
        "split": ["pretrain"] * n,
        "content_hash": pa.array([xxhash.xxh3_128(content).digest() for content in contents], pa.binary(16)),
        "perceptual_hash": pa.nulls(n, pa.uint64()),
        "licence": pa.nulls(n, pa.string()),
        "flags": [[]] * n,
    }
    return pa.table(plain | columns)


def prepare_example(folder: Path, *, sizes: Sequence[int] = (30, 17, 40, 1, 25), address: str = "") -> list[pa.Table]:
    """A set of shards of these sizes in ``folder``, called ``address``/NAME in the index; the rows of each.

    Image k of all has the labels k % 4 and (k // 4) % 4, one in five has none; repeat factors from 1 to 4; one in ten
    is held out.
    """
    tables, number = [], 0
    (folder / "shards").mkdir(parents=True, exist_ok=True)
    vocabulary = {"label": [0, 1, 2, 3], "name": list(NAMES), "synset": [None] * 4, "count": [9] * 4}
    schema = {"label": pa.int32(), "name": pa.string(), "synset": pa.string(), "count": pa.int64()}
    pq.write_table(pa.table(vocabulary, pa.schema(schema)), folder / "vocabulary.parquet")
    with IndexWriter(folder) as writer:
        for shard, size in enumerate(sizes):
            numbers = range(number, number + size)
            name = f"shards/{shard:06d}.tar"
            write_tar(folder / name, [(f"{k:05d}.png", image_bytes(k)) for k in numbers])
            labels = [[] if k % 5 == 4 else list(dict.fromkeys([k % 4, k // 4 % 4])) for k in numbers]
            table = rows_of(
                folder / name,
                f"{address}/{shard:06d}.tar" if address else name,
                labels=labels,
                repeat=[1 + (k % 7) / 2 for k in numbers],
                split=["heldout" if k % 10 == 3 else "pretrain" for k in numbers],
                flags=[["no_flip"] if k % 3 == 0 else [] for k in numbers],
            )
            writer.add(table)
            tables.append(table)
            number += size
        writer.finish(name="example", licence="none", attribution="nobody")
    return tables
