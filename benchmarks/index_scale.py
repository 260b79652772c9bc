"""Cost of opening a prepared set and of looking into it, from a million to three billion samples.

    python benchmarks/index_scale.py [--folder DIR]

The index is synthetic: shards of 10,000 rows with keys, five labels on average, repeat factors and hashes that do not
compress. One part of 256 shards is written; larger sets are the same file under several names, so that three billion
rows need no 200 GB, with a ``shards.parquet`` of their own and full size. Each size is opened in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROWS = 10_000
PART = 256
SIZES = (1_000_000, 10_000_000, 100_000_000, 3_000_000_000)
BATCH = 4096
LIMIT_OPEN_S, LIMIT_MIB, LIMIT_WARM_US = 5.0, 150.0, 50.0


def write_part(folder: Path) -> None:
    """One part of the index, written as `underpaint prepare` would."""
    import numpy as np
    import pyarrow as pa

    from underpaint.data.shards.index import IndexWriter

    rng = np.random.default_rng(0)
    with IndexWriter(folder) as writer:
        for shard in range(PART):
            count = rng.integers(0, 11, ROWS)
            labels = pa.ListArray.from_arrays(
                pa.array(np.concatenate([[0], count.cumsum()]), pa.int32()),
                pa.array(rng.integers(0, 28_000, count.sum()), pa.int32()),
            )
            size = rng.integers(40_000, 160_000, ROWS)
            columns: dict[str, Any] = {
                "key": [f"{shard * ROWS + row:012d}" for row in range(ROWS)],
                "source": ["synthetic"] * ROWS,
                "shard": [f"shards/{shard:06d}.tar"] * ROWS,
                "offset": np.concatenate([[512], 512 + (size + 1024).cumsum()[:-1]]),
                "size": size,
                "width": rng.integers(400, 1600, ROWS),
                "height": rng.integers(400, 1600, ROWS),
                "labels": labels,
                "repeat": 1 + rng.random(ROWS) * (rng.random(ROWS) < 0.5),
                "caption": pa.nulls(ROWS, pa.string()),
                "language": ["en"] * ROWS,
                "split": np.where(rng.random(ROWS) < 0.01, "heldout", "pretrain"),
                "content_hash": pa.array([rng.bytes(16) for _ in range(ROWS)], pa.binary(16)),
                "perceptual_hash": rng.integers(0, 2**63, ROWS),
                "licence": pa.nulls(ROWS, pa.string()),
                "flags": pa.array([[]] * ROWS, pa.list_(pa.string())),
            }
            writer.add(pa.table(columns))
        writer.finish(name="synthetic", licence="none", attribution="none")


def enlarge(part: Path, folder: Path, samples: int) -> None:
    """The set of so many samples: the part under as many names as it needs."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    shards = samples // ROWS
    table = pq.read_table(part / "shards.parquet")
    many = pa.concat_tables([table] * -(-shards // PART)).slice(0, shards).combine_chunks()
    columns = {"shard": pa.array([f"shards/{shard:06d}.tar" for shard in range(shards)])}
    columns["part"] = pa.array([shard // PART for shard in range(shards)], pa.int32())
    for name, column in columns.items():
        many = many.set_column(many.column_names.index(name), name, column)
    (folder / "index.parquet").mkdir(parents=True)
    for number in range(-(-shards // PART)):
        os.link(part / "index.parquet", folder / "index.parquet" / f"part-{number:05d}.parquet")
    pq.write_table(many, folder / "shards.parquet", compression="zstd")
    about = json.loads((part / "prepared.json").read_text()) | {"images": samples, "shards": shards}
    (folder / "prepared.json").write_text(json.dumps(about))


def resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def measure(folder: Path) -> dict[str, float]:
    """In a process of its own: times and memory beyond that of the imported libraries."""
    import pyarrow.parquet  # noqa: F401  # part of the empty process, as torch is

    from underpaint.data.shards.lanes import Lanes
    from underpaint.data.shards.prepared_set import PreparedSet
    from underpaint.data.shards.prepared_source import open_shards
    from underpaint.data.shards.shard_samples import Selection, ShardSampleIndex

    empty = resident_mib()
    start = time.perf_counter()
    prepared = PreparedSet(folder)
    items = ShardSampleIndex(
        prepared,
        open_shards(folder),
        Selection(split="pretrain", targets="tags", resampled=True),
        lanes=Lanes(),
        batch_size=BATCH,
        seed=0,
    )
    items.at(0)
    opened = time.perf_counter() - start
    after_open = resident_mib() - empty
    positions = list(range(5 * BATCH))
    for position in positions:
        items.at(position)
    warm = []
    for position in positions:
        begin = time.perf_counter()
        items.at(position)
        warm.append((time.perf_counter() - begin) * 1e6)
    epoch = items.order.samples_of(0)
    cold = []
    for position in random.Random(0).sample(range(epoch // 2, epoch - BATCH), 60):
        begin = time.perf_counter()
        items.at(position)
        cold.append((time.perf_counter() - begin) * 1e3)
    grown = resident_mib() - empty
    begin = time.perf_counter()
    items.order.at(epoch + 2 * BATCH)
    return {
        "shards": len(prepared),
        "epoch": epoch,
        "open_s": opened,
        "open_mib": after_open,
        "grown_mib": grown,
        "warm_us": statistics.median(warm),
        "warm_p95_us": sorted(warm)[len(warm) * 95 // 100],
        "cold_ms": statistics.median(cold),
        "new_epoch_ms": (time.perf_counter() - begin) * 1e3,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=None, help="where the sets are made (default: temporary)")
    parser.add_argument("--measure", type=Path, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure)))
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        root = options.folder or Path(temporary)
        if not (root / "part" / "prepared.json").is_file():
            write_part(root / "part")
        failed = False
        print(f"{'samples':>14} {'shards':>8} {'open s':>7} {'open MiB':>9} {'in use MiB':>10} {'warm us':>8} ", end="")
        print(f"{'p95':>6} {'cold ms':>8} {'new epoch ms':>12}")
        for samples in SIZES:
            folder = root / str(samples)
            if not folder.exists():
                enlarge(root / "part", folder, samples)
            said = subprocess.run(
                [sys.executable, __file__, "--measure", str(folder)], capture_output=True, text=True, check=True
            )
            found = json.loads(said.stdout)
            print(f"{samples:>14,} {found['shards']:>8,} {found['open_s']:>7.2f} {found['open_mib']:>9.1f} "
                  f"{found['grown_mib']:>10.1f} {found['warm_us']:>8.1f} {found['warm_p95_us']:>6.1f} "
                  f"{found['cold_ms']:>8.2f} {found['new_epoch_ms']:>12.1f}")  # fmt: skip
            failed |= samples <= 10_000_000 and found["open_s"] > LIMIT_OPEN_S
            failed |= samples <= 100_000_000 and found["grown_mib"] > LIMIT_MIB
            failed |= found["warm_us"] > LIMIT_WARM_US
    print(f"limits: open {LIMIT_OPEN_S} s at 10 million, {LIMIT_MIB} MiB up to 100 million, {LIMIT_WARM_US} us warm: "
          f"{'MISSED' if failed else 'kept'}")  # fmt: skip
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
