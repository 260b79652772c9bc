"""An opened prepared set, with the sums of its shards in memory and rows read shard by shard."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from underpaint.data.shards.index import (
    CLASSES,
    FORMAT,
    INDEX,
    NO_FLIP,
    PREPARED,
    SHARDS,
    VOCABULARY,
    fixed_repeats,
    is_index_schema,
    shards_schema,
)
from underpaint.data.source import Split, Targets
from underpaint.files import read_json, reading_parquet
from underpaint.tags.vocabulary import Vocabulary

_COLUMNS = ("key", "offset", "size", "labels", "repeat", "split", "content_hash", "flags")


def is_prepared(folder: Path) -> bool:
    return (folder / PREPARED).is_file()


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """The rows of one shard, column by column."""

    shard: str
    keys: Any
    """Keys of the samples, a pyarrow.StringArray."""
    offset: np.ndarray
    size: np.ndarray
    first_label: np.ndarray
    """Index of each row's first label in ``labels``, and the length of ``labels``; shape (rows + 1,)."""
    labels: np.ndarray
    repeats: np.ndarray
    """Repeat factors in 1 / index.REPEAT_UNIT."""
    splits: tuple[frozenset[str], ...]
    """The sets of splits that occur, which ``split`` indexes for each row."""
    split: np.ndarray
    content_hash: np.ndarray
    """XXH3-128 of the images' bytes, uint8 of shape (rows, 16)."""
    flip: np.ndarray
    classes: np.ndarray
    """Class of each image, -1 for an image without one."""

    def __len__(self) -> int:
        return len(self.offset)

    def key(self, row: int) -> str:
        return self.keys[row].as_py()

    def labels_of(self, row: int) -> tuple[int, ...]:
        return tuple(self.labels[self.first_label[row] : self.first_label[row + 1]].tolist())

    def is_in(self, split: Split) -> np.ndarray:
        return np.array([split in names for names in self.splits], dtype=bool)[self.split]

    def has_target(self, targets: Targets) -> np.ndarray:
        """Whether each row has a target of this kind; true for all where ``targets`` is ``none``."""
        if targets == "none":
            return np.ones(len(self), dtype=bool)
        return self.classes >= 0 if targets == "class" else np.diff(self.first_label) > 0


