"""The ``data`` field of a run: which images, which of their labels, and how they are opened."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import torch
import xxhash

from underpaint import keyed_random
from underpaint.config import LATER, OPERATIONAL, SHORT
from underpaint.core import Batch, ImageInput, Inputs, LabelBatch, LabelInput
from underpaint.data.loader import Decoding, ImageStream, pad_labels, read_encoded, read_images
from underpaint.data.near_duplicates.removal import without_duplicates
from underpaint.data.open_source import open_source
from underpaint.data.quarantine import Quarantine
from underpaint.data.sample_index import SourceSampleIndex
from underpaint.data.shards.lanes import Lanes
from underpaint.data.shards.prepared_set import PreparedSet
from underpaint.data.shards.prepared_source import is_prepared_name, open_shards, places_of, prepared_source
from underpaint.data.shards.shard_files import Shards
from underpaint.data.shards.shard_samples import Selection, ShardSampleIndex, members_of, read_member
from underpaint.data.source import Problem, Source, Split
from underpaint.data.stream import Batching, Stream
from underpaint.tags.sampling import repeat_factors
from underpaint.tags.vocabulary import Vocabulary, count_vocabulary

HELDOUT_IMAGES = 1024
"""The held-out loss is measured on at most so many images: it is a curve, not a result."""

MAX_WORKERS = 256
"""Processes that one rank may start: more is a slip of the keyboard, and would take the machine down."""

Targets = Literal["none", "tags", "class"]


@dataclass(frozen=True, kw_only=True)
class ImageData:
    """Images with nothing, their tags or their class as the target."""

    # Paths may change when a run goes on, for a new mount point; what lies there may not.
    source: str = field(
        metadata=SHORT | OPERATIONAL
    )  # a collection's name; with a "/" or "." in front: a folder or set
    # File of the folder's tags; "" takes DIR/tags.csv or .parquet where there is one.
    tags: str = field(default="", metadata=OPERATIONAL)
    labels: str = field(default="", metadata=OPERATIONAL)  # CSV path,class of the transfer task; "" takes class folders
    # Collections or folders joined by +, whose test images' near duplicates are not trained on.
    exclude: str = field(default="", metadata=OPERATIONAL)
    split: Split = "pretrain"
    targets: Targets = "none"
    # A prepared set has its vocabulary and repeat factors; of a folder's or a collection's tags they are counted:
    vocabulary_size: int = 28_000  # targets=tags: the most frequent tags that become labels
    min_tag_count: int = 1  # targets=tags: training images a tag must stand on
    resample: Literal["none", "sqrt"] = "none"  # repeat images with rare tags within an epoch (paper.md 1.2)
    resample_ratio: float = 5 / 3  # resample=sqrt: samples of an epoch per image (the paper's 5 billion from 3)
    scale: tuple[float, float] = (0.2, 1.0)  # area of the random crop
    share: float = field(default=1.0, metadata=LATER)  # of the split's families; smaller shares lie within larger
    lanes: Lanes = field(default=Lanes(), metadata=LATER)  # the order of a prepared set
    cache_gib: float = field(default=32.0, metadata=OPERATIONAL | LATER)  # local copies of shards that lie in a store
    views: int = field(default=1, metadata=LATER)  # random views of each decoded image, at consecutive positions
    decoding: Decoding = field(default="full", metadata=LATER)  # scaled: JPEG is decoded small where the crop allows it
    max_bad: float = 0.01  # largest share of bad records
    workers: int = field(default=0, metadata=OPERATIONAL)  # processes that read and decode

    def __post_init__(self) -> None:
        if not self.source:
            raise ValueError("data.source is empty; name a collection (see `underpaint list`) or a folder")
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"data.scale={self.scale} must be (low, high) with 0 < low <= high <= 1")
        if not 0 < self.share <= 1:
            raise ValueError(f"data.share={self.share} must lie in (0, 1]; 0.25 is a quarter of the images")
        if self.views < 1:
            raise ValueError(f"data.views={self.views} must be 1 or more views of each image")
        if not 0 <= self.max_bad <= 1:
            raise ValueError(f"data.max_bad={self.max_bad} must be a share between 0 and 1, for example 0.01")
        if not 0 <= self.workers <= MAX_WORKERS:
            raise ValueError(f"data.workers={self.workers} must lie between 0 and {MAX_WORKERS}; each is a process")

    def open(self) -> OpenDataset:
        """Read the index of the source and build, or read, the labels.

        Raises:
            ValueError: if the source has no images, or none with a target.
        """
        if is_prepared_name(self.source):
            return self._open_shards()
        source = open_source(self.source, tags=self.tags, labels=self.labels)
        if self.exclude:
            source, _ = without_duplicates(source, [open_source(name) for name in self.exclude.split("+")])
        rows = tuple(row for row in source.rows(self.split) if in_share(source.family[row], self.share))
        if not rows:
            of_share = f" with data.share={self.share}" if self.share < 1 else ""
            raise ValueError(f"{self.source} has no images in its split {self.split!r}{of_share}")
        vocabulary = self._vocabulary(source, rows)
        labels = _labels(source, self.targets)
        return FolderDataset(
            config=self,
            source=source,
            rows=rows,
            vocabulary=vocabulary,
            targets=tuple(vocabulary.ids(labels[row]) for row in rows) if self.targets != "none" else (),
            factors=self._factors(source, rows),
        )

    def _open_shards(self) -> ShardDataset:
        if self.tags or self.labels:
            raise ValueError(f"{self.source}, a prepared set, has its own labels: leave data.tags and data.labels out")
        prepared = PreparedSet(Path(self.source).expanduser())
        if self.targets == "class" and prepared.most_labels(self.split) > 1:
            raise ValueError(f"{self.source} has images with several labels; data.targets=class needs one of each")
        selection = Selection(
            split=self.split,
            labelled=self.targets != "none",
            resampled=self.resample == "sqrt",
            share=self.share,
            left_out=self._left_out(prepared) if self.exclude else frozenset(),
        )
        images, _ = selection.sums(prepared)
        if not images:
            what = " with a label" if selection.labelled else ""
            raise ValueError(f"{self.source} has no images{what} in its split {self.split!r}")
        everything, _ = replace(selection, labelled=False).sums(prepared)
        return ShardDataset(
            config=self,
            prepared=prepared,
            selection=selection,
            vocabulary=prepared.vocabulary() if selection.labelled else Vocabulary(labels=(), count=()),
            images=images,
            unlabelled=everything - images,
        )

    def _left_out(self, prepared: PreparedSet) -> frozenset[tuple[int, int]]:
        """Shard and row of the near duplicates of test images."""
        source = prepared_source(prepared)
        kept, _ = without_duplicates(source, [open_source(name) for name in self.exclude.split("+")])
        gone = sorted(set(source.rows(self.split)) - set(kept.rows(self.split)))
        return frozenset(places_of(prepared, gone))

    def _factors(self, source: Source, rows: tuple[int, ...]) -> tuple[float, ...]:
        """Repeat factors from the tags, whatever the targets: stage 1 may see the same stream as stage 2."""
        if self.resample == "none":
            return ()
        tags = [source.tags[row] for row in rows]
        vocabulary = count_vocabulary(tags, min_count=self.min_tag_count, size=self.vocabulary_size)
        return repeat_factors([vocabulary.ids(own) for own in tags], vocabulary.count, ratio=self.resample_ratio)

    def _vocabulary(self, source: Source, rows: tuple[int, ...]) -> Vocabulary:
        labels = _labels(source, self.targets)
        if self.targets == "none":
            return Vocabulary(labels=(), count=())
        if self.targets == "class":
            named = [labels[row] for row in rows]
            if not any(named):
                raise ValueError(
                    f"{self.source} has no classes; give data.labels=FILE (CSV path,class) or class folders"
                )
            if len(classes := {name for own in named for name in own}) == 1:
                raise ValueError(f"{self.source} has one class alone, {min(classes)!r}; a classifier needs two or more")
            found = count_vocabulary(named, min_count=1, size=len(rows))
            order = sorted(range(len(found.labels)), key=lambda index: found.labels[index])
            return Vocabulary(labels=tuple(found.labels[i] for i in order), count=tuple(found.count[i] for i in order))
        if not any(labels[row] for row in rows):
            raise ValueError(f"{self.source} has no tags; give data.tags=FILE with the columns path and tags")
        return count_vocabulary([labels[row] for row in rows], min_count=self.min_tag_count, size=self.vocabulary_size)


def in_share(family: str, share: float) -> bool:
    """Whether a family belongs to this share of all: a draw from its name alone, so that shares are nested."""
    return share == 1 or keyed_random.key("share", family) < share * 2**63


def _labels(source: Source, targets: Targets) -> tuple[tuple[str, ...], ...]:
    """The names each image may be labelled with."""
    if targets == "class":
        return tuple((name,) if name else () for name in source.label)
    return source.tags


@runtime_checkable
class OpenDataset(Protocol):
    """The images of one run, opened."""

    @property
    def name(self) -> str: ...

    @property
    def content_hash(self) -> str:
        """The identity of the data."""
        ...

    @property
    def vocabulary(self) -> Vocabulary: ...

    @property
    def images(self) -> int:
        """That training draws from: all of the split, or those with a target."""
        ...

    @property
    def unlabelled(self) -> int:
        """Images of the split that have no usable target: no defect, but they teach this run nothing."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about how the data were read, which are said when a run starts."""
        ...

    def stream(self, inputs: Inputs, batching: Batching, *, seed: int, quarantine: Path) -> Stream:
        """The endless stream of training batches with these inputs; bad records are named in the file ``quarantine``.

        Raises:
            ValueError: naming an input that these data do not have.
        """
        ...

    def heldout(self, inputs: Inputs, *, batch_size: int) -> Iterator[Batch]:
        """Batches of the held-out samples with their targets, in a fixed order; none where there is no such split."""
        ...


