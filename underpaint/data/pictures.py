"""Images as people have them in Python: paths, Pillow images, arrays and tensors, and the view that a network takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Num, Shaped
from PIL import Image
from torch import Tensor

from underpaint.core import ImageInput, normalisation
from underpaint.data.decode.deep import EIGHT_BIT
from underpaint.data.decode.image import decode, decode_picture, decode_planes
from underpaint.data.decode.limits import BadImage
from underpaint.data.decode.transforms import eval_view

Picture = str | Path | Image.Image | np.ndarray | Tensor
"""A path; a Pillow image; an array (h, w, c) or (h, w), or a tensor (c, h, w) or (h, w), of stored pixels (integers) or
of values in [0, 1] (floats)."""


@runtime_checkable
class Indexed(Protocol):
    """Numbered items with a length: a list, or a dataset of ``torch.utils.data``."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


Pictures = Picture | Indexed | Iterator[Any]
"""One image, a batch of them as one array (n, h, w, c) or tensor (n, c, h, w), a list, an iterator such as
``Path.glob``, or a dataset whose items are images, or tuples that begin with one."""


@dataclass(frozen=True)
class ImageTransform:
    """Makes of one image the view that a network takes, normalised; goes where torchvision's and timm's transforms go.

    Files and Pillow images are put upright by their EXIF tag, with transparent parts on white.
    """

    format: ImageInput

    def __call__(self, image: Picture) -> Float[Tensor, "c h w"]:
        """The view of an image.

        Raises:
            BadImage: a ValueError, for an image that cannot be read, or whose layout or values cannot be meant.
            OSError: for a path that cannot be read.
        """
        form = self.format
        view = eval_view(
            stored(image, channels=form.channels, value_range=form.value_range),
            size=form.size,
            view=form.view,
            crop_share=form.crop_share,
            interpolation=form.interpolation,
            eight_bit=form.eight_bit,
        )
        mean, std = normalisation(form.mean, form.std, view)
        return (view - mean) / std


def stored(image: Picture, *, channels: int, value_range: tuple[float, float]) -> Num[Tensor, "c h w"]:
    """An image as ``decode`` gives it: uint8, or float32 with values in [0, 1].

    Raises:
        BadImage: if it cannot be read, or its layout or values cannot be meant.
        OSError: for a path that cannot be read.
    """
    if isinstance(image, (str, Path)):
        return decode(Path(image).read_bytes(), channels=channels, value_range=value_range)
    if isinstance(image, Image.Image):
        return decode_picture(image, channels=channels, value_range=value_range)
    planes = _planes(image, channels)
    if planes.dtype.kind == "f":
        _require_shares(planes)
        return decode_planes(planes, channels=channels, value_range=(0.0, 1.0))
    if planes.dtype == np.uint8 and value_range == EIGHT_BIT and len(planes) in (1, 3, 4) and channels in (1, 3):
        pixels = planes[0] if len(planes) == 1 else planes.transpose(1, 2, 0)
        return decode_picture(Image.fromarray(np.ascontiguousarray(pixels)), channels=channels, value_range=value_range)
    return decode_planes(planes, channels=channels, value_range=value_range)


def picture_list(images: Pictures) -> Indexed:
    """The images one by one: one image is a list of one, and a batch is a list of its images.

    Raises:
        ValueError: for something that has no items in an order.
    """
    if isinstance(images, (str, Path, Image.Image)):
        return [images]
    if isinstance(images, (np.ndarray, Tensor)):
        return list(images) if images.ndim == 4 else [images]
    given = list(images) if isinstance(images, Iterator) else images
    if not isinstance(given, Indexed) or isinstance(given, (bytes, dict)):
        raise ValueError(f"images is of type {type(given).__name__}; give one image, or a list or dataset of images")
    return given


def picture_at(images: Indexed, number: int) -> Picture:
    """An item of a list or dataset as an image; the first of a tuple, whose others are labels.

    Raises:
        BadImage: if it is none.
    """
    item = images[number]
    image = item[0] if isinstance(item, (tuple, list)) and item else item
    if not isinstance(image, (str, Path, Image.Image, np.ndarray, Tensor)):
        raise BadImage(
            f"an item of type {type(image).__name__} is not an image; give a path, a Pillow image, an array or a "
            f"tensor, or tuples that begin with one"
        )
    return image


def read_pictures(
    images: Indexed, numbers: Sequence[int], *, format: ImageInput
) -> tuple[Float[Tensor, "b c h w"], list[str]]:
    """Normalised views of some images, zeros where one cannot be read, and for each the reason why not, or ""."""
    transform = ImageTransform(format)
    views, problems = torch.zeros(len(numbers), format.channels, *format.size), list[str]()
    for row, number in enumerate(numbers):
        problem = ""
        try:
            views[row] = transform(picture_at(images, number))
        except BadImage as error:
            problem = str(error)
        except OSError as error:
            name = f"{error.filename} " if error.filename else ""
            problem = f"{name}cannot be read: {error.strerror or error}"
        problems.append(problem)
    return views, problems


def _planes(image: np.ndarray | Tensor, channels: int) -> Shaped[np.ndarray, "c h w"]:
    """The channels of an array or tensor, first; raises BadImage for a layout that cannot be meant."""
    first = isinstance(image, Tensor)
    values = image.detach().cpu().numpy() if isinstance(image, Tensor) else image
    what, layout = ("a tensor", "(c, h, w)") if first else ("an array", "(h, w, c)")
    if values.dtype.kind not in "uif":
        raise BadImage(f"{what} of {values.dtype} is not an image; give uint8 pixels, or floats in [0, 1]")
    if values.ndim == 2:
        return values[None]
    if values.ndim != 3:
        raise BadImage(f"{what} of shape {values.shape} is not one image; its layout is {layout} or (h, w)")
    here, there = (values.shape[0], values.shape[2]) if first else (values.shape[2], values.shape[0])
    usual = {1, 3, 4, channels}
    if here not in usual and there in usual:
        fix = ".permute(2, 0, 1)" if first else ".transpose(1, 2, 0)"
        raise BadImage(f"{what} of shape {values.shape} is not {layout}; use image{fix}")
    return values if first else values.transpose(2, 0, 1)


def _require_shares(planes: Shaped[np.ndarray, "c h w"]) -> None:
    """Refuse floats outside [0, 1], which are pixels that nobody divided, or values that are normalised already."""
    low, high = (float(planes.min()), float(planes.max())) if planes.size else (0.0, 0.0)
    if low < -1e-3 or high > 1 + 1e-3:
        raise BadImage(
            f"floats from {low:.4g} to {high:.4g} are not values in [0, 1]; divide pixels by 255 or give them as "
            f"uint8, and give images before they are normalised"
        )
