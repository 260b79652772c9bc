"""How long it takes to read images for training and evaluation, measured on some of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from underpaint.core import ImageInput
from underpaint.data.decode.transforms import eval_view, train_view
from underpaint.data.loader import CACHE_BYTES, read_image
from underpaint.data.open_dataset import ImageDataset

READ = 12
"""Images that are read to measure how long reading takes."""
USUAL_SIZE = (48, 48)
"""Height and width of the views for which the time is measured, unless others are named."""


@dataclass(frozen=True, kw_only=True)
class Images:
    """Images to train on: how many, how large, and how long reading takes."""

    count: int
    side: int
    """Median length of the shorter side in pixels."""
    decoding: float
    """Seconds to read and decode one."""
    cropping: float
    """Seconds to make a training view of one that is decoded."""
    labels: int = 0
    """Number of different labels, for WSP."""
    cached: float = 0.0
    """Share of the images that stay decoded in memory."""
    resizing: float = 0.0
    """Seconds to make an evaluation view of one that is decoded."""

    @property
    def seconds(self) -> float:
        """Mean time to make a training view in one process."""
        return self.cropping + (1 - self.cached) * self.decoding

    @property
    def evaluation_seconds(self) -> float:
        """Mean time to make an evaluation view in one process; evaluations read every image."""
        return self.decoding + self.resizing


def images_of(dataset: ImageDataset, *, labels: int = 0, size: tuple[int, int] = USUAL_SIZE) -> Images:
    """The images of a dataset, the first of which are read here and shown at ``size`` pixels."""
    index = dataset.sample_index(batch_size=dataset.config.lanes.count * dataset.config.views, seed=0)
    reads = [partial(index.read, index.at(position)) for position in range(min(READ, index.images))]
    return seen(reads, count=index.images, labels=labels, size=size)


def seen(
    reads: Sequence[Callable[[], bytes]], *, count: int, labels: int = 0, size: tuple[int, int] = USUAL_SIZE
) -> Images:
    """``count`` images, of which some are read here: their size, and how long reading takes.

    Raises:
        ValueError: if none of those can be read.
    """
    format = ImageInput(size=size, channels=3, value_range=(0.0, 255.0), mean=(0.0,) * 3, std=(1.0,) * 3)
    started = time.perf_counter()
    images = [image for image in (read_image(read, format) for read in reads) if isinstance(image, Tensor)]
    decoded = time.perf_counter()
    if not images:
        raise ValueError(f"none of {len(reads)} images can be read; `underpaint look` on their folder says why")
    for seed, image in enumerate(images):
        train_view(image, size=format.size, scale=(0.2, 1.0), flip=True, seed=seed)
    cropped = time.perf_counter()
    for image in images:
        eval_view(image, size=format.size)
    resized = time.perf_counter()
    decoded_bytes = sum(image.nbytes for image in images) / len(images)
    return Images(
        count=count,
        side=round(statistics.median(min(image.shape[-2:]) for image in images)),
        decoding=(decoded - started) / len(reads),
        cropping=(cropped - decoded) / len(images),
        labels=labels,
        cached=min(1.0, CACHE_BYTES / (decoded_bytes * count)),
        resizing=(resized - cropped) / len(images),
    )