def image_of(inputs: Inputs, dataset: FolderDataset | ShardDataset) -> ImageInput:
    """The form of the images that is asked for.

    Raises:
        ValueError: naming an input that folders, collections and prepared sets do not have.
    """
    kinds = {"image": ImageInput, "labels": LabelInput}
    for key, each in inputs.items():
        if key not in kinds or not isinstance(each, kinds[key]):
            raise ValueError(
                f"'{dataset.name}' has no input {key!r} of the kind {type(each).__name__}: it has images, and labels; "
                f"data of one's own bring others (docs/extend.md)"
            )
    if "labels" in inputs and dataset.config.targets == "none":
        raise ValueError("the objective needs labels, and data.targets=none gives it none; set it to tags or class")
    image = inputs.get("image")
    if not isinstance(image, ImageInput):
        raise ValueError(f"the objective asks for no image, and '{dataset.name}' has nothing else to begin with")
    return image


@dataclass(frozen=True, kw_only=True)
class FolderDataset:
    """A source with the rows and targets of one run."""

    config: ImageData
    source: Source
    rows: tuple[int, ...]
    vocabulary: Vocabulary
    targets: tuple[tuple[int, ...], ...]  # per row; () where nothing is a target
    factors: tuple[float, ...]  # per row, how often it stands in an epoch; () where once

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def content_hash(self) -> str:
        return self.source.content_hash

    @property
    def images(self) -> int:
        return len(self.trained_rows)

    @property
    def unlabelled(self) -> int:
        return len(self.untagged)

    @property
    def notes(self) -> tuple[str, ...]:
        return self.source.notes if self.config.targets == "class" else ()

    @property
    def trained_rows(self) -> tuple[int, ...]:
        """The rows that training draws from: all of them, or those with a target."""
        return (
            tuple(row for row, ids in zip(self.rows, self.targets, strict=True) if ids) if self.targets else self.rows
        )

    @property
    def untagged(self) -> tuple[Problem, ...]:
        """Images without a usable target: no defect, but named, since they teach this run nothing."""
        return tuple(
            Problem(key=self.source.path[row], reason="no label of the vocabulary")
            for row, ids in zip(self.rows, self.targets, strict=bool(self.targets))
            if not ids
        )

    def stream(self, inputs: Inputs, batching: Batching, *, seed: int, quarantine: Path) -> ImageStream:
        config, size = self.config, batching.batch_size
        items = SourceSampleIndex(
            self.source, self.rows, targets=self.targets, batch_size=size, seed=seed, factors=self.factors
        )
        return ImageStream(
            items,
            format=image_of(inputs, self),
            scale=config.scale,
            seed=seed,
            batching=replace(batching, workers=config.workers),
            quarantine=Quarantine(quarantine, images=len(self.source.path), max_bad=config.max_bad),
            views=config.views,
            decoding=config.decoding,
        )

    def heldout(self, inputs: Inputs, *, batch_size: int) -> Iterator[LabelBatch]:
        format = image_of(inputs, self)
        rows = self.source.rows("heldout")[:HELDOUT_IMAGES] if self.config.split == "pretrain" else ()
        names = _labels(self.source, self.config.targets)
        ids = {row: self.vocabulary.ids(names[row]) for row in rows}
        usable = [row for row in rows if ids[row] or self.config.targets == "none"]
        longest = max(map(len, self.targets), default=0)
        for start in range(0, len(usable), batch_size):
            chunk = usable[start : start + batch_size]
            image, weight = read_images(self.source, chunk, format=format)
            position = torch.arange(start, start + len(chunk))
            labels = pad_labels([ids[row][:longest] for row in chunk], longest)
            yield {"image": image, "position": position, "weight": weight, "labels": labels}


