"""A prepared set with the images and targets of one run; rows are read shard by shard."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

import xxhash

from underpaint.core import Inputs, LabelBatch
from underpaint.data.image_options import ImageOptions
from underpaint.data.loader import read_heldout
from underpaint.data.near_duplicates.removal import without_duplicates
from underpaint.data.open_dataset import HELDOUT_IMAGES, ImageDataset
from underpaint.data.open_source import open_sources
from underpaint.data.shards.prepared_set import PreparedSet
from underpaint.data.shards.prepared_source import open_shards, places_of, prepared_source
from underpaint.data.shards.shard_files import Shards
from underpaint.data.shards.shard_samples import Selection, ShardSampleIndex, members_of, read_member
from underpaint.messages import counted
from underpaint.tags.vocabulary import Vocabulary


@dataclass(frozen=True, kw_only=True)
class ShardDataset(ImageDataset):
    """A prepared set with the selected images and targets of one run."""

    prepared: PreparedSet
    selection: Selection
    images: int
    unlabelled: int
    """Number of images of the split without a target, which are not drawn."""
    once: int = 0
    """Number of images without a tag that are drawn once in an epoch where others are repeated."""

    @property
    def name(self) -> str:
        return self.prepared.name

    @property
    def all_images(self) -> int:
        return self.images

    @property
    def content_hash(self) -> str:
        if not self.selection.left_out:
            return self.prepared.content_hash
        gone = json.dumps([self.prepared.content_hash, sorted(self.selection.left_out)])
        return xxhash.xxh3_128(gone.encode()).hexdigest()

    @property
    def notes(self) -> tuple[str, ...]:
        notes = ("labels are those of the prepared set (docs/tags.md)",) if self.config.targets == "tags" else ()
        return (*notes, f"{counted(self.once, 'image')} without a tag stand once in an epoch") if self.once else notes

    def sample_index(self, *, batch_size: int, seed: int) -> ShardSampleIndex:
        if batch_size % self.config.views:
            raise ValueError(f"data.views={self.config.views} must divide the batch size {batch_size}")
        return ShardSampleIndex(
            self.prepared,
            self._shards(),
            self.selection,
            lanes=self.config.lanes,
            batch_size=batch_size // self.config.views,
            seed=seed,
        )

    @property
    def heldout_images(self) -> int:
        selection = self._heldout_selection()
        return sum(1 for _ in islice(members_of(self.prepared, selection), HELDOUT_IMAGES)) if selection else 0

    def heldout(self, inputs: Inputs, *, batch_size: int) -> Iterator[LabelBatch]:
        format, selection = self.image_of(inputs), self._heldout_selection()
        if selection is None:
            return
        longest = self.selection.longest_target(self.prepared)
        shards = self._shards()
        members = list(islice(members_of(self.prepared, selection), HELDOUT_IMAGES))
        images = [(rows.key(row), partial(read_member, shards, (rows, row))) for rows, row in members]
        targets = [selection.target(rows, row) for rows, row in members]
        yield from read_heldout(images, targets, format=format, batch_size=batch_size, longest=longest)

    def _heldout_selection(self) -> Selection | None:
        """All held-out images; None for a run on one half of a transfer task."""
        if self.config.split != "pretrain":
            return None
        return replace(self.selection, split="heldout", share=1.0, left_out=frozenset())

    def _shards(self) -> Shards:
        return open_shards(self.prepared.folder, cache_gib=self.config.cache_gib)


def open_shard_dataset(config: ImageOptions) -> ShardDataset:
    """Read the index of a prepared set, whose labels were made when it was prepared.

    Raises:
        ValueError: if the set has no images, or none with a target.
    """
    if config.tags or config.labels or config.tag_rules != "canonical":
        raise ValueError(
            f"{config.source}, a prepared set, has its own labels: leave data.tags, data.labels and data.tag_rules "
            f"out, and give files of tags or classes to underpaint prepare"
        )
    prepared = PreparedSet(Path(config.source).expanduser())
    if config.targets == "class" and not prepared.classes.labels:
        raise ValueError(f"{config.source} has no classes; add them with underpaint prepare --labels FILE (path,class)")
    selection = Selection(
        split=config.split,
        targets=config.targets,
        resampled=config.resample == "sqrt",
        share=config.share,
        share_seed=config.share_seed,
        labels_per_image=config.labels_per_image,
        left_out=_left_out(config, prepared) if config.exclude else frozenset(),
    )
    images, _ = selection.sums(prepared)
    if not images:
        missing = {"tags": " with a label", "class": " with a class"}.get(config.targets, "")
        raise ValueError(f"{config.source} has no images{missing} in its split {config.split!r}")
    everything, _ = replace(selection, targets="none").sums(prepared)
    tagged = replace(selection, targets="tags").sums(prepared)[0] if selection.resampled else images
    vocabulary = {"tags": prepared.vocabulary, "class": lambda: prepared.classes}.get(config.targets)
    return ShardDataset(
        config=config,
        prepared=prepared,
        selection=selection,
        vocabulary=vocabulary() if vocabulary else Vocabulary(labels=(), count=()),
        images=images,
        unlabelled=everything - images,
        once=everything - tagged if selection.resampled and config.targets == "none" else 0,
    )


def _left_out(config: ImageOptions, prepared: PreparedSet) -> frozenset[tuple[int, int]]:
    """The shard and row of each near duplicate of a test image."""
    source = prepared_source(prepared)
    kept, _ = without_duplicates(source, open_sources(config.exclude))
    gone = sorted(set(source.rows(config.split)) - set(kept.rows(config.split)))
    return frozenset(places_of(prepared, gone))
