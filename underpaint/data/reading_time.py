"""How long it takes to read images for training and evaluation, measured on some of them."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor

from underpaint.core import ImageInput
from underpaint.data.decode.limits import BadImage
from underpaint.data.decode.scaled import scaled_views
from underpaint.data.decode.transforms import eval_view, train_view
from underpaint.data.loader import CACHE_BYTES, Decoding, read_image
from underpaint.data.open_dataset import ImageDataset

READ = 12
"""Images that are read to measure how long reading takes."""
USUAL_SIZE = (48, 48)
"""Height and width of the views for which the time is measured, unless others are named."""
SCALE = (0.2, 1.0)
"""Range of a crop's share of the image's area."""
BOUND = 2 / 255
"""Largest mean difference between a view by scaled decoding and that by full decoding, where a rule chooses it."""
GAIN = 1.1
"""Scaled decoding must be so many times as fast to be chosen by the rule."""


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
    heldout: int = 0
    """Number of images on which the held-out loss is measured."""
    scaled: float = math.inf
    """Seconds to read one and make a training view of it by scaled decoding."""
    difference: float = math.inf
    """Largest mean difference between a view by scaled decoding and that by full decoding, of values in [0, 1]."""
    uses: Decoding = "full"
    """The way of decoding that training uses."""

    @property
    def seconds(self) -> float:
        """Mean time to make a training view in one process."""
        return self.scaled if self.uses == "scaled" else self.cropping + (1 - self.cached) * self.decoding

    @property
    def evaluation_seconds(self) -> float:
        """Mean time to make an evaluation view in one process; evaluations read every image."""
        return self.decoding + self.resizing

    def by_rule(self) -> Images:
        """The same with scaled decoding where that is ``GAIN`` times as fast and keeps its views within ``BOUND``."""
        full, scaled = replace(self, uses="full"), replace(self, uses="scaled")
        return scaled if self.difference <= BOUND and scaled.seconds * GAIN < full.seconds else full

    def heldout_seconds(self, times: int, step: float) -> float:
        """Seconds to read the held-out images, and to measure their loss so often; ``step`` is a training sample's."""
        return self.heldout * (self.evaluation_seconds + times * step / 3)


def images_of(dataset: ImageDataset, *, labels: int = 0, size: tuple[int, int] = USUAL_SIZE) -> Images:
    """The images of a dataset, the first of which are read here and shown at ``size`` pixels."""
    index = dataset.sample_index(batch_size=dataset.config.lanes.count * dataset.config.views, seed=0)
    reads = [partial(index.read, index.at(position)) for position in range(min(READ, index.images))]
    images = seen(reads, count=index.images, labels=labels, size=size)
    return replace(images, heldout=dataset.heldout_images, uses=dataset.config.decoding)


def seen(
    reads: Sequence[Callable[[], bytes]], *, count: int, labels: int = 0, size: tuple[int, int] = USUAL_SIZE
) -> Images:
    """``count`` images, of which some are read here, one at a time: their size, and how long reading takes.

    The first one is read twice, and counts the second time: libraries are loaded, and memory is mapped, once.

    Raises:
        ValueError: if none of those can be read.
    """
    timed = [_timed(read, size, seed) for seed, read in enumerate([*reads[:1], *reads])][1:]
    known = [each for each in timed if each is not None]
    if not known:
        raise ValueError(f"none of {len(reads)} images can be read; `underpaint look` on their folder says why")
    decoded_bytes = statistics.fmean(each.bytes for each in known)
    return Images(
        count=count,
        side=round(statistics.median(each.side for each in known)),
        decoding=statistics.fmean(each.decoding for each in known),
        cropping=statistics.fmean(each.cropping for each in known),
        labels=labels,
        cached=min(1.0, CACHE_BYTES / (decoded_bytes * count)),
        resizing=statistics.fmean(each.resizing for each in known),
        scaled=statistics.fmean(each.scaled for each in known),
        difference=max(each.difference for each in known),
    )


@dataclass(frozen=True, kw_only=True)
class _Timed:
    """One image: its shorter side, its bytes when decoded, and seconds as in ``Images``."""

    side: int
    bytes: int
    decoding: float
    cropping: float
    resizing: float
    scaled: float
    difference: float


def _timed(read: Callable[[], bytes], size: tuple[int, int], seed: int) -> _Timed | None:
    """The times of one image; None if it cannot be read."""
    format = ImageInput(size=size, channels=3, value_range=(0.0, 255.0), mean=(0.0,) * 3, std=(1.0,) * 3)
    started = time.perf_counter()
    image = read_image(read, format)
    if isinstance(image, BadImage):
        return None
    decoded = time.perf_counter()
    view = train_view(image, size=size, scale=SCALE, flip=True, seed=seed)
    cropped = time.perf_counter()
    eval_view(image, size=size)
    resized = time.perf_counter()
    small = scaled_views(read(), channels=3, size=size, scale=SCALE, flip=True, seeds=[seed])
    done = time.perf_counter()
    return _Timed(
        side=min(image.shape[-2:]),
        bytes=image.nbytes,
        decoding=decoded - started,
        cropping=cropped - decoded,
        resizing=resized - cropped,
        scaled=cropped - started if small is None else done - resized,  # as the loader does with other files
        difference=_difference(view, small),
    )


def _difference(view: Tensor, small: Sequence[Tensor] | None) -> float:
    return 0.0 if small is None else float((view - small[0].float() / 255).abs().mean())
