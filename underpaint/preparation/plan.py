"""Cutting of sources into partitions, the units that are read, written and restarted.

A partition's name is a hash of all that it is read from, so that a finished one is recognised whatever was added
elsewhere. Folders and tables are cut where a hash of the image's path says so, not after a fixed number: an image
more or less changes the one partition that it lies in. A tar is a partition by itself.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import xxhash

from underpaint.data.folders.listing import Listing
from underpaint.data.tables.metadata import NOTHING, Metadata
from underpaint.data.tables.table_file import TableFile, table_file
from underpaint.data.tables.tag_tables import TableRow, TagTable
from underpaint.preparation.arrow_files import write_table
from underpaint.preparation.inputs import PreparedFrom, passed_over, tar_files
from underpaint.tags.folder_names import tag_of_folder

FolderTags = Literal["none", "last", "first", "all"]
"""The folders of an image whose names are its tags where it has no others; ``last`` is the innermost one."""

READ_FORMAT = 5
"""Version of the partitions' rows, raised with every change of their content: older partitions are read again."""

MAX_PARTITION_BYTES = 256 * 1024**2
"""Largest total size in bytes of a partition's images, unless one alone is larger; it bounds the shards written."""

PLANNED = pa.schema(
    {
        "paths": pa.list_(pa.string()),
        "tags": pa.list_(pa.string()),
        "caption": pa.string(),
        "language": pa.string(),
        "licence": pa.string(),
        "folders": pa.list_(pa.string()),
        "problem": pa.string(),
    }
)
"""Schema of one row per image to read: its possible paths, its metadata from a table, tags from folders' names."""


@dataclass(frozen=True, kw_only=True)
class Partition:
    """A unit of work: one tar, or some images of a folder or table."""

    source: PreparedFrom
    digest: str
    tar: str = ""
    """Path of the shard that is read in place; "" where the planned rows are read."""

    @property
    def name(self) -> str:
        return f"{self.source.name}-{self.digest}"


@dataclass(frozen=True, slots=True)
class _Planned:
    """An image that is planned for a partition."""

    paths: tuple[str, ...]
    said: Metadata = NOTHING
    folders: tuple[str, ...] = ()
    problem: str = ""
    size: int = 0
    stamp: int = 0


def cut(
    source: PreparedFrom,
    *,
    listing: Listing | None,
    folder: Path,
    images: int,
    given: str,
    folder_tags: FolderTags = "last",
) -> Iterator[Partition]:
    """The partitions of a source, in a fixed order; their planned rows are written to ``folder``.

    ``listing`` is that of a folder. ``images`` is the average number of images per partition; ``given`` names the
    joined tables and the evaluation images that reading depends on. ``folder_tags`` chooses the folders whose names are
    tags of images without any.

    Raises:
        ValueError: where there is nothing to read.
    """
    if source.kind == "tars":
        yield from _tars(source, given)
        return
    any_chunk = any_file = False
    planned = _of_table(source) if listing is None else _of_folder(source, listing, folder_tags)
    for chunk in _chunks(planned, images):
        any_chunk = True
        any_file |= any(image.stamp for image in chunk)
        yield _write(chunk, source, folder=folder, given=given)
    if not any_chunk:
        raise ValueError(f"{source.path} holds no images; name a folder of images, a table of them, or tar shards")
    if not any_file and source.kind == "table":
        raise ValueError(
            f"no row of {source.path} names an image file in {source.root}; if the table is about images of other "
            f"sources, give it with --tags {shlex.quote(source.path)}"
        )


def _tars(source: PreparedFrom, given: str) -> Iterator[Partition]:
    for tar in tar_files(Path(source.path)):
        status = tar.stat()
        identity = [READ_FORMAT, source.name, str(tar), status.st_size, status.st_mtime_ns, given]
        yield Partition(source=source, digest=_digest(identity), tar=str(tar))


def _write(chunk: list[_Planned], source: PreparedFrom, *, folder: Path, given: str) -> Partition:
    rows = [
        {
            "paths": planned.paths,
            "tags": planned.said.tags,
            "caption": planned.said.caption,
            "language": planned.said.language,
            "licence": planned.said.licence,
            "folders": planned.folders,
            "problem": planned.problem or None,
        }
        for planned in chunk
    ]
    identity = [
        READ_FORMAT,
        source.name,
        source.path,
        given,
        rows,
        [(planned.size, planned.stamp) for planned in chunk],
    ]
    partition = Partition(source=source, digest=_digest(identity))
    file = folder / f"{partition.name}.parquet"
    if not file.is_file():
        write_table(pa.Table.from_pylist(rows, PLANNED), file)
    return partition


def _digest(identity: Sequence[object]) -> str:
    return xxhash.xxh3_64_hexdigest(json.dumps(identity, ensure_ascii=True).encode())


