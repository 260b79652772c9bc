"""Reading one partition: from planned images, or a tar, to one table of rows, and a shard where images are loose.

The table is written last and makes the partition done. What cannot be used stays in it as a row with a ``problem``, so
that nothing disappears without a reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from underpaint.data.embedded_tags import embedded_tags
from underpaint.data.limits import BadImage
from underpaint.data.tar import IMAGE_EXTENSIONS, MAX_IMAGE_BYTES, MAX_TEXT_BYTES, Member, list_members
from underpaint.files import xxh3
from underpaint.preparation import said
from underpaint.preparation.arrow_files import read_table, replacing, write_table
from underpaint.preparation.facts import Facts, examine
from underpaint.preparation.joining import as_path, said_by_name
from underpaint.preparation.plan import Partition
from underpaint.preparation.said import NOTHING, Said
from underpaint.preparation.settings import WORK
from underpaint.preparation.shard_writer import ShardWriter
from underpaint.preparation.sources import PreparedFrom

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
        "caption": pa.string(),
        "language": pa.string(),
        "licence": pa.string(),
        "content_hash": pa.binary(16),
        "flags": pa.list_(pa.string()),
        "problem": pa.string(),
    }
)
"""What is known of each image before labels; of one that is left out, its ``key``, ``source`` and ``problem``."""


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """The folders that partitions are read from and written to."""

    out: Path
    table: Path | None = None
    """What is joined to all partitions, as ``joining.join_table`` makes it."""

    @property
    def planned(self) -> Path:
        return self.out / WORK / "planned"

    @property
    def rows(self) -> Path:
        return self.out / WORK / "rows"

    @property
    def joined(self) -> Path:
        return self.out / WORK / "joined"

    def tables_of(self, source: PreparedFrom) -> list[Path]:
        """The joined tables; the one for all sources has the first word."""
        own = [self.joined / f"{xxh3(Path(source.table))}.parquet"] if source.table else []
        return [*([self.table] if self.table else []), *own]

    @property
    def shards(self) -> Path:
        return self.out / "shards"

    def rows_of(self, partition: Partition) -> Path:
        return self.rows / f"{partition.name}.parquet"


def read_partition(partition: Partition, workshop: Workshop) -> dict[str, int]:
    """Write the rows of a partition; how many images, and how many were left out.

    Raises:
        OSError: if the disk does not take what is written, or a tar cannot be opened.
    """
    rows = list(_of_tar(partition, workshop) if partition.tar else _of_files(partition, workshop))
    table = pa.Table.from_pylist(rows, ROWS)
    write_table(table, workshop.rows_of(partition))
    return {"images": table["problem"].null_count, "dropped": len(table) - table["problem"].null_count}


def _of_files(partition: Partition, workshop: Workshop) -> Iterator[dict[str, Any]]:
    """Copy the planned images into a shard of their own; there is none if not one can be used."""
    planned = read_table(workshop.planned / f"{partition.name}.parquet").to_pylist()
    joined = _joined(
        workshop.tables_of(partition.source),
        [name for row in planned for path in row["paths"] for name in _names(path)],
    )
    found = 0
    shard = workshop.shards / f"{partition.name}.tar"
    with replacing(shard) as file:
        writer = ShardWriter(file)
        for row in planned:
            read = _read_file(partition, row, joined)
            if isinstance(read, str):
                yield _left_out(row["paths"][0], partition, read)
                continue
            yield _copied(read, partition, key=f"{partition.digest}{found:05d}", writer=writer)
            found += 1
        writer.finish()
    if not found:
        shard.unlink()


@dataclass(frozen=True, slots=True)
class _Image:
    """One image with all that is said about it."""

    path: str
    data: bytes
    facts: Facts
    said: Said
    flags: tuple[str, ...] = ()


def _read_file(partition: Partition, row: Mapping[str, Any], joined: Mapping[str, Said]) -> _Image | str:
    """The image, or why it is left out."""
    if row["problem"]:
        return row["problem"]
    root = partition.source.root
    path = next((one for one in row["paths"] if (root / one).is_file()), "") if not _leaves(row["paths"][0]) else ""
    if not path:
        return "the path leaves the folder" if _leaves(row["paths"][0]) else "missing file"
    file = root / path
    if not file.resolve().is_relative_to(root.resolve()):
        return "a symbolic link that leads out of the folder"
    try:
        data = _bounded(file, MAX_IMAGE_BYTES)
        facts = examine(data)
    except BadImage as error:
        return str(error)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    own = Said(
        tags=None if row["tags"] is None else tuple(row["tags"]),
        caption=row["caption"],
        language=row["language"],
        licence=row["licence"],
    )
    beside, flags = _sidecars(file)
    words, more = _words(own.over(_looked_up(joined, _names(path))).over(beside), data, folder=row["folder"])
    return _Image(path, data, facts, words, (*flags, *more))


def _leaves(path: str) -> bool:
    return path.startswith(("/", "\\")) or path[1:2] == ":" or ".." in path.replace("\\", "/").split("/")


def _bounded(file: Path, most: int) -> bytes:
    """The content; one byte more than is allowed of what is too large."""
    with file.open("rb") as opened:
        return opened.read(most + 1)


def _sidecars(file: Path) -> tuple[Said, tuple[str, ...]]:
    """What ``photo.json`` and ``photo.txt``, or ``photo.jpg.json`` and ``photo.jpg.txt``, say."""
    told, flags = NOTHING, ()
    for read, extension in ((said.from_json, ".json"), (said.from_sidecar, ".txt")):
        for beside in (file.with_suffix(extension), file.with_name(file.name + extension)):
            if beside.is_file() and not beside.is_symlink():
                content = _bounded(beside, MAX_TEXT_BYTES)
                try:
                    told = told.over(read(content if len(content) <= MAX_TEXT_BYTES else b"\xff"))
                except ValueError:
                    flags = (*flags, "unread_sidecar")
    return told, flags


def _words(told: Said, data: bytes, *, folder: str) -> tuple[Said, tuple[str, ...]]:
    """With the keywords embedded in the image; hashtags of the caption, else the folder's name, where no tags are."""
    embedded = embedded_tags(data)
    together = told.over(Said(tags=said.distinct(embedded.tags)))
    if not together.tags:
        together = Said(tags=said.hashtags(told.caption) or ((folder,) if folder else ())).over(told)
    return together, ("unread_keywords",) if embedded.refused else ()


