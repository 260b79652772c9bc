"""Reading of one partition, planned images or a tar, into a table of rows, with a new shard for loose images.

The table is written last and marks the partition as done. An image that cannot be used stays in it as a row with a
``problem``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from underpaint.data.near_duplicates.fingerprints import PACKED_BYTES
from underpaint.data.shards.tar import Member, list_members
from underpaint.data.tables.metadata import Metadata
from underpaint.preparation.arrow_files import read_table, replacing, write_table
from underpaint.preparation.fingerprinting import checked
from underpaint.preparation.image_names import names_of_path, names_of_sample
from underpaint.preparation.joining import JoinedTable, read_joined
from underpaint.preparation.plan import Partition
from underpaint.preparation.samples import (
    LeftOut,
    Sample,
    read_file,
    read_member,
)
from underpaint.preparation.settings import WORK
from underpaint.preparation.shard_writer import MAX_KEY_BYTES, ShardWriter

SHOWS = pa.struct(
    {
        "set": pa.string(),
        "path": pa.string(),
        "distance": pa.int32(),
        "difference": pa.float32(),
        "mirrored": pa.bool_(),
    }
)
ROWS = pa.schema(
    {
        "key": pa.string(),
        "source": pa.string(),
        "shard": pa.string(),
        "offset": pa.int64(),
        "size": pa.int32(),
        "width": pa.int32(),
        "height": pa.int32(),
        "tags": pa.list_(pa.string()),
        "keyword_paths": pa.list_(pa.string()),
        "class_name": pa.string(),
        "given_split": pa.string(),
        "caption": pa.string(),
        "language": pa.string(),
        "licence": pa.string(),
        "content_hash": pa.binary(16),
        "perceptual_hash": pa.uint64(),
        "fingerprint": pa.binary(PACKED_BYTES),
        "flags": pa.list_(pa.string()),
        "refused": pa.list_(pa.string()),
        "problem": pa.string(),
        "shows": pa.list_(SHOWS),
    }
)
"""Schema of one row per image, before labels; an image left out has only ``key``, ``source``, ``problem``, ``shows``.
"""


@dataclass(frozen=True, kw_only=True)
class WorkFolders:
    """The folders that partitions are read from and written to."""

    out: Path
    tables: Mapping[str, tuple[JoinedTable, ...]] = field(default_factory=dict)
    """The tables that are joined to the images, by name of the source; earlier tables take precedence."""
    exclusion: Path | None = None
    """Folder with the fingerprints of the evaluation images whose near duplicates are left out; None without any."""
    deduped: Path | None = None
    """Folder of the partitions' rows after copies are left out; None where copies are kept."""

    @property
    def work(self) -> Path:
        return self.out / WORK

    @property
    def planned(self) -> Path:
        return self.work / "planned"

    @property
    def rows(self) -> Path:
        return self.work / "rows"

    @property
    def used(self) -> Path:
        """The folder of the rows from which the set is made."""
        return self.deduped or self.rows

    @property
    def joined(self) -> Path:
        return self.work / "joined"

    @property
    def matched(self) -> Path:
        """The folder of files that list, per partition, the rows of the tables that match its images."""
        return self.work / "matched"

    @property
    def shards(self) -> Path:
        return self.out / "shards"

    def rows_of(self, partition: Partition) -> Path:
        return self.rows / f"{partition.name}.parquet"


def read_partition(partition: Partition, work_folders: WorkFolders) -> dict[str, int]:
    """Write the rows of a partition; returns the numbers of images and of those left out.

    Raises:
        OSError: if the rows cannot be written, or a tar cannot be opened.
    """
    rows = list(_of_tar(partition, work_folders) if partition.tar else _of_files(partition, work_folders))
    table = pa.Table.from_pylist(rows, ROWS)
    write_table(table, work_folders.rows_of(partition))
    return {"images": table["problem"].null_count, "dropped": len(table) - table["problem"].null_count}


