"""Random clips of training, and batches of clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from underpaint import keyed_random
from underpaint.core import ClipInput, Inputs, LabelInput, normalisation
from underpaint.data.augment.augmenter import Augmenter
from underpaint.data.decode.image import EIGHT_BIT
from underpaint.data.decode.transforms import train_view
from underpaint.data.video.decoding import open_video
from underpaint.data.video.sampling import crop_of, evaluation_frames, training_frames

ROOM = 2
"""Frames are kept at so many times the size of a clip, at most: a crop of a quarter of the area loses nothing."""


@dataclass(frozen=True, kw_only=True)
class ClipViews:
    """Random clips of the videos of a stream; sent to worker processes."""

    form: ClipInput
    scale: tuple[float, float]
    """Range of a crop's share of the frame's area."""
    flip: bool
    count: int
    """Number of views of one clip, at consecutive positions."""
    augmenter: Augmenter
    seed: int

    def frames(self, path: Path, group: int) -> UInt8[Tensor, "t c h w"]:
        """The frames of a random clip of the video.

        Raises:
            BadImage: if they cannot be decoded.
        """
        seed = keyed_random.sample_seed(keyed_random.key(self.seed, "clip"), group)
        with open_video(path) as video:
            numbers = training_frames(self.form, video.frames, seed=seed)
            return video.read(numbers, short_side=kept_side(self.form))

    def view(self, frames: UInt8[Tensor, "t c h w"], position: int) -> UInt8[Tensor, "t c out_h out_w"]:
        """The random view of a clip: one crop, one mirror image and the same augmentations for all frames."""
        seed = keyed_random.sample_seed(keyed_random.key(self.seed, "crop"), position)
        planes = frames.flatten(0, 1)  # of each frame and channel, which are resized alike
        resized = train_view(planes, size=self.form.image.size, scale=self.scale, flip=self.flip, seed=seed)
        clip = in_bytes(resized).unflatten(0, (len(frames), -1))
        return torch.stack([self.augmenter.view(frame, position) for frame in clip])


def evaluation_clip(
    path: Path, form: ClipInput, *, clip: tuple[int, int], crop: tuple[int, int] = (0, 1)
) -> UInt8[Tensor, "t c h w"]:
    """One clip of a video: ``clip`` and ``crop`` are its number and how many there are.

    Raises:
        BadImage: if it cannot be decoded.
    """
    return evaluation_clips(path, form, clips=[clip], crops=crop[1])[0][crop[0]]


def evaluation_clips(
    path: Path, form: ClipInput, *, clips: Sequence[tuple[int, int]], crops: int
) -> list[list[UInt8[Tensor, "t c h w"]]]:
    """All crops of some clips of a video."""
    views: list[list[Tensor]] = []
    with open_video(path) as video:
        for number, count in clips:
            numbers = evaluation_frames(form, video.frames, clip=number, clips=count)
            frames = video.read(numbers, short_side=kept_side(form))
            cut = [crop_of(frames, form.image.size, crop=crop, crops=crops) for crop in range(crops)]
            views.append([in_bytes(each) for each in cut])
    return views


def kept_side(form: ClipInput) -> int:
    """Short side at which frames are kept after decoding, in pixels."""
    return ROOM * max(form.image.size)


def in_bytes(values: Float[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
    """Values in [0, 1] in eight bits, a quarter of the memory between processes."""
    return values.mul(255).round_().to(torch.uint8)


def normalised(clips: Sequence[UInt8[Tensor, "t c h w"] | None], form: ClipInput) -> Float[Tensor, "b c t h w"]:
    """A batch of clips; None, a placeholder, is 0, the mean colour."""
    image = form.image
    batch = torch.zeros(len(clips), image.channels, form.frames, *image.size)
    mean, std = normalisation(image.mean, image.std, batch[0].transpose(0, 1))
    for row, clip in enumerate(clips):
        if clip is not None:
            batch[row] = (clip.float().div_(255).sub_(mean).div_(std)).transpose(0, 1)
    return batch


def clip_form(inputs: Inputs, *, name: str) -> ClipInput:
    """The form of the clips among the inputs of an objective.

    Raises:
        ValueError: naming an input that videos do not have.
    """
    clip, labels = inputs.get("clip"), inputs.get("labels")
    if set(inputs) != {"clip", "labels"} or not isinstance(clip, ClipInput) or not isinstance(labels, LabelInput):
        raise ValueError(f"{name} has the inputs clip and labels, the objective asks for {', '.join(sorted(inputs))}")
    if clip.image.channels != 3 or clip.image.value_range != EIGHT_BIT:
        raise ValueError(
            f"frames of videos have 3 channels with values of 0 to 255, the encoder takes channels="
            f"{clip.image.channels} and value_range={clip.image.value_range}; start from an encoder of such images"
        )
    return clip
