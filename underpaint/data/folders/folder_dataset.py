"""The images of a folder or a collection with the targets of one run, all held in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from underpaint.core import Inputs, LabelBatch
from underpaint.data.folders.advice import layout_advice
from underpaint.data.image_options import ImageOptions
from underpaint.data.loader import read_heldout
from underpaint.data.near_duplicates.removal import without_duplicates
from underpaint.data.open_dataset import HELDOUT_IMAGES, ImageDataset
from underpaint.data.open_source import open_source, open_sources
from underpaint.data.sample_index import SourceSampleIndex
from underpaint.data.shares import in_share
from underpaint.data.source import Problem, Source, Targets
from underpaint.messages import counted
from underpaint.tags.sampling import repeat_factors
from underpaint.tags.vocabulary import Vocabulary, count_vocabulary


@dataclass(frozen=True, kw_only=True)
class FolderDataset(ImageDataset):
    """A source with the rows and targets of one run."""

    source: Source
    rows: tuple[int, ...]
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
    def all_images(self) -> int:
        return len(self.source.path)

    @property
    def unlabelled(self) -> int:
        return len(self.unlabelled_images)

    @property
    def notes(self) -> tuple[str, ...]:
        notes = {"class": self.source.notes, "tags": self.source.notes_on_tags}.get(self.config.targets, ())
        if not self.factors or self.config.targets == "tags":
            return notes
        once = sum(not self.source.tags[row] for row in self.rows)
        return (*notes, f"{counted(once, 'image')} without a tag stand once in an epoch") if once else notes

    @property
    def trained_rows(self) -> tuple[int, ...]:
        """The rows of the source that training draws from: all of the split, or those with a target."""
        return (
            tuple(row for row, ids in zip(self.rows, self.targets, strict=True) if ids) if self.targets else self.rows
        )

    @property
    def unlabelled_images(self) -> tuple[Problem, ...]:
        """The images of the split without a usable target, which are not trained on."""
        return tuple(
            Problem(key=self.source.path[row], reason="no label of the vocabulary")
            for row, ids in zip(self.rows, self.targets, strict=bool(self.targets))
            if not ids
        )

    def sample_index(self, *, batch_size: int, seed: int) -> SourceSampleIndex:
        return SourceSampleIndex(
            self.source, self.rows, targets=self.targets, batch_size=batch_size, seed=seed, factors=self.factors
        )

    @property
    def heldout_images(self) -> int:
        return len(self._heldout_targets())

    def heldout(self, inputs: Inputs, *, batch_size: int) -> Iterator[LabelBatch]:
        format, targets = self.image_of(inputs), self._heldout_targets()
        longest = max(map(len, self.targets), default=0)
        paths = [self.source.path[row] for row in targets]
        images = [(path, partial(self.source.files.read, path)) for path in paths]
        yield from read_heldout(images, list(targets.values()), format=format, batch_size=batch_size, longest=longest)

    def _heldout_targets(self) -> dict[int, tuple[int, ...]]:
        """The target of each row that is held out and has one, where training needs targets."""
        rows = self.source.rows("heldout")[:HELDOUT_IMAGES] if self.config.split == "pretrain" else ()
        names = _names(self.source, self.config.targets)
        ids = {row: _kept(self.config, self.vocabulary.ids(names[row])) for row in rows}
        return {row: target for row, target in ids.items() if target or self.config.targets == "none"}


def _classes_missing(source: Source, split: str) -> str:
    """Advice if no image has a class, since only images with classes are split into train and test."""
    if split not in ("train", "test") or source.rows("train") or source.rows("test"):
        return ""
    if advice := layout_advice(source):
        return f": {advice}"
    return ": no image has a class; a folder of images takes data.labels=FILE (path,class) or a folder per class"


def open_folder_dataset(config: ImageOptions) -> FolderDataset:
    """Read the source and make the labels of its images.

    Raises:
        ValueError: if the source has no images, or none with a target.
    """
    source = open_source(config.source, tags=config.tags, labels=config.labels, tag_rules=config.tag_rules)
    if config.exclude:
        source, _ = without_duplicates(source, open_sources(config.exclude))
    share, seed = config.share, config.share_seed
    rows = tuple(row for row in source.rows(config.split) if in_share(source.family[row], share, seed=seed))
    if not rows:
        advice = _classes_missing(source, config.split)
        of_share = f" with data.share={config.share}" if config.share < 1 else ""
        raise ValueError(f"{config.source} has no images in its split {config.split!r}{of_share}{advice}")
    names = _names(source, config.targets)
    vocabulary = _vocabulary(config, [names[row] for row in rows])
    return FolderDataset(
        config=config,
        source=source,
        rows=rows,
        vocabulary=vocabulary,
        targets=tuple(_kept(config, vocabulary.ids(names[row])) for row in rows) if config.targets != "none" else (),
        factors=_factors(config, [source.tags[row] for row in rows]),
    )


def _kept(config: ImageOptions, ids: tuple[int, ...]) -> tuple[int, ...]:
    """The labels that an image keeps: smaller ids are those of more frequent labels."""
    return ids[-config.labels_per_image :] if config.targets == "tags" else ids


def _names(source: Source, targets: Targets) -> tuple[tuple[str, ...], ...]:
    """The possible labels of each image: its class, or its tags."""
    if targets == "class":
        return tuple((name,) if name else () for name in source.label)
    return source.tags


def _vocabulary(config: ImageOptions, names: Sequence[tuple[str, ...]]) -> Vocabulary:
    if config.targets == "none":
        return Vocabulary(labels=(), count=())
    if config.targets == "tags":
        if not any(names):
            raise ValueError(
                f"{config.source} has no tags; give data.tags=FILE with the columns path and tags, or read tags out of "
                f"the images and the files beside them with underpaint prepare"
            )
        return count_vocabulary(names, min_count=config.min_count, size=config.vocabulary_size)
    if not any(names):
        raise ValueError(f"{config.source} has no classes; give data.labels=FILE (CSV path,class) or class folders")
    if len(classes := {name for row in names for name in row}) == 1:
        raise ValueError(f"{config.source} has one class alone, {min(classes)!r}; a classifier needs two or more")
    counted_names = count_vocabulary(names, min_count=1, size=len(names))
    ordered = sorted(zip(counted_names.labels, counted_names.count, strict=True))
    return Vocabulary(labels=tuple(name for name, _ in ordered), count=tuple(count for _, count in ordered))


def _factors(config: ImageOptions, tags: Sequence[tuple[str, ...]]) -> tuple[float, ...]:
    """Repeat factors from the tags, for any targets, so that pre-pretraining can see the same stream as WSP."""
    if config.resample == "none":
        return ()
    vocabulary = count_vocabulary(tags, min_count=config.min_count, size=config.vocabulary_size)
    return repeat_factors([vocabulary.ids(row) for row in tags], vocabulary.count, ratio=config.resample_ratio)
