"""Tables and counts of the images that were left out, and of where tags were and were not read from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from underpaint.data.near_duplicates.exclusion import excluded_schema
from underpaint.preparation.arrow_files import read_table, replacing, write_table
from underpaint.preparation.fingerprinting import opened
from underpaint.preparation.partition_reader import WorkFolders
from underpaint.results.preparation import DroppedCounts, ExcludedCounts, TagOrigins

EXCLUDED = "excluded.parquet"

_DROPPED = pa.schema({"key": pa.string(), "source": pa.string(), "reason": pa.string()})


def problems(file: Path) -> Iterator[tuple[str, str, str]]:
    table = read_table(file, ["key", "source", "problem"])
    for row in table.filter(table["problem"].is_valid()).to_pylist():
        yield row["key"], row["source"], row["problem"]


def write_dropped(files: Sequence[Path], target: Path) -> DroppedCounts:
    """Write a table of the images left out and the reasons; returns their number and the 20 most frequent reasons."""
    reasons: Counter[str] = Counter()
    with replacing(target) as file, pq.ParquetWriter(file, _DROPPED, compression="zstd") as writer:
        for rows_file in files:
            rows = [dict(zip(_DROPPED.names, row, strict=True)) for row in problems(rows_file)]
            reasons.update(row["reason"] for row in rows)
            if rows:
                writer.write_table(pa.Table.from_pylist(rows, _DROPPED))
    return {"dropped": reasons.total(), "reasons": dict(sorted(reasons.most_common(20)))}


def write_excluded(files: Sequence[Path], work_folders: WorkFolders) -> list[ExcludedCounts]:
    """Write a table of the near duplicates of evaluation images that were left out; returns counts per set."""
    if work_folders.exclusion is None:
        (work_folders.out / EXCLUDED).unlink(missing_ok=True)
        return []
    pairs = [
        {"key": row["key"], **shown}
        for file in files
        for row in read_table(file, ["key", "shows"]).to_pylist()
        for shown in row["shows"] or ()
    ]
    table = pa.Table.from_pylist(pairs, excluded_schema())
    write_table(table, work_folders.out / EXCLUDED)
    return [
        {
            "name": counted.name,
            "images": counted.images,
            "unreadable_or_flat": counted.unreadable_or_flat,
            "duplicated": counted.duplicated,
            "removed": counted.removed,
        }
        for counted in opened(work_folders.exclusion).count(table)
    ]


def refusals(files: Sequence[Path]) -> dict[str, int]:
    """The 20 most frequent reasons why keywords were not read, with the number of images of each."""
    reasons: Counter[str] = Counter()
    for file in files:
        reasons.update(reason for row in read_table(file, ["refused"])["refused"].to_pylist() for reason in row or ())
    return dict(sorted(reasons.most_common(20)))


def tag_origins(files: Sequence[Path]) -> TagOrigins:
    """Numbers of images of the set by the flags that say where tags come from."""
    rows = (row for file in files for row in read_table(file, ["flags", "problem"]).to_pylist())
    flags = Counter(flag for row in rows if row["problem"] is None for flag in row["flags"] or ())
    return {
        "folder_tags": flags["folder_tags"],
        "newer_sidecar": flags["newer_sidecar"],
        "predicted_tags": flags["predicted_tags"],
    }
