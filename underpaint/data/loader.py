"""Batches of images: an endless stream for training, and plain reading for evaluation and statistics."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.utils.data
from jaxtyping import Float, Int64, Num, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from underpaint import keyed_random
from underpaint.core import PAD_LABEL, ImageInput, LabelBatch, normalisation
from underpaint.data.augment.augmenter import Augmenter
from underpaint.data.augment.options import Augment
from underpaint.data.decode.image import EIGHT_BIT, decode
from underpaint.data.decode.limits import BadImage
from underpaint.data.decode.scaled import scaled_views
from underpaint.data.decode.transforms import eval_view, train_view
from underpaint.data.quarantine import Quarantine
from underpaint.data.sample_index import Item, SampleIndex
from underpaint.data.source import Problem, Source
from underpaint.data.stream import Batching, Stream
from underpaint.data.workers import process_context, start_worker
from underpaint.user_modules import find_named, named_modules

Decoding = Literal["full", "scaled"]
"""Way to decode images: in full, or ``scaled``, at a reduced size where a JPEG's crop allows it."""

PREFETCH = 2
"""Number of batches that each worker process prepares ahead."""

CACHE_BYTES = 256 * 1024 * 1024
"""Largest total size of the decoded images that each process keeps: a small collection fits as a whole."""


@dataclass(frozen=True, kw_only=True)
class TrainingViews:
    """Random views of the images of a stream."""

    scale: tuple[float, float]
    """Range of a crop's share of the image's area."""
    count: int = 1
    """Number of views of each decoded image, at consecutive positions."""
    decoding: Decoding = "full"
    augment: Augment = Augment()  # noqa: RUF009 - frozen


class ImageStream(Stream):
    """Endless microbatches of augmented images.

    The sample at a position depends on the items, the seed and the position only, with any number of workers. With
    several views as many consecutive positions show one image, decoded once.

    Labels are padded to the longest target of the whole stream, so that shapes are static. A record that cannot be
    decoded is a placeholder of zeros with weight 0, reported to ``quarantine``, together with the known problems.
    Raises ValueError for a batch larger than the data, TooManyBadRecords when building or iterating, OSError where
    reading cannot go on.
    """

    def __init__(
        self,
        items: SampleIndex,
        *,
        format: ImageInput,
        views: TrainingViews,
        seed: int,
        batching: Batching,
        quarantine: Quarantine,
    ) -> None:
        if batching.batch_size > (most := items.images * views.count):
            fits = 1 << max(0, most.bit_length() - 1)
            raise ValueError(
                f"budget.batch_size={batching.batch_size} is more than the {items.images} images that '{items.name}' "
                f"has to train on; add budget.batch_size={fits} budget.microbatch={fits}, or at most {most}"
            )
        if batching.microbatch % views.count:
            raise ValueError(f"data.views={views.count} must divide the microbatch {batching.microbatch}")
        if views.augment.mixes and batching.microbatch % views.augment.mix_group:
            raise ValueError(
                f"data.augment.mix_group={views.augment.mix_group} must divide the microbatch {batching.microbatch}"
            )
        super().__init__(batching, quarantine, parts=items.parts)
        self.items = items
        self._samples = _Samples(items, format=format, views=views, seed=seed)
        quarantine.add(items.problems)

    def read(self, starts: Iterable[int]) -> Iterator[tuple[LabelBatch, list[Problem]]]:
        samples = copy.copy(self._samples)
        if samples.scaled and self.batching.workers:
            samples.pool = _shared_pool(self._samples.format, self.batching)
        for number, loaded in enumerate(_data_loader(samples, starts, self.batching)):
            if isinstance(loaded, OSError):
                raise loaded
            batch, problems = loaded
            if batch["image"].dtype == torch.uint8:
                image = batch["image"] if samples.pool is None else samples.pool[number % len(samples.pool)]
                batch["image"] = _from_bytes(image, batch["weight"], samples.format)
            samples.augmenter.batch(batch)
            yield batch, problems


def read_images(
    source: Source, rows: Sequence[int], *, format: ImageInput
) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, " b"]]:
    """The evaluation view of the rows, normalised, and weights: 0 with an image of zeros where the record is bad."""
    files = [functools.partial(source.files.read, source.path[row]) for row in rows]
    image, reasons = read_encoded(files, format=format)
    return image, torch.tensor([0.0 if reason else 1.0 for reason in reasons])