class PreparedSet:
    """The prepared set in ``folder``, which must have the given ``content_hash``, if any, as in a worker process.

    Raises ValueError for a folder without a complete set, or with one that this version does not read.
    """

    def __init__(self, folder: Path, *, content_hash: str = "") -> None:
        about = read_about(folder)
        if content_hash not in ("", about["content_hash"]):
            raise ValueError(f"{folder} was prepared again while it was being read; start again")
        self.folder = folder
        self.name: str = about["name"]
        self.images: int = about["images"]
        self.content_hash: str = about["content_hash"]
        self.licence: str = about["licence"]
        self.attribution: str = about["attribution"]
        self._read_shards()
        self._files: OrderedDict[int, Any] = OrderedDict()

    def __reduce__(self) -> Any:
        return _reopened, (self.folder, self.content_hash)

    def __len__(self) -> int:
        """The number of shards."""
        return len(self._part)

    def _read_shards(self) -> None:
        import pyarrow.parquet as pq

        with reading_parquet(self.folder / SHARDS):
            table = pq.read_table(self.folder / SHARDS, schema=shards_schema(), use_threads=False).combine_chunks()
            table.validate(full=True)
        self._names = table["shard"].combine_chunks()
        self._part, self._group = (table[name].to_numpy() for name in ("part", "row_group"))
        self.images_of_shards = table["images"].to_numpy()
        splits = table["splits"].combine_chunks()
        self._of_split = {field.name: splits.flatten().field(field.name) for field in splits.type.value_type}
        self._of_shard = splits.value_parent_indices().to_numpy()

    def images_in(self, split: Split, *, labelled: bool) -> np.ndarray:
        """The number of images of each shard in a split, int64, counting all or only labelled ones."""
        return self._summed(split, "labelled" if labelled else "images")

    def repeats_in(self, split: Split, *, labelled: bool) -> np.ndarray:
        """The sum of repeat factors of the same images as ``images_in``, in 1 / index.REPEAT_UNIT."""
        return self._summed(split, "labelled_repeats" if labelled else "repeats")

    def most_labels(self, split: Split) -> int:
        """The largest number of labels of one image in the split."""
        return int(self._summed(split, "most_labels").max(initial=0))

    def _summed(self, split: Split, column: str) -> np.ndarray:
        chosen = np.array([name == split for name in self._of_split["split"].to_pylist()], dtype=bool)
        values = np.zeros(len(self), dtype=np.int64)
        values[self._of_shard[chosen]] = self._of_split[column].to_numpy()[chosen]
        return values

    def name_of(self, shard: int) -> str:
        return self._names[shard].as_py()

    def rows(self, shard: int) -> Rows:
        """The rows of a shard, from one row group, which takes milliseconds to read.

        Raises:
            ValueError: if the index is damaged.
        """
        file, group = self._file(int(self._part[shard])), int(self._group[shard])
        if not 0 <= group < file.num_row_groups:
            raise ValueError(f"{self.folder / INDEX} has {file.num_row_groups} row groups and no {group}: damaged")
        read = [*_COLUMNS, "class"] if "class" in file.schema_arrow.names else list(_COLUMNS)
        with reading_parquet(self.folder / INDEX):
            table = file.read_row_group(group, columns=read, use_threads=False)
            table.validate(full=True)
        name, count = self.name_of(shard), int(self.images_of_shards[shard])
        if len(table) != count:
            raise ValueError(f"{self.folder / INDEX} has {len(table)} rows of the shard {name}, not {count}: damaged")
        columns = {field: table[field].combine_chunks() for field in _COLUMNS}
        split, labels = columns["split"].dictionary_encode(), columns["labels"]
        return Rows(
            shard=name,
            keys=columns["key"],
            offset=columns["offset"].to_numpy(),
            size=columns["size"].to_numpy(),
            first_label=np.concatenate([[0], np.cumsum(labels.value_lengths().to_numpy())]),
            labels=labels.flatten().to_numpy(),
            repeats=fixed_repeats(columns["repeat"].to_numpy()),
            splits=tuple(frozenset(names.split("+")) for names in split.dictionary.to_pylist()),
            split=split.indices.to_numpy(),
            content_hash=np.frombuffer(b"".join(columns["content_hash"].to_pylist()), np.uint8).reshape(-1, 16),
            flip=_may_flip(columns["flags"]),
            classes=np.asarray(table["class"].fill_null(-1)) if "class" in read else np.full(count, -1, np.int32),
        )

    def captions(self, shard: int) -> list[tuple[str, str]]:
        """The caption and its language of each row of a shard, "" where there is none.

        Raises:
            ValueError: if the index is damaged.
        """
        file, group = self._file(int(self._part[shard])), int(self._group[shard])
        with reading_parquet(self.folder / INDEX):
            table = file.read_row_group(group, columns=["caption", "language"], use_threads=False)
            table.validate(full=True)
        columns = (table[name].fill_null("").to_pylist() for name in ("caption", "language"))
        return list(zip(*columns, strict=True))

    def _file(self, part: int) -> Any:
        """A part of the index with its footer read; the last few are cached."""
        import pyarrow.parquet as pq

        if part not in self._files:
            path = self.folder / INDEX
            with reading_parquet(path):
                file = pq.ParquetFile(path / f"part-{part:05d}.parquet" if path.is_dir() else path, memory_map=True)
            if not is_index_schema(file.schema_arrow):
                raise ValueError(f"{path} has other columns than an index of format {FORMAT}; prepare it again")
            self._files[part] = file
            if len(self._files) > 8:
                self._files.popitem(last=False)[1].close()
        self._files.move_to_end(part)
        return self._files[part]

    def scan(self) -> Iterator[Rows]:
        """Yield the rows of each shard in turn, without keeping them."""
        for shard in range(len(self)):
            yield self.rows(shard)

    @cached_property
    def classes(self) -> Vocabulary:
        """The classes of the transfer task with their numbers of images; empty where the set has none."""
        import pyarrow.parquet as pq

        if not (self.folder / CLASSES).is_file():
            return Vocabulary(labels=(), count=())
        table = pq.read_table(self.folder / CLASSES, columns=["class", "name", "count"]).sort_by("class")
        if table["class"].to_pylist() != list(range(len(table))):
            raise ValueError(f"{self.folder / CLASSES}: the classes are not 0 to {len(table) - 1}, each once")
        return Vocabulary(labels=tuple(table["name"].to_pylist()), count=tuple(table["count"].to_pylist()))

    def vocabulary(self) -> Vocabulary:
        """The names of the labels 0, 1, ... and their counts; a name used before gets its id in brackets.

        Raises:
            ValueError: if ids are missing or double.
        """
        import pyarrow.parquet as pq

        if not (self.folder / VOCABULARY).is_file():
            return Vocabulary(labels=(), count=())
        with reading_parquet(self.folder / VOCABULARY):
            table = pq.read_table(self.folder / VOCABULARY, columns=["label", "name", "count"]).sort_by("label")
            ids, names, count = (table[column].to_pylist() for column in ("label", "name", "count"))
        if ids != list(range(len(ids))):
            raise ValueError(f"{self.folder / VOCABULARY}: the labels are not 0 to {len(ids) - 1}, each once")
        first: dict[str, int] = {}
        for label, name in enumerate(names):
            first.setdefault(name, label)
        labels = tuple(name if first[name] == label else f"{name} ({label})" for label, name in enumerate(names))
        return Vocabulary(labels=labels, count=tuple(count))


def read_about(folder: Path) -> dict[str, Any]:
    """The content of ``prepared.json``.

    Raises:
        ValueError: if it is missing, of another format, or lacks a field.
    """
    if not is_prepared(folder):
        raise ValueError(f"{folder} holds no prepared set ({PREPARED} is missing); make one with underpaint prepare")
    about = read_json(folder / PREPARED)
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise ValueError(f"{folder / PREPARED}: this version reads sets of format {FORMAT}; prepare the images again")
    kinds = {"name": str, "images": int, "content_hash": str, "licence": str, "attribution": str}
    if wrong := [name for name, kind in kinds.items() if not isinstance(about.get(name), kind)]:
        raise ValueError(
            f"{folder / PREPARED}: {', '.join(wrong)} is missing or not of type {kinds[wrong[0]].__name__}"
        )
    return about


def _may_flip(flags: Any) -> np.ndarray:
    flip = np.ones(len(flags), dtype=bool)
    for row, word in zip(flags.value_parent_indices().to_pylist(), flags.flatten().to_pylist(), strict=True):
        flip[row] &= word != NO_FLIP
    return flip


def _reopened(folder: Path, content_hash: str) -> PreparedSet:
    return PreparedSet(folder, content_hash=content_hash)
