"""Whole images fitted into the input of a detector, read and decoded in this process or by worker processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from underpaint.core import ImageInput
from underpaint.data.decode.limits import BadImage
from underpaint.data.detection.samples import image_batch, normalised
from underpaint.data.detection.views import show, whole
from underpaint.data.loader import read_image
from underpaint.data.view_batches import Read, read_batches


class WholeImages(NamedTuple):
    """A batch of images; one that cannot be read is 0, the mean colour."""

    image: Float[Tensor, "b c h w"]
    extent: Float[Tensor, "b 2"]
    """Height and width of the part of each input that shows the image."""
    size: Int64[Tensor, "b 2"]
    """Height and width of each image as it is stored."""
    problems: Sequence[str]
    """Reason for each image that cannot be read, else ""."""


def whole_images(
    reads: Sequence[Read], *, format: ImageInput, batch_size: int, workers: int = 0
) -> Iterator[WholeImages]:
    """Images in order, which are the same in every bit with any number of workers (``view_batches.py``)."""
    return read_batches(reads, partial(read_whole, format=format), batch_size=batch_size, workers=workers)


def read_whole(reads: Sequence[Read], *, format: ImageInput) -> WholeImages:
    """The images of one batch, each as large as its input allows."""
    images: list[Tensor | None] = []
    size = torch.ones(len(reads), 2, dtype=torch.int64)
    problems: list[str] = []
    for row, read in enumerate(reads):
        pixels = read_image(read, format)
        problems.append(str(pixels) if isinstance(pixels, BadImage) else "")
        if isinstance(pixels, BadImage):
            images.append(None)
            continue
        size[row] = torch.tensor(pixels.shape[1:])
        images.append(show(pixels, whole(pixels.shape[1], pixels.shape[2], size=format.size)))
    stored, extent = image_batch(images, format)
    image = normalised(stored, extent, format)
    image[[bool(problem) for problem in problems]] = 0
    return WholeImages(image, extent, size, problems)