def read_files(paths: Sequence[Path], *, format: ImageInput) -> tuple[Float[Tensor, "b c h w"], list[str]]:
    """The evaluation views of image files, normalised, and for each file the reason why it cannot be read, or ""."""
    return read_encoded([path.read_bytes for path in paths], format=format)


def read_encoded(
    files: Sequence[Callable[[], bytes]], *, format: ImageInput
) -> tuple[Float[Tensor, "b c h w"], list[str]]:
    """The result of ``read_files`` for functions that return a file's bytes, or raise OSError or BadImage.

    One image is held at a time: a batch of the largest ones would not fit into memory.
    """
    names = ("size", "view", "crop_share", "interpolation", "eight_bit")
    how: dict[str, Any] = {name: getattr(format, name) for name in names}
    views: list[Tensor | None] = []
    problems: list[str] = []
    for file in files:
        image = read_image(file, format)
        views.append(None if isinstance(image, BadImage) else eval_view(image, **how))
        problems.append(str(image) if isinstance(image, BadImage) else "")
    return _normalised(views, format), problems


def read_heldout(
    images: Sequence[tuple[str, Callable[[], bytes]]],
    targets: Sequence[tuple[int, ...]],
    *,
    format: ImageInput,
    batch_size: int,
    longest: int,
) -> Iterator[LabelBatch]:
    """Batches of the evaluation views of images with at most ``longest`` labels of each; unreadable ones have weight 0.

    Each image is given by its name and a function that returns its bytes.

    Raises:
        ValueError: after the last batch, if no image can be read.
    """
    problems: list[str] = []
    for start in range(0, len(images), batch_size):
        chunk = range(start, min(start + batch_size, len(images)))
        image, reasons = read_encoded([images[place][1] for place in chunk], format=format)
        problems += reasons
        yield {
            "image": image,
            "position": torch.arange(start, start + len(chunk)),
            "weight": torch.tensor([0.0 if reason else 1.0 for reason in reasons]),
            "labels": pad_labels([targets[place][:longest] for place in chunk], longest),
        }
    if images and all(problems):
        raise ValueError(f"none of {len(images)} held-out images can be read; the first, {images[0][0]}: {problems[0]}")