def _chunks(planned: Iterable[_Planned], images: int) -> Iterator[list[_Planned]]:
    """Cut the images where a path's hash decides: after ``images`` on average, between a quarter and four times that.

    A chunk also ends before MAX_PARTITION_BYTES.
    """
    chunk: list[_Planned] = []
    size = 0
    fewest = max(images // 4, 1)
    for image in planned:
        if chunk and (len(chunk) >= 4 * images or size + image.size > MAX_PARTITION_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(image)
        size += image.size
        if len(chunk) >= fewest and _path_hash(image.paths[0]) % max(images - fewest, 1) == 0:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _path_hash(path: str) -> int:
    return xxhash.xxh3_64_intdigest(path.encode("utf-8", "backslashreplace"))


def _of_folder(source: PreparedFrom, listing: Listing, folder_tags: FolderTags) -> Iterator[_Planned]:
    """The images in a folder and its sub-folders, sorted, with the tags that the names of their folders give.

    A folder whose images have a table of tags, and one that all images lie in, gives none.
    """
    root = source.root
    sidecars = set(listing.sidecars)
    tags = [folder_names(path, folder_tags) for path in listing.images]
    are_tags = not source.table and len(set(tags)) > 1
    for path, names in zip(listing.images, tags, strict=True):
        if not _is_utf_8(path):
            yield _Planned((ascii(path)[1:-1],), problem="its name is not UTF-8")
            continue
        size, stamp = _size_and_stamp(root, path, sidecars)
        yield _Planned((path,), folders=names if are_tags else (), size=size, stamp=stamp)
    for problem in (*listing.links, *passed_over(source, listing)):
        key = problem.key if _is_utf_8(problem.key) else ascii(problem.key)[1:-1]
        yield _Planned((key,), problem=problem.reason)


def folder_names(path: str, which: FolderTags) -> tuple[str, ...]:
    """The tags of an image from the names of the folders that it lies in, the innermost folder first."""
    names = [tag for name in reversed(path.split("/")[:-1]) if (tag := tag_of_folder(name))]
    chosen = {"none": [], "last": names[:1], "first": names[-1:], "all": names}[which]
    return tuple(dict.fromkeys(chosen))


def _size_and_stamp(root: Path, path: str, sidecars: Collection[str]) -> tuple[int, int]:
    """Size in bytes and last change in ns of an image with the files beside it that describe it."""
    stem = path.rpartition(".")[0]
    beside = [name for end in (".json", ".txt", ".xmp") for name in (stem + end, path + end) if name in sidecars]
    stats = [(root / name).stat() for name in (path, *beside)]
    return sum(status.st_size for status in stats), max(status.st_mtime_ns for status in stats)


def _is_utf_8(path: str) -> bool:
    return not any("\udc80" <= letter <= "\udcff" for letter in path)


def _of_table(source: PreparedFrom) -> Iterator[_Planned]:
    """The images that a table names, in its order; several rows of an image are merged."""
    table = table_file(source.path)
    several = _rows_of_repeated_images(table)
    for row in _rows(table):
        if not row.paths:
            yield _Planned((", ".join(row.keys),), problem=row.refusal or "a row without a path")
            continue
        said = several.get(row.paths[0], row.said)
        if said is None:
            continue  # told with the first row of this image
        if row.paths[0] in several:
            several[row.paths[0]] = None
        size, stamp = _first_there(source.root, row.paths)
        yield _Planned(row.paths, said=said, problem=row.refusal, size=size, stamp=stamp)


def _rows(table: TableFile) -> Iterator[TableRow]:
    for block in TagTable(table).rows():
        yield from block


def table_paths(table: TableFile) -> Iterator[str]:
    """The first path of each row of a table."""
    return (row.paths[0] for row in _rows(table) if row.paths)


def _rows_of_repeated_images(table: TableFile) -> dict[str, Metadata | None]:
    """The merged metadata of each image that has several rows, by its first path."""
    hashes = np.fromiter((_path_hash(row.paths[0]) for row in _rows(table) if row.paths), dtype=np.uint64)
    values, counts = np.unique(hashes, return_counts=True)
    wanted = set(values[counts > 1].tolist())
    said: dict[str, Metadata | None] = {}
    for row in _rows(table) if wanted else ():
        if row.paths and _path_hash(row.paths[0]) in wanted:
            said[row.paths[0]] = (said.get(row.paths[0]) or NOTHING).merged_with(row.said)
    return said


def _first_there(root: Path, paths: tuple[str, ...]) -> tuple[int, int]:
    """Size in bytes and modification time in ns of the first file that exists; zeros where none does."""
    for path in paths:
        try:
            status = (root / path).stat()
        except (OSError, ValueError):  # ValueError: a NUL in it
            continue
        return status.st_size, status.st_mtime_ns
    return 0, 0
