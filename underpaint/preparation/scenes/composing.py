"""One scene: a part of a photograph with objects on it, each of which stays visible, and the mask of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from underpaint import keyed_random
from underpaint.preparation.scenes.cutouts import OPAQUE, CutOut, resized

MOST_OBJECTS = 5
SIZES = (0.15, 0.5)
"""Longer side of an object, as a share of the scene's: evenly distributed in its logarithm."""
SMALLEST_CROP = 0.5
"""Smallest side of the part of a photograph that is shown, as a share of its short side."""
VISIBLE = 0.4
"""Share of each object that others leave visible at least."""
TRIES = 10
"""Places that are tried for an object, which is left out if it would hide others at all of them."""


class Placed(NamedTuple):
    """An object in a scene."""

    label: int
    """Number of its class."""
    mask: Bool[np.ndarray, "side side"]
    """Pixels where it is seen."""


class Scene(NamedTuple):
    image: UInt8[np.ndarray, "side side 3"]
    objects: list[Placed]


Choose = Callable[[float], tuple[int, CutOut, bool]]
"""Class, cut-out, and whether it may be mirrored, of the object that a number in [0, 1) stands for."""


def compose(background: UInt8[np.ndarray, "h w 3"], choose: Choose, *, side: int, seed: int) -> Scene:
    """Put one to MOST_OBJECTS objects on a part of a photograph; all draws follow from ``seed``."""
    draw = draws(seed)
    image = _part(background, side, draw)
    objects: list[Placed] = []
    whole: list[int] = []
    """Pixels of each object before others hid it."""
    for _ in range(1 + int(next(draw) * MOST_OBJECTS)):
        label, cutout, flips = choose(next(draw))
        picture = Image.fromarray(cutout)
        if next(draw) < 0.5 and flips:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        share = SIZES[0] * (SIZES[1] / SIZES[0]) ** next(draw)
        drawn = resized(picture, share * side / max(picture.size))
        for _ in range(TRIES):
            mask, (top, left) = _laid(drawn, side, draw)
            if mask.any() and _all_visible(objects, whole, mask):
                _paint(image, drawn, top, left)
                objects = [each._replace(mask=each.mask & ~mask) for each in objects]
                objects.append(Placed(label, mask))
                whole.append(int(mask.sum()))
                break
    return Scene(image, objects)


def draws(seed: int) -> Iterator[float]:
    """Uniform numbers in [0, 1)."""
    place = 0
    while True:
        yield (keyed_random.mix(seed, place) >> 11) / 2**53
        place += 1


def _part(background: UInt8[np.ndarray, "h w 3"], side: int, draw: Iterator[float]) -> np.ndarray:
    """A square part of a photograph, resized to the scene."""
    height, width = background.shape[:2]
    cut = min(height, width) * (SMALLEST_CROP + (1 - SMALLEST_CROP) * next(draw))
    top, left = (height - cut) * next(draw), (width - cut) * next(draw)
    box = (left, top, left + cut, top + cut)
    return np.array(Image.fromarray(background).resize((side, side), Image.Resampling.BILINEAR, box=box))


def _laid(cutout: CutOut, side: int, draw: Iterator[float]) -> tuple[Bool[np.ndarray, "side side"], tuple[int, int]]:
    """The mask of an object at a random place of the scene, and its top and left."""
    height, width = cutout.shape[:2]
    top, left = (int(next(draw) * (side - length + 1)) for length in (height, width))
    mask = np.zeros((side, side), dtype=bool)
    mask[top : top + height, left : left + width] = cutout[..., 3] >= OPAQUE
    return mask, (top, left)


def _all_visible(objects: Sequence[Placed], whole: Sequence[int], mask: Bool[np.ndarray, "side side"]) -> bool:
    return all((each.mask & ~mask).sum() >= VISIBLE * pixels for each, pixels in zip(objects, whole, strict=True))


def _paint(image: np.ndarray, cutout: CutOut, top: int, left: int) -> None:
    """Blend an object into the image by its opacity, but only where its mask is: nothing else changes."""
    height, width = cutout.shape[:2]
    below = image[top : top + height, left : left + width]
    opacity = cutout[..., 3:].astype(np.float32) / 255
    blended = (opacity * cutout[..., :3] + (1 - opacity) * below + 0.5).astype(np.uint8)
    below[:] = np.where(cutout[..., 3:] >= OPAQUE, blended, below)