def _copied(image: _Image, partition: Partition, *, key: str, writer: ShardWriter) -> dict[str, Any]:
    offset = writer.add(f"{key}.{image.facts.extension}", image.data)
    told = {"tags": list(image.said.tags or ()), "caption": image.said.caption, "path": image.path}
    writer.add_json(f"{key}.json", told | {"language": image.said.language, "licence": image.said.licence})
    place = {"key": key, "source": f"{partition.source.name}/{image.path}", "shard": f"shards/{partition.name}.tar"}
    return _row(image, place | {"offset": offset})


def _row(image: _Image, place: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **place,
        "size": len(image.data),
        "width": image.facts.width,
        "height": image.facts.height,
        "tags": image.said.tags or (),
        "caption": image.said.caption or None,
        "language": image.said.language or None,
        "licence": image.said.licence or None,
        "content_hash": image.facts.content_hash,
        "flags": (*image.facts.flags, *image.flags),
    }


def _left_out(path: str, partition: Partition, reason: str) -> dict[str, Any]:
    return {"key": path, "source": f"{partition.source.name}/{path}", "problem": reason}


def _of_tar(partition: Partition, workshop: Workshop) -> Iterator[dict[str, Any]]:
    """The samples of a shard where it lies."""
    name = (
        Path(partition.tar).relative_to(partition.source.root).as_posix()
        if (Path(partition.source.path) != Path(partition.tar))
        else Path(partition.tar).name
    )
    with Path(partition.tar).open("rb") as file:
        members, problems = list_members(file, name)
        for problem in problems:
            yield {"key": problem.key, "source": f"{partition.source.name}/{name}", "problem": problem.reason}
        samples: dict[str, list[Member]] = {}
        for member in members:
            samples.setdefault(member.key, []).append(member)
        joined = _joined(
            workshop.tables_of(partition.source),
            [name for sample in samples.values() for name in _sample_names(sample)],
        )
        for key, sample in samples.items():
            place = {"key": key, "source": f"{partition.source.name}/{name}", "shard": partition.tar}
            image = _read_sample(file, key, sample, joined)
            if isinstance(image, str):
                yield {"key": f"{name}/{key}", "source": place["source"], "problem": image}
            else:
                yield _row(image, place | {"offset": _image_of(sample).offset})


def _sample_names(sample: list[Member]) -> tuple[str, ...]:
    extensions = [member.extension for member in sample if member.extension in IMAGE_EXTENSIONS]
    return _names(sample[0].key, f".{extensions[0]}") if extensions else ()


def _image_of(sample: list[Member]) -> Member:
    return next(member for member in sample if member.extension in IMAGE_EXTENSIONS)


def _read_sample(file: BinaryIO, key: str, sample: list[Member], joined: Mapping[str, Said]) -> _Image | str:
    """The image of one sample, or why it is left out."""
    if not any(member.extension in IMAGE_EXTENSIONS for member in sample):
        return "the sample has no image"
    data = _content(file, _image_of(sample))
    try:
        facts = examine(data)
    except BadImage as error:
        return str(error)
    told, flags = _looked_up(joined, _sample_names(sample)), ()
    readers = {"json": said.from_json, "txt": said.from_caption}
    for extension, read in readers.items():
        for member in (one for one in sample if one.extension == extension):
            try:
                told = told.over(read(_content(file, member)))
            except ValueError:
                flags = (*flags, "unread_sidecar")
    words, more = _words(told, data, folder="")
    return _Image(key, data, facts, words, (*flags, *more))


def _content(file: BinaryIO, member: Member) -> bytes:
    file.seek(member.offset)
    return file.read(member.size)


def _names(path: str, extension: str = "") -> tuple[str, ...]:
    """What a joined table may call an image: its path; or, in a column of keys, that without its extension, or the
    last word of it.
    """
    folder, slash, base = path.rpartition("/")
    stem = base if extension else base.rpartition(".")[0] or base
    return tuple(dict.fromkeys((as_path(f"{path}{extension}"), f"{folder}{slash}{stem}", stem)))


def _looked_up(joined: Mapping[str, Said], names: tuple[str, ...]) -> Said:
    told = NOTHING
    for name in names:
        told = told.over(joined.get(name, NOTHING))
    return told


def _joined(tables: list[Path], names: list[str]) -> dict[str, Said]:
    """What the joined tables say about any of these names."""
    found: dict[str, Said] = {}
    wanted = list(dict.fromkeys(names))
    for table in tables:
        rows = pq.read_table(table, filters=[("name", "in", wanted)], use_threads=False).to_pylist() if wanted else []
        for name, told in said_by_name(rows).items():
            found[name] = found.get(name, NOTHING).over(told)
    return found
