"""The endless stream of batches of clips."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from underpaint.core import ClipBatch, LabelBatch
from underpaint.data.decode.limits import BadImage
from underpaint.data.loader import pad_labels
from underpaint.data.position_loader import PositionDataset, position_loader
from underpaint.data.quarantine import Quarantine
from underpaint.data.sample_index import SourceSampleIndex
from underpaint.data.source import Problem
from underpaint.data.stream import Batching, Stream
from underpaint.data.video.clips import ClipViews, normalised

Clips = list[UInt8[Tensor, "t c h w"] | None]


class ClipStream(Stream):
    """Endless microbatches of random clips.

    The sample at a position depends on the list, the seed and the position only, with any number of workers. With
    several views as many consecutive positions show one clip, decoded once. A video that cannot be decoded is a
    placeholder with weight 0, reported to ``quarantine``.

    Raises:
        ValueError: for a batch larger than the data, or one that the views or the mixed groups do not divide.
    """

    def __init__(
        self, items: SourceSampleIndex, root: Path, views: ClipViews, *, batching: Batching, quarantine: Quarantine
    ) -> None:
        if batching.batch_size > items.images * views.count:
            raise ValueError(
                f"batch_size={batching.batch_size} is more than the {items.images} videos that '{items.name}' has to "
                f"train on; choose at most {items.images * views.count}"
            )
        augment = views.augmenter.augment
        for name, count in (("views", views.count), ("augment.mix_group", augment.mix_group if augment.mixes else 1)):
            if batching.microbatch % count:
                raise ValueError(f"data.{name}={count} must divide the microbatch {batching.microbatch}")
        super().__init__(batching, quarantine, parts=items.parts)
        self.samples = _Samples(items, root, views)
        quarantine.add(items.problems)

    def read(self, starts: Iterable[int]) -> Iterator[tuple[ClipBatch, list[Problem]]]:
        for clips, batch, problems in position_loader(self.samples, starts, self.batching, module=__name__):
            batch["clip"] = normalised(clips, self.samples.views.form)
            self._augment(batch)
            yield batch, problems

    def _augment(self, batch: ClipBatch) -> None:
        """Erase and mix clips as images that have a channel for each frame and colour: alike in all frames."""
        clip = batch["clip"]
        planes: LabelBatch = {
            "image": clip.flatten(1, 2),
            "position": batch["position"],
            "weight": batch["weight"],
            "labels": batch["labels"],
        }
        self.samples.views.augmenter.batch(planes)
        batch["clip"] = planes["image"].view_as(clip)
        batch["labels"] = planes["labels"]
        if "share" in planes:
            batch["share"] = planes["share"]


class _Samples(PositionDataset):
    """The clip at each position of the stream; sent to the worker processes."""

    def __init__(self, items: SourceSampleIndex, root: Path, views: ClipViews) -> None:
        self.items = items
        self.root = root
        self.views = views
        self.last: tuple[int, Tensor | Problem] | None = None
        """The group of positions of the last clip, and its frames."""

    def __getitem__(self, position: int) -> tuple[int, Tensor | Problem]:
        group = position // self.views.count
        if self.last is None or self.last[0] != group:
            self.last = group, self._frames(group)
        frames = self.last[1]
        return position, frames if isinstance(frames, Problem) else self.views.view(frames, position)

    def _frames(self, group: int) -> Tensor | Problem:
        path = self.items.at(group).key
        try:
            return self.views.frames(self.root / path, group)
        except BadImage as error:
            return Problem(key=path, reason=str(error))

    def collate(self, samples: list[tuple[int, Tensor | Problem]]) -> tuple[Clips, dict[str, Tensor], list[Problem]]:
        """Clips in eight bits, which the main process normalises, the rest of the batch, and bad videos."""
        clips: Clips = [None if isinstance(sample, Problem) else sample for _, sample in samples]
        positions = [position for position, _ in samples]
        labels = [self.items.at(position // self.views.count).labels for position in positions]
        batch = {
            "position": torch.tensor(positions, dtype=torch.int64),
            "weight": torch.tensor([0.0 if clip is None else 1.0 for clip in clips]),
            "labels": pad_labels(labels, self.items.longest_target),
        }
        return clips, batch, [sample for _, sample in samples if isinstance(sample, Problem)]
