"""The memory of `prepare --dedupe` per image: its step over a set of drawn fingerprints, of which none are near copies.

    python benchmarks/dedupe_memory.py 10000 200000 400000

Each size is measured in a process of its own; the difference of two sizes is without what the process needs anyway.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from underpaint.data.near_duplicates.fingerprints import PACKED_BYTES
from underpaint.preparation.deduplication import write_without_copies
from underpaint.preparation.partition_reader import ROWS

IMAGES_OF_PARTITION = 10_000


def main(sizes: list[int]) -> None:
    """Print the peak of each size, and the bytes an image from one size to the next."""
    peaks: list[int] = []
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            write_rows(Path(folder), size)
            done = subprocess.run(
                [sys.executable, __file__, "--measure", folder], check=True, stdout=subprocess.PIPE, text=True
            )
            peaks.append(int(done.stdout))
        print(f"{size:,} images: peak of {peaks[-1] / 2**20:,.0f} MiB", flush=True)
    for (first, last), (low, high) in zip(pairwise(sizes), pairwise(peaks), strict=True):
        print(f"from {first:,} to {last:,} images: {(high - low) / (last - first):,.0f} bytes an image")


def write_rows(folder: Path, images: int) -> None:
    """Rows of partitions as `prepare` writes them, with random hashes."""
    generator = np.random.default_rng(0)
    for partition in range(images // IMAGES_OF_PARTITION):
        count = IMAGES_OF_PARTITION

        def drawn(width: int, count: int = count) -> pa.Array:
            values = generator.integers(0, 256, (count, width), dtype=np.uint8)
            return pa.array([row.tobytes() for row in values], pa.binary(width))

        columns = {name: pa.nulls(count, ROWS.field(name).type) for name in ROWS.names}
        columns |= {
            "key": pa.array([f"{partition:05d}{number:04d}" for number in range(count)]),
            "source": pa.array(["photos"] * count),
            "shard": pa.array([f"shards/{partition:05d}.tar"] * count),
            "offset": pa.array(np.arange(count)),
            "size": pa.array(np.full(count, 100_000, dtype=np.int32)),
            "width": pa.array(np.full(count, 640, dtype=np.int32)),
            "height": pa.array(np.full(count, 480, dtype=np.int32)),
            "tags": pa.array([["dog", "oak"]] * count, pa.list_(pa.string())),
            "content_hash": drawn(16),
            "fingerprint": drawn(PACKED_BYTES),
        }
        pq.write_table(pa.table(columns, ROWS), folder / f"{partition:05d}.parquet", compression="zstd")


def measure(folder: Path) -> int:
    """Peak resident bytes of this process after the step."""
    write_without_copies(sorted(folder.glob("*.parquet")), folder, folder / "deduped")
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        print(measure(Path(sys.argv[2])))
    else:
        main([int(size.replace("_", "")) for size in sys.argv[1:]] or [10_000, 200_000, 400_000])