def channel_statistics(
    source: Source, rows: Sequence[int], *, channels: int, value_range: tuple[float, float], size: tuple[int, int]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of the evaluation views, values in [0, 1], rounded to 4 digits.

    Bad records are skipped. Raises ValueError when none can be read or a channel is the same value everywhere.
    """
    plain: dict[str, Any] = {"mean": (0.0,) * channels, "std": (1.0,) * channels}
    format = ImageInput(size=size, channels=channels, value_range=value_range, **plain)
    count = 0
    total, squares = torch.zeros(channels, dtype=torch.float64), torch.zeros(channels, dtype=torch.float64)
    for row in rows:
        image = read_image(functools.partial(source.files.read, source.path[row]), format)
        if isinstance(image, BadImage):
            continue
        pixels = eval_view(image, size=size).double().flatten(1)
        count += pixels.shape[1]
        total += pixels.sum(1)
        squares += pixels.square().sum(1)
    if count == 0:
        raise ValueError(f"none of the {len(rows)} images of '{source.name}' could be read: no mean and deviation")
    mean = total / count
    std = (squares / count - mean.square()).clamp(min=0).sqrt()
    constant = [channel for channel in range(channels) if std[channel] < 5e-5]
    if constant:
        raise ValueError(f"channels {constant} of '{source.name}' hold one value only; check value_range={value_range}")
    return tuple(round(x, 4) for x in mean.tolist()), tuple(round(x, 4) for x in std.tolist())


def pad_labels(targets: Sequence[tuple[int, ...]], longest: int) -> Int64[Tensor, "b l"]:
    """Label ids as one tensor, rows filled up with PAD_LABEL."""
    labels = torch.full((len(targets), longest), PAD_LABEL, dtype=torch.int64)
    for row, ids in enumerate(targets):
        labels[row, : len(ids)] = torch.tensor(ids, dtype=torch.int64)
    return labels


class _Sample(NamedTuple):
    image: Num[Tensor, "c h w"] | None
    """The view in [0, 1] or of eight bits; None where the record is bad."""
    position: int
    labels: tuple[int, ...]
    problem: Problem | None


class _Samples(Dataset[_Sample | OSError]):
    """The sample at each position of the stream; sent to the worker processes."""

    def __init__(
        self,
        items: SampleIndex,
        *,
        format: ImageInput,
        views: TrainingViews,
        seed: int,
    ) -> None:
        self.items, self.format, self.scale, self.views = items, format, views.scale, views.count
        self.scaled = views.decoding == "scaled" and format.value_range == EIGHT_BIT
        self.augmenter = Augmenter(views.augment, format, seed=seed)
        self.crop_key = keyed_random.key(seed, "crop")
        self.cache: dict[Hashable, Tensor] = {}
        self.free_cache = CACHE_BYTES
        self.pool: UInt8[Tensor, "slots b c h w"] | None = None
        """Memory shared by all processes: batch k of eight-bit views lies in slot k modulo the number of slots."""
        self.last: tuple[int, list[Tensor] | BadImage] | None = None
        """The group of positions of the last image, and its views."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle with the state last, since files of a source may be of a class in a module that the user named."""
        return _unfilled, (named_modules(),), self.__dict__

    def __getitem__(self, position: int) -> _Sample | OSError:
        """The sample at a position, or the error that ends the stream: raised in a worker it would be a traceback."""
        group, view = divmod(position, self.views)
        item = self.items.at(group)
        try:
            if self.last is None or self.last[0] != group:
                self.last = group, self._views(item, group)
        except OSError as error:
            return error
        views = self.last[1]
        if isinstance(views, BadImage):
            return _Sample(None, position, (), Problem(key=item.key, reason=str(views)))
        return _Sample(views[view], position, item.labels, None)

    def _views(self, item: Item, group: int) -> list[Tensor] | BadImage:
        first = group * self.views
        seeds = [keyed_random.sample_seed(self.crop_key, position) for position in range(first, first + self.views)]
        how: dict[str, Any] = {"size": self.format.size, "scale": self.scale, "flip": item.flip}
        try:
            if self.scaled:
                data = self.items.read(item)
                views = scaled_views(data, channels=self.format.channels, seeds=seeds, **how)
                if views is not None:
                    return self._augmented(views, first)
                image = _decoded(data, self.format)
            else:
                image = self._kept(item)
        except BadImage as problem:
            return problem
        return self._augmented([train_view(image, seed=seed, **how) for seed in seeds], first)

    def _augmented(self, views: list[Tensor], first: int) -> list[Tensor]:
        return [self.augmenter.view(view, first + number) for number, view in enumerate(views)]

    def _kept(self, item: Item) -> Tensor:
        """The decoded image; small collections stay in memory, since decoding again costs more than the crop."""
        if item.image in self.cache:
            return self.cache[item.image]
        image = _decoded(self.items.read(item), self.format)
        if self.free_cache >= image.nbytes:
            self.free_cache -= image.nbytes
            self.cache[item.image] = image
        return image

    def __getitems__(self, numbers: list[int]) -> tuple[int, list[_Sample | OSError]]:
        """The number of a batch and its samples, from its number and its positions: torch asks for a batch at once."""
        return numbers[0], [self[position] for position in numbers[1:]]

    def collate(self, batch_of: tuple[int, list[_Sample | OSError]]) -> tuple[LabelBatch, list[Problem]] | OSError:
        number, samples = batch_of
        good = [sample for sample in samples if not isinstance(sample, OSError)]
        if len(good) < len(samples):
            return next(sample for sample in samples if isinstance(sample, OSError))
        batch: LabelBatch = {
            "image": self._stacked([sample.image for sample in good], number),
            "position": torch.tensor([sample.position for sample in good], dtype=torch.int64),
            "weight": torch.tensor([0.0 if sample.problem else 1.0 for sample in good]),
            "labels": pad_labels([sample.labels for sample in good], self.items.longest_target),
        }
        return batch, [sample.problem for sample in good if sample.problem]

    def _stacked(self, views: Sequence[Tensor | None], number: int) -> Num[Tensor, "b c h w"]:
        """The batch of views, normalised, or in eight bits (a quarter of the bytes), normalised in the main process."""
        if any(view is not None and view.dtype != torch.uint8 for view in views) or not any(
            view is not None for view in views
        ):
            return _normalised(views, self.format)
        if self.pool is None:
            image = torch.empty((len(views), self.format.channels, *self.format.size), dtype=torch.uint8)
        else:
            image = self.pool[number % len(self.pool)]
        for row, view in enumerate(views):
            if view is not None:
                image[row] = view
        return image if self.pool is None else image[:0]  # the main process has the slot itself


def _unfilled(modules: Sequence[tuple[str, str]]) -> _Samples:
    """Samples without state, for unpickling in a worker process; makes the user's modules importable first."""
    find_named(modules)
    return _Samples.__new__(_Samples)


class _Positions:
    """The stateless batch sampler: number and positions of the microbatches that begin at ``starts``."""

    def __init__(self, starts: Iterable[int], count: int) -> None:
        self.starts, self.count = starts, count

    def __iter__(self) -> Iterator[list[int]]:
        for number, first in enumerate(self.starts):
            yield [number, *range(first, first + self.count)]


def _data_loader(samples: _Samples, starts: Iterable[int], batching: Batching) -> DataLoader[Any]:
    collate: Any = samples.collate  # of what __getitems__ returns, which is no list here
    return DataLoader(
        samples,
        batch_sampler=_Positions(starts, batching.microbatch),
        num_workers=batching.workers,
        prefetch_factor=PREFETCH if batching.workers else None,
        collate_fn=collate,
        worker_init_fn=start_worker,
        multiprocessing_context=process_context(__name__) if batching.workers else None,
        generator=torch.Generator(),  # else the loader would draw its base seed from the global generator
    )


def read_image(file: Callable[[], bytes], format: ImageInput) -> Num[Tensor, "c h w"] | BadImage:
    """The decoded image of a file whose bytes a function returns, or the reason why there is none."""
    try:
        return _decoded(file(), format)
    except BadImage as problem:
        return problem
    except OSError as problem:
        return BadImage(f"cannot be read: {problem.strerror or problem}")


def _decoded(data: bytes, format: ImageInput) -> Tensor:
    return decode(data, channels=format.channels, value_range=format.value_range)


def _normalised(views: Sequence[Tensor | None], format: ImageInput) -> Float[Tensor, "b c h w"]:
    """A batch of views, in [0, 1] or of eight bits, normalised; zeros for a missing view."""
    image = torch.zeros(len(views), format.channels, *format.size)
    mean, std = normalisation(format.mean, format.std, image)
    for row, view in enumerate(views):
        if view is not None:
            torch.sub(view.div(255) if view.dtype == torch.uint8 else view, mean, out=image[row])
    return image.div_(std)


def _from_bytes(
    image: UInt8[Tensor, "b c h w"], weight: Float[Tensor, " b"], format: ImageInput
) -> Float[Tensor, "b c h w"]:
    """A batch of eight-bit views, normalised, zeros where the weight is 0; equal to ``_normalised`` in every bit."""
    # numpy asks the system for large pages, torch does not: touching new memory would take longer than the arithmetic
    whole = torch.from_numpy(np.empty(tuple(image.shape), dtype=np.float32))
    mean, std = normalisation(format.mean, format.std, whole)
    for row, kept in enumerate(weight.tolist()):
        if kept:
            torch.div(image[row], 255, out=whole[row]).sub_(mean).div_(std)
        else:
            whole[row] = 0
    return whole


def _shared_pool(format: ImageInput, batching: Batching) -> UInt8[Tensor, "slots b c h w"]:
    """Shared slots for one batch more than the workers can have in flight, so that one can be read meanwhile.

    Memory of its own for every batch would be mapped anew each time, which can take longer than decoding.
    """
    slots = batching.workers * PREFETCH + 1
    shape = (slots, batching.microbatch, format.channels, *format.size)
    return torch.empty(shape, dtype=torch.uint8).share_memory_()
