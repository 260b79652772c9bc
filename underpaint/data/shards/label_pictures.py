"""Small pictures of some labels of a prepared set, for the page that shows it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import TypedDict

import numpy as np
import xxhash
from PIL import Image

from underpaint.data.decode.image import preview
from underpaint.data.decode.limits import BadImage
from underpaint.data.shards.index import INDEX, read_labels
from underpaint.data.shards.shard_files import Patience, Shards
from underpaint.files import write_bytes

EXAMPLES = "examples.parquet"
ENDS = 12
"""Number of the most frequent labels that are shown, and of the rarest ones."""
PER_LABEL = 6
SIDE = 96
"""Largest side of a picture in pixels; pictures take some 3 kB each."""
MAX_GROUPS = 200
"""Largest number of shards from which pictures are taken; of more shards, evenly spaced ones are."""


class _Candidate(TypedDict):
    """A row of the index."""

    key: str
    shard: str
    offset: int
    size: int
    labels: list[int]
    content_hash: bytes


class _Picture(TypedDict):
    """A row of ``examples.parquet``."""

    label: int
    key: str
    image: bytes


def write_examples(folder: Path) -> int:
    """Write ``examples.parquet`` (label, key, a JPEG) into a prepared set; returns the number of pictures.

    The labels are the most frequent and the rarest ones. Their images are chosen by a hash of the keys, so that the
    same set shows the same pictures; images that cannot be read are skipped. A shard in an object store is not fetched
    for this.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    labels = [label for label, _ in read_labels(folder)]
    wanted = dict.fromkeys([*labels[:ENDS], *labels[-ENDS:]], 0)
    shards = Shards(folder, cache=folder, cache_bytes=0, patience=Patience(attempts=1))
    rows: list[_Picture] = []
    for candidate in _candidates(folder, list(wanted)):
        chosen = [label for label in candidate["labels"] if wanted.get(label, PER_LABEL) < PER_LABEL]
        frequent = sorted((label for label in chosen if label in labels[:ENDS]), key=lambda label: wanted[label])
        chosen = [label for label in chosen if label not in frequent[1:]]  # not one image for the whole head
        picture = _picture(shards, candidate) if chosen else b""
        for label in chosen if picture else ():
            wanted[label] += 1
            rows.append({"label": label, "key": candidate["key"], "image": picture})
        if all(count >= PER_LABEL for count in wanted.values()):
            break
    schema = pa.schema({"label": pa.int32(), "key": pa.string(), "image": pa.binary()})
    sink = BytesIO()
    pq.write_table(pa.Table.from_pylist(sorted(rows, key=lambda row: row["label"]), schema), sink)
    write_bytes(folder / EXAMPLES, sink.getvalue())
    return len(rows)


def _candidates(folder: Path, labels: Sequence[int]) -> Iterator[_Candidate]:
    """Rows of the index with one of these labels, shard by shard."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    index = folder / INDEX
    parts = sorted(index.glob("part-*.parquet")) if index.is_dir() else [index]
    groups = [(part, group) for part in parts for group in range(pq.read_metadata(part).num_row_groups)]
    for place in np.unique(np.linspace(0, len(groups) - 1, min(len(groups), MAX_GROUPS)).round().astype(int)):
        part, group = groups[place]
        with pq.ParquetFile(part) as file:
            table = file.read_row_group(group, columns=["key", "shard", "offset", "size", "labels", "content_hash"])
        owner = np.asarray(table["labels"].combine_chunks().value_parent_indices())
        rows = np.unique(owner[np.isin(table["labels"].combine_chunks().flatten().to_numpy(), labels)])
        chosen = table.take(pa.array(rows)).to_pylist()
        yield from sorted(chosen, key=lambda row: xxhash.xxh3_64_intdigest(row["key"].encode()))


def _picture(shards: Shards, row: _Candidate) -> bytes:
    """The image as a small JPEG; b"" where it cannot be read, or its shard is in an object store."""
    if "://" in row["shard"]:
        return b""
    try:
        return small_jpeg(shards.read(row["shard"], row["offset"], row["size"], row["content_hash"]))
    except (BadImage, OSError):
        return b""


def small_jpeg(data: bytes, side: int = SIDE) -> bytes:
    """The image as a JPEG of at most ``side`` pixels each way; raises BadImage."""
    image = Image.fromarray(preview(data, least=side))
    image.thumbnail((side, side))
    file = BytesIO()
    image.save(file, "JPEG", quality=80)
    return file.getvalue()
