"""The ``data`` field of a run: which images, which of their labels, and how they are opened."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch

from underpaint import draws
from underpaint.config import LATER, OPERATIONAL
from underpaint.core import LabelBatch
from underpaint.data.duplicates import without_duplicates
from underpaint.data.loader import Batching, ImageFormat, ImageStream, pad_labels, read_images
from underpaint.data.quarantine import Quarantine
from underpaint.data.records import Problem, Source, Split
from underpaint.data.sources import open_source
from underpaint.tags.sampling import repeat_factors
from underpaint.tags.vocabulary import Vocabulary, count_vocabulary

HELDOUT_IMAGES = 1024
"""The held-out loss is measured on at most so many images: it is a curve, not a result."""

Targets = Literal["none", "tags", "class"]


@dataclass(frozen=True, kw_only=True)
class ImageData:
    """Images with nothing, their tags or their class as the target."""

    source: str  # a collection's name, or a folder (with a "/" in it, or starting with ".")
    tags: str = ""  # file of the folder's tags; "" takes DIR/tags.csv or .parquet where there is one
    labels: str = ""  # CSV path,class of the transfer task; "" takes class folders
    exclude: str = ""  # collections or folders joined by +, whose test images' near duplicates are not trained on
    split: Split = "pretrain"
    targets: Targets = "none"
    vocabulary_size: int = 28_000  # targets=tags: the most frequent tags that become labels
    min_tag_count: int = 1  # targets=tags: training images a tag must stand on
    resample: Literal["none", "sqrt"] = "none"  # repeat images with rare tags within an epoch (paper.md 1.2)
    resample_ratio: float = 5 / 3  # resample=sqrt: samples of an epoch per image (the paper's 5 billion from 3)
    scale: tuple[float, float] = (0.2, 1.0)  # area of the random crop
    share: float = field(default=1.0, metadata=LATER)  # of the split's families; smaller shares lie within larger
    max_bad: float = 0.01  # largest share of bad records
    workers: int = field(default=0, metadata=OPERATIONAL)  # processes that read and decode

    def __post_init__(self) -> None:
        if not self.source:
            raise ValueError("data.source is empty; name a collection (see `underpaint list`) or a folder")
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"data.scale={self.scale} must be (low, high) with 0 < low <= high <= 1")
        if not 0 < self.share <= 1:
            raise ValueError(f"data.share={self.share} must lie in (0, 1]; 0.25 is a quarter of the images")

    def open(self) -> OpenImages:
        """Read the index of the source and build the labels.

        Raises:
            ValueError: if the source has no images, or none with a target.
        """
        source = open_source(self.source, tags=self.tags, labels=self.labels)
        if self.exclude:
            source, _ = without_duplicates(source, [open_source(name) for name in self.exclude.split("+")])
        rows = tuple(row for row in source.rows(self.split) if in_share(source.family[row], self.share))
        if not rows:
            of_share = f" with data.share={self.share}" if self.share < 1 else ""
            raise ValueError(f"{self.source} has no images in its split {self.split!r}{of_share}")
        vocabulary = self._vocabulary(source, rows)
        labels = _labels(source, self.targets)
        return OpenImages(
            config=self,
            source=source,
            rows=rows,
            vocabulary=vocabulary,
            targets=tuple(vocabulary.ids(labels[row]) for row in rows) if self.targets != "none" else (),
            factors=self._factors(source, rows),
        )

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
            found = count_vocabulary(named, min_count=1, size=len(rows))
            order = sorted(range(len(found.labels)), key=lambda index: found.labels[index])
            return Vocabulary(labels=tuple(found.labels[i] for i in order), count=tuple(found.count[i] for i in order))
        if not any(labels[row] for row in rows):
            raise ValueError(f"{self.source} has no tags; give data.tags=FILE with the columns path and tags")
        return count_vocabulary([labels[row] for row in rows], min_count=self.min_tag_count, size=self.vocabulary_size)


def in_share(family: str, share: float) -> bool:
    """Whether a family belongs to this share of all: a draw from its name alone, so that shares are nested."""
    return share == 1 or draws.key("share", family) < share * 2**63


def _labels(source: Source, targets: Targets) -> tuple[tuple[str, ...], ...]:
    """The names each image may be labelled with."""
    if targets == "class":
        return tuple((name,) if name else () for name in source.label)
    return source.tags


@dataclass(frozen=True, kw_only=True)
class OpenImages:
    """A source with the rows and targets of one run."""

    config: ImageData
    source: Source
    rows: tuple[int, ...]
    vocabulary: Vocabulary
    targets: tuple[tuple[int, ...], ...]  # per row; () where nothing is a target
    factors: tuple[float, ...]  # per row, how often it stands in an epoch; () where once

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

    def stream(
        self, format: ImageFormat, *, batch_size: int, microbatch: int, seed: int, quarantine: Path
    ) -> ImageStream:
        """The endless stream of training batches."""
        stream = ImageStream(
            self.source,
            self.rows,
            targets=self.targets,
            format=format,
            scale=self.config.scale,
            seed=seed,
            batching=Batching(batch_size=batch_size, microbatch=microbatch, workers=self.config.workers),
            quarantine=Quarantine(quarantine, images=len(self.source.path), max_bad=self.config.max_bad),
        )
        if self.factors:
            stream.repeat(self.factors)
        return stream

    def heldout(self, format: ImageFormat, *, batch_size: int) -> Iterator[LabelBatch]:
        """Batches of the held-out images with their targets, in a fixed order; none where there is no such split."""
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
