"""RandAugment as timm has it, the policy of published finetuning: ``rand-m9-mstd0.5-inc1`` (paper.md 2.2).

It is not torchvision's RandAugment, which has other operations (``Identity``, no ``Invert`` and ``SolarizeAdd``), one
strength for all, and no probability of each. Operations act on 8-bit images by torchvision's functional operations on
Pillow images, whose bits are timm's; shears and translations are Pillow's affine transform, since torchvision's
shears about the centre.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from underpaint.data.augment.draws import Draws
from underpaint.data.augment.options import RandAugmentSpec

STRONGEST = 10.0
Fill = tuple[int, ...]
"""Value of pixels that come from outside the image, one per channel: the mean of the encoder's config."""


class Operation(NamedTuple):
    """A change of an image, whose argument follows from a strength between 0 and 10 and a sign."""

    apply: Callable[[Image.Image, float, Fill], Image.Image]
    argument: Callable[[float, int], float]


def _none(strength: float, sign: int) -> float:
    return 0.0


def _signed(strength: float, sign: int, *, most: float) -> float:
    return sign * strength / STRONGEST * most


def _factor(strength: float, sign: int) -> float:
    """Factor of an enhancement, away from 1 with the strength, but at least 0.1."""
    return max(0.1, 1 + sign * strength / STRONGEST * 0.9)


def _bits(strength: float, sign: int) -> float:
    return 4 - int(strength / STRONGEST * 4)


def _threshold(strength: float, sign: int) -> float:
    return 256 - min(256, int(strength / STRONGEST * 256))


def _added(strength: float, sign: int) -> float:
    return min(128, int(strength / STRONGEST * 110))


def _affine(image: Image.Image, matrix: tuple[float, ...], fill: Fill) -> Image.Image:
    colour = fill if len(fill) > 1 else sum(fill)
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC, fillcolor=colour)


def _solarize_add(image: Image.Image, added: float, fill: Fill) -> Image.Image:
    table = [min(255, value + int(added)) if value < 128 else value for value in range(256)]
    return image.point(table * len(image.getbands()))


def _posterize(image: Image.Image, bits: float, fill: Fill) -> Image.Image:
    if not bits:  # black in the Pillow of published runs; Pillow 13 refuses it, and timm's policy stops there
        return image.point([0] * 256 * len(image.getbands()))
    return _of_torchvision(F.posterize, image, int(bits))


def _rotate(image: Image.Image, degrees: float, fill: Fill) -> Image.Image:
    rotated = partial(F.rotate, interpolation=InterpolationMode.BICUBIC, fill=list(fill))
    return _of_torchvision(rotated, image, degrees)


def _of_torchvision(change: Callable[..., object], image: Image.Image, *arguments: float) -> Image.Image:
    """The result of a functional operation, whose annotations name tensors alone."""
    changed = change(image, *arguments)
    assert isinstance(changed, Image.Image)
    return changed


def _plain(change: Callable[..., object]) -> Callable[[Image.Image, float, Fill], Image.Image]:
    return lambda image, _, fill: _of_torchvision(change, image)


def _by(change: Callable[..., object]) -> Callable[[Image.Image, float, Fill], Image.Image]:
    return lambda image, argument, fill: _of_torchvision(change, image, argument)


OPERATIONS: dict[str, Operation] = {
    "AutoContrast": Operation(_plain(F.autocontrast), _none),
    "Equalize": Operation(_plain(F.equalize), _none),
    "Invert": Operation(_plain(F.invert), _none),
    "Rotate": Operation(_rotate, partial(_signed, most=30)),
    "PosterizeIncreasing": Operation(_posterize, _bits),
    "SolarizeIncreasing": Operation(_by(F.solarize), _threshold),
    "SolarizeAdd": Operation(_solarize_add, _added),
    "ColorIncreasing": Operation(_by(F.adjust_saturation), _factor),
    "ContrastIncreasing": Operation(_by(F.adjust_contrast), _factor),
    "BrightnessIncreasing": Operation(_by(F.adjust_brightness), _factor),
    "SharpnessIncreasing": Operation(_by(F.adjust_sharpness), _factor),
    "ShearX": Operation(lambda image, x, fill: _affine(image, (1, x, 0, 0, 1, 0), fill), partial(_signed, most=0.3)),
    "ShearY": Operation(lambda image, y, fill: _affine(image, (1, 0, 0, y, 1, 0), fill), partial(_signed, most=0.3)),
    "TranslateXRel": Operation(
        lambda image, x, fill: _affine(image, (1, 0, x * image.size[0], 0, 1, 0), fill), partial(_signed, most=0.45)
    ),
    "TranslateYRel": Operation(
        lambda image, y, fill: _affine(image, (1, 0, 0, 0, 1, y * image.size[1]), fill), partial(_signed, most=0.45)
    ),
}
"""timm's increasing operations, under its names and in its order."""

_BY_NUMBER = list(OPERATIONS.values())


def rand_augment(
    image: UInt8[Tensor, "c h w"], spec: RandAugmentSpec, *, fill: Fill, seed: int
) -> UInt8[Tensor, "c h w"]:
    """The grey or RGB image after the operations that the seed draws."""
    draws = Draws(seed)
    changes: list[tuple[Operation, float]] = []
    for _ in range(spec.operations):
        operation, applied = _BY_NUMBER[draws.whole(len(_BY_NUMBER))], draws.uniform() < spec.probability
        strength = min(max(draws.normal(spec.magnitude, spec.deviation), 0.0), STRONGEST)
        sign = -1 if draws.uniform() < 0.5 else 1
        if applied:
            changes.append((operation, operation.argument(strength, sign)))
    if not changes:
        return image
    picture = to_pillow(image)
    for operation, argument in changes:
        picture = operation.apply(picture, argument, fill)
    return from_pillow(picture)


def to_pillow(image: UInt8[Tensor, "c h w"]) -> Image.Image:
    pixels = image.permute(1, 2, 0).numpy()
    return Image.fromarray(np.ascontiguousarray(pixels if len(image) == 3 else pixels[..., 0]))


def from_pillow(image: Image.Image) -> UInt8[Tensor, "c h w"]:
    pixels = np.array(image)
    return torch.from_numpy(pixels if pixels.ndim == 3 else pixels[..., None]).permute(2, 0, 1)


def fill_of(mean: tuple[float, ...]) -> Fill:
    """The mean of values in [0, 1] as 8-bit values, rounded as timm does."""
    return tuple(min(255, math.floor(255 * value + 0.5)) for value in mean)
