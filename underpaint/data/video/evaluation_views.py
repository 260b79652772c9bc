"""All evaluation views of videos, one video at a time and in order, decoded by worker processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from underpaint.core import ClipInput
from underpaint.data.decode.limits import BadImage
from underpaint.data.position_loader import PositionDataset, position_loader
from underpaint.data.stream import Batching
from underpaint.data.video.clips import evaluation_clips

Views = UInt8[Tensor, "views t c h w"]


def evaluation_views(
    paths: Sequence[Path], form: ClipInput, *, clips: int, crops: int, workers: int
) -> Iterator[Views | str]:
    """The views of each video, clip by clip, or the reason why it cannot be read; every video comes once."""
    samples = _Videos(paths, form, clips=clips, crops=crops)
    batching = Batching(batch_size=1, microbatch=1, workers=min(workers, len(paths)))
    return position_loader(samples, range(len(paths)), batching, module=__name__)


class _Videos(PositionDataset):
    """The views by the number of a video; sent to worker processes."""

    def __init__(self, paths: Sequence[Path], form: ClipInput, *, clips: int, crops: int) -> None:
        self.paths = paths
        self.form = form
        self.clips = clips
        self.crops = crops

    def __getitem__(self, position: int) -> Views | str:
        clips = [(number, self.clips) for number in range(self.clips)]
        try:
            views = evaluation_clips(self.paths[position], self.form, clips=clips, crops=self.crops)
        except BadImage as error:
            return str(error)
        return torch.stack([crop for of_clip in views for crop in of_clip])

    def collate(self, samples: list[Views | str]) -> Views | str:
        """The only sample of a batch."""
        return samples[0]
