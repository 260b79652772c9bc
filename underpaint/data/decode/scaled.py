"""Random crops of photographs at a fraction of the work: JPEG is decoded at a reduced size, and only the crop resized.

libjpeg decodes at 1/2, 1/4 or 1/8 of the size for less work and no loss that the crop would show, as long as the crop
keeps more pixels than the view needs. The crop's edges then fall on the small image's pixels, and views are eight-bit:
an option and not the default, though views differ from those of full decoding by less than 2/255 on average for 95% of
photographs (``benchmarks/loader.py`` measures both).
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional as F

from underpaint.data.decode.image import decoding
from underpaint.data.decode.limits import check_pixels
from underpaint.data.decode.transforms import mirrors, random_crop

DETAIL = 1.5
"""Smallest number of pixels of the decoded crop per pixel of the view, in each direction, where the size is reduced."""

_SCALES = (8, 4, 2)
_ORIENTATION = 0x0112  # EXIF
_TURNED = (5, 6, 7, 8)  # values that exchange height and width


def scaled_views(
    data: bytes, *, channels: int, size: tuple[int, int], scale: tuple[float, float], flip: bool, seeds: Sequence[int]
) -> list[UInt8[Tensor, "c out_h out_w"]] | None:
    """A ``transforms.train_view`` of an image for each seed, decoded once; None for all but plain grey or RGB JPEGs.

    Raises:
        BadImage: for an image that cannot be read.
    """
    if data[:3] != b"\xff\xd8\xff" or channels not in (1, 3):
        return None
    with decoding():
        return _views(data, channels, size=size, scale=scale, flip=flip, seeds=seeds)


def _views(
    data: bytes, channels: int, *, size: tuple[int, int], scale: tuple[float, float], flip: bool, seeds: Sequence[int]
) -> list[Tensor] | None:
    with Image.open(BytesIO(data), formats=("JPEG",)) as image:
        check_pixels(*image.size)
        if image.mode not in ("L", "RGB"):
            return None
        width, height = image.size
        if image.getexif().get(_ORIENTATION) in _TURNED:
            width, height = height, width
        crops = [random_crop(height, width, scale=scale, seed=seed) for seed in seeds]
        spare = min(min(crop[2] / size[0], crop[3] / size[1]) for crop in crops) / DETAIL
        factor = next((k for k in _SCALES if k <= spare), 1)
        if factor > 1:
            image.draft(image.mode, (image.size[0] // factor, image.size[1] // factor))
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        upright = image.convert("RGB" if channels == 3 else "L")
        shrunk = upright.size[1] / height, upright.size[0] / width
        views = [_resized(_cropped(upright, crop, shrunk), size) for crop in crops]
    return [view.flip(-1) if flip and mirrors(seed) else view for view, seed in zip(views, seeds, strict=True)]


def _cropped(image: Image.Image, crop: tuple[int, int, int, int], shrunk: tuple[float, float]) -> np.ndarray:
    """The part of the reduced image that is the crop (top, left, height, width) of the full one, as (h, w, c)."""
    top, left = round(crop[0] * shrunk[0]), round(crop[1] * shrunk[1])
    bottom = max(round((crop[0] + crop[2]) * shrunk[0]), top + 1)
    right = max(round((crop[1] + crop[3]) * shrunk[1]), left + 1)
    pixels = np.array(image.crop((left, top, right, bottom)))
    return pixels if pixels.ndim == 3 else pixels[..., None]


def _resized(pixels: np.ndarray, size: tuple[int, int]) -> Tensor:
    # in this layout of memory torch has a fast path for eight-bit images
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    return F.interpolate(image, size=size, mode="bicubic", align_corners=False, antialias=True)[0]
