"""Views of an image: the random one of training and the plain one of evaluation, both with values in [0, 1]."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float, Num, UInt8
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from underpaint import keyed_random
from underpaint.core import EvaluationView, Interpolation

RATIO = (3 / 4, 4 / 3)
"""Range of the ratio of width to height of a random crop."""
ATTEMPTS = 10
"""Number of crops drawn to find one inside the image, before the largest central crop of an allowed shape is taken."""

THIN = 16
"""Largest aspect ratio, relative to the view's, of an image that is resized whole; the longer side of others is cut to
its middle, since the line of pixels that a broken scan leaves would take gigabytes."""


STRIP = 1 << 19
"""Number of pixels above which an image is resized in strips of rows: as floats, large ones would take gigabytes, and
those of some megapixels memory that the system clears anew for each."""


def train_view(
    image: Num[Tensor, "c h w"], *, size: tuple[int, int], scale: tuple[float, float], flip: bool, seed: int
) -> Float[Tensor, "c out_h out_w"]:
    """RandomResizedCrop: a random part of the image, resized to ``size`` and, where allowed, mirrored.

    ``scale`` is the range of the part's area; everything random follows from ``seed`` alone.
    """
    top, left, height, width = random_crop(image.shape[-2], image.shape[-1], scale=scale, seed=seed)
    view = _resized(image[:, top : top + height, left : left + width], size)
    return view.flip(-1) if flip and mirrors(seed) else view


def mirrors(seed: int) -> bool:
    """Whether the view with this seed is mirrored, if the image may be."""
    return bool(keyed_random.mix(seed, 0) & 1)


def random_crop(height: int, width: int, *, scale: tuple[float, float], seed: int) -> tuple[int, int, int, int]:
    """A random crop (top, left, height, width), distributed as in torchvision's RandomResizedCrop.

    Written again because torchvision's takes no generator: lending it torch's global one in a state of each sample's
    own costs more than decoding a small image.
    """
    area, low, high = height * width, math.log(RATIO[0]), math.log(RATIO[1])
    for attempt in range(ATTEMPTS):
        u = [keyed_random.mix(seed, 4 * attempt + number) / 2**64 for number in range(1, 5)]
        target = area * (scale[0] + (scale[1] - scale[0]) * u[0])
        ratio = math.exp(low + (high - low) * u[1])
        w, h = round(math.sqrt(target * ratio)), round(math.sqrt(target / ratio))
        if 0 < w <= width and 0 < h <= height:
            return int(u[2] * (height - h + 1)), int(u[3] * (width - w + 1)), h, w
    h = min(height, round(width / RATIO[0]))
    w = min(width, round(height * RATIO[1]))
    return (height - h) // 2, (width - w) // 2, h, w


def eval_view(
    image: Num[Tensor, "c h w"],
    *,
    size: tuple[int, int],
    view: EvaluationView = "stretch",
    crop_share: float = 1.0,
    interpolation: Interpolation = "bicubic",
    eight_bit: bool = False,
) -> Float[Tensor, "c out_h out_w"]:
    """The whole image resized straight to ``size``, whatever its shape: nothing is cut off (paper 2.2).

    Or, with ``view="crop"``, the centre cut out of the image resized to cover ``size / crop_share``, with the roundings
    of torchvision's Resize and CenterCrop. ``crop_oblong`` does so for images of another shape than ``size`` alone.
    With ``eight_bit`` Pillow resizes 8-bit images, as in published evaluations.
    """
    resize = _resized_by_pillow if eight_bit and image.dtype == torch.uint8 else _resized
    height, width = image.shape[-2:]
    if view == "stretch" or (view == "crop_oblong" and height * size[1] == width * size[0]):
        return resize(image, size, interpolation)
    image = _middle(image, size)
    height, width = image.shape[-2:]
    rows, columns = (math.floor(side / crop_share) for side in size)
    if height * columns <= width * rows:  # height is what just covers
        covering = rows, max(columns, int(rows * width / height))
    else:
        covering = max(rows, int(columns * height / width)), columns
    resized = resize(image, covering, interpolation)
    top, left = (round((whole - side) / 2) for whole, side in zip(covering, size, strict=True))
    return resized[:, top : top + size[0], left : left + size[1]]


def _middle(image: Num[Tensor, "c h w"], size: tuple[int, int]) -> Num[Tensor, "c h2 w2"]:
    """The image without the ends of a very long side, none of which a centre crop of this shape shows."""
    height, width = image.shape[-2:]
    rows, columns = size
    kept_height = min(height, -(-THIN * width * rows // columns))
    kept_width = min(width, -(-THIN * height * columns // rows))
    top, left = (height - kept_height) // 2, (width - kept_width) // 2
    return image[:, top : top + kept_height, left : left + kept_width]


_PILLOW = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


def _resized_by_pillow(
    image: UInt8[Tensor, "c h w"], size: tuple[int, int], interpolation: Interpolation
) -> Float[Tensor, "c out_h out_w"]:
    """Colours at once, other numbers of channels one by one, which takes twice the time and gives the same bits."""
    shape = size[1], size[0]
    if len(image) == 3:
        colours = Image.fromarray(image.permute(1, 2, 0).numpy()).resize(shape, _PILLOW[interpolation])
        resized = np.asarray(colours).transpose(2, 0, 1)
    else:
        planes = [Image.fromarray(plane.numpy()).resize(shape, _PILLOW[interpolation]) for plane in image.contiguous()]
        resized = np.stack([np.asarray(plane) for plane in planes])
    return torch.from_numpy(resized.astype(np.float32)).div_(255)


def _resized(
    image: Num[Tensor, "c h w"], size: tuple[int, int], interpolation: Interpolation = "bicubic"
) -> Float[Tensor, "c out_h out_w"]:
    if image[0].numel() > STRIP:  # the same bits, as rows are resized across before they have to do with each other
        strips = image.split(max(1, STRIP // image.shape[-1]), dim=-2)
        image = torch.cat([_across(strip, size[1], interpolation) for strip in strips], dim=-2)
    return _interpolated(_floats(image), size, interpolation).clamp_(0, 1)  # bicubic overshoots at edges


def _across(strip: Num[Tensor, "c h w"], width: int, interpolation: Interpolation) -> Float[Tensor, "c h out_w"]:
    return _interpolated(_floats(strip), (strip.shape[-2], width), interpolation)


def _floats(image: Num[Tensor, "c h w"]) -> Float[Tensor, "c h w"]:
    values = image.to(torch.float32)
    return values.div_(255) if image.dtype == torch.uint8 else values


def _interpolated(
    values: Float[Tensor, "c h w"], size: tuple[int, int], interpolation: Interpolation
) -> Float[Tensor, "c out_h out_w"]:
    return F.interpolate(values[None], size=size, mode=interpolation, align_corners=False, antialias=True)[0]