@dataclass(frozen=True, kw_only=True)
class ShardDataset:
    """A prepared set with the images of one run."""

    config: ImageData
    prepared: PreparedSet
    selection: Selection
    vocabulary: Vocabulary
    images: int
    unlabelled: int
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.prepared.name

    @property
    def content_hash(self) -> str:
        if not self.selection.left_out:
            return self.prepared.content_hash
        gone = json.dumps([self.prepared.content_hash, sorted(self.selection.left_out)])
        return xxhash.xxh3_128(gone.encode()).hexdigest()

    def stream(self, inputs: Inputs, batching: Batching, *, seed: int, quarantine: Path) -> ImageStream:
        config = self.config
        if batching.batch_size % config.views:
            raise ValueError(f"data.views={config.views} must divide the batch size {batching.batch_size}")
        items = ShardSampleIndex(
            self.prepared,
            self._shards(),
            self.selection,
            lanes=config.lanes,
            batch_size=batching.batch_size // config.views,
            seed=seed,
            targets=config.targets != "none",
        )
        return ImageStream(
            items,
            format=image_of(inputs, self),
            scale=config.scale,
            seed=seed,
            batching=replace(batching, workers=config.workers),
            quarantine=Quarantine(quarantine, images=self.images, max_bad=config.max_bad),
            views=config.views,
            decoding=config.decoding,
        )

    def heldout(self, inputs: Inputs, *, batch_size: int) -> Iterator[LabelBatch]:
        format = image_of(inputs, self)
        if self.config.split != "pretrain":
            return
        longest = self.prepared.most_labels("pretrain") if self.selection.labelled else 0
        selection = replace(self.selection, split="heldout", share=1.0, left_out=frozenset())
        shards = self._shards()
        members = list(islice(members_of(self.prepared, selection), HELDOUT_IMAGES))
        for start in range(0, len(members), batch_size):
            chunk = members[start : start + batch_size]
            image, problems = read_encoded([partial(read_member, shards, member) for member in chunk], format=format)
            yield {
                "image": image,
                "position": torch.arange(start, start + len(chunk)),
                "weight": torch.tensor([0.0 if problem else 1.0 for problem in problems]),
                "labels": pad_labels([rows.labels_of(row)[:longest] for rows, row in chunk], longest),
            }

    def _shards(self) -> Shards:
        return open_shards(self.prepared.folder, cache_gib=self.config.cache_gib)
