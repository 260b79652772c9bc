"""Numbers of the frames of a clip, and crops of its frames: random ones of training and fixed ones of evaluation."""

from __future__ import annotations

from jaxtyping import Float, UInt8
from torch import Tensor

from underpaint import keyed_random
from underpaint.core import ClipInput
from underpaint.data.decode.transforms import eval_view


def training_frames(form: ClipInput, frames: int, *, seed: int) -> list[int]:
    """A random clip of a video of so many frames; everything random follows from ``seed`` alone."""
    if form.sampling == "uniform":
        return _one_of_each_part(form, frames, [keyed_random.mix(seed, part) / 2**64 for part in range(form.frames)])
    last = max(0, frames - _span(form))
    return _from(form, frames, int(keyed_random.mix(seed, 0) / 2**64 * (last + 1)))


def evaluation_frames(form: ClipInput, frames: int, *, clip: int, clips: int) -> list[int]:
    """The ``clip``-th of so many clips of a video.

    Dense clips lie evenly from the first frame to the last one, and one alone in the middle. A uniform clip takes the
    same place in each part of the video, and several take other places.
    """
    assert 0 <= clip < clips, (clip, clips)
    if form.sampling == "uniform":
        return _one_of_each_part(form, frames, [(clip + 0.5) / clips] * form.frames)
    last = max(0, frames - _span(form))
    return _from(form, frames, last // 2 if clips == 1 else round(last * clip / (clips - 1)))


def crop_of(
    frames: UInt8[Tensor, "t c h w"], size: tuple[int, int], *, crop: int, crops: int
) -> Float[Tensor, "t c out_h out_w"]:
    """The ``crop``-th of so many crops that lie evenly along the longer side of frames resized to just cover ``size``.

    One alone lies in the middle. Values are in [0, 1].
    """
    assert 0 <= crop < crops, (crop, crops)
    (t, c, height, width), (rows, columns) = frames.shape, size
    factor = max(rows / height, columns / width)
    covering = max(rows, round(height * factor)), max(columns, round(width * factor))
    resized = eval_view(frames.flatten(0, 1), size=covering).unflatten(0, (t, c))
    share = 0.5 if crops == 1 else crop / (crops - 1)
    top, left = (round((whole - side) * share) for whole, side in zip(covering, size, strict=True))
    return resized[..., top : top + rows, left : left + columns]


def _span(form: ClipInput) -> int:
    """Frames of the video from the first to the last one of a dense clip."""
    return (form.frames - 1) * form.stride + 1


def _from(form: ClipInput, frames: int, start: int) -> list[int]:
    """A dense clip; the last frame of a video that is too short is shown on."""
    return [min(start + number * form.stride, frames - 1) for number in range(form.frames)]


def _one_of_each_part(form: ClipInput, frames: int, shares: list[float]) -> list[int]:
    """One frame of each of as many equal parts of the video, at a share of its length."""
    return [min(int((part + share) * frames / form.frames), frames - 1) for part, share in enumerate(shares)]