def _of_files(partition: Partition, work_folders: WorkFolders) -> Iterator[dict[str, Any]]:
    """Copy the planned images into a new shard and yield their rows; no shard stays if no image can be used."""
    planned = read_table(work_folders.planned / f"{partition.name}.parquet").to_pylist()
    names = [name for row in planned for path in row["paths"] for name in names_of_path(path)]
    joined = _joined(partition, work_folders, names)
    samples = (read_file(partition.source.root, row, joined) for row in planned)
    shard = work_folders.shards / f"{partition.name}.tar"
    taken: set[str] = set()
    with replacing(shard) as file:
        writer = ShardWriter(file)
        for sample in checked(samples, work_folders.exclusion):
            if isinstance(sample, LeftOut):
                yield _left_out(sample, partition, sample.name)
                continue
            key = _key(sample.name, taken, partition.digest)
            taken.add(key)
            offset = _copy(sample, key, writer)
            place = {"key": key, "shard": f"shards/{shard.name}", "offset": offset}
            yield _row(sample, partition) | place
        writer.finish()
    if not taken:
        shard.unlink()


def _copy(sample: Sample, key: str, writer: ShardWriter) -> int:
    offset = writer.add(f"{key}.{sample.header.extension}", sample.data)
    said = {"tags": list(sample.said.tags or ()), "caption": sample.said.caption, "path": sample.name}
    writer.add_json(f"{key}.json", said | {"language": sample.said.language, "licence": sample.said.licence})
    return offset


def _key(path: str, taken: set[str], digest: str) -> str:
    """A distinct key for a path: the path without its extension and without dots in its name (WebDataset layout).

    A path that is too long for a tar, or cannot be printed, gets a number instead; a key that is taken gets one added.
    """
    pure = PurePosixPath(path)
    plain = str(pure.with_name(pure.stem.replace(".", "_") or "_"))
    if len(plain.encode()) > MAX_KEY_BYTES or not plain.isprintable() or "\\" in plain:
        plain = f"{digest}-{len(taken):05d}"
    numbered = (plain if number == 1 else f"{plain}-{number}" for number in range(1, len(taken) + 2))
    return next(key for key in numbered if key not in taken)


def _of_tar(partition: Partition, work_folders: WorkFolders) -> Iterator[dict[str, Any]]:
    """Yield the rows of a tar's samples; the tar stays where it is."""
    tar = Path(partition.tar)
    name = tar.relative_to(partition.source.root).as_posix()
    with tar.open("rb") as file:
        members, problems = list_members(file, name)
        for problem in problems:
            yield _left_out(LeftOut(name=problem.key, reason=problem.reason), partition, problem.key)
        by_key: dict[str, list[Member]] = {}
        for member in members:
            by_key.setdefault(member.key, []).append(member)
        names = [word for sample in by_key.values() for word in names_of_sample(sample)]
        joined = _joined(partition, work_folders, names)
        for sample in checked(
            (read_member(file, members_of_key, joined) for members_of_key in by_key.values()), work_folders.exclusion
        ):
            if isinstance(sample, LeftOut):
                yield _left_out(sample, partition, f"{name}/{sample.name}")
            else:
                yield _row(sample, partition) | {"key": sample.name, "shard": str(tar), "offset": sample.offset}


def _row(sample: Sample, partition: Partition) -> dict[str, Any]:
    return {
        "source": partition.source.name,
        "size": len(sample.data),
        "width": sample.header.width,
        "height": sample.header.height,
        "tags": sample.said.tags or (),
        "keyword_paths": sample.keyword_paths,
        "class_name": sample.said.label or None,
        "given_split": sample.said.split,
        "caption": sample.said.caption or None,
        "language": sample.said.language or None,
        "licence": sample.said.licence or None,
        "content_hash": sample.header.content_hash,
        "perceptual_hash": sample.perceptual_hash,
        "fingerprint": sample.fingerprint,
        "flags": (*sample.header.flags, *sample.flags),
        "refused": sample.refused,
    }


def _left_out(sample: LeftOut, partition: Partition, key: str) -> dict[str, Any]:
    return {"key": key, "source": partition.source.name, "problem": sample.reason, "shows": list(sample.shows)}


def _joined(partition: Partition, work_folders: WorkFolders, names: list[str]) -> dict[str, Metadata]:
    """The tables' metadata by name, for these names; the rows used are written to the folder ``matched``."""
    joined, matched = read_joined(work_folders.tables[partition.source.name], names)
    write_table(matched, work_folders.matched / f"{partition.name}.parquet")
    return joined
