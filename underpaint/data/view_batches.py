"""Batches of evaluation views, read and decoded in this process or by worker processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from underpaint.core import ImageInput
from underpaint.data.loader import PREFETCH, read_encoded
from underpaint.data.source import Source
from underpaint.data.workers import process_context, start_worker
from underpaint.user_modules import find_named, named_modules

T = TypeVar("T")

Read = Callable[[], bytes]
Views = tuple[Float[Tensor, "b c h w"], list[str]]
"""A batch of normalised views, zeros for an image that cannot be read, and the reason for each such image, else ""."""

WORTHWHILE = 5.0
"""Seconds that worker processes have to save: the first ones of a command import torch for so long."""
FEWEST = 64
"""Images below which no worker process is started: even large photographs take some seconds only."""
PROBED = 2
"""Images that are read to know how long all of them take."""


def view_batches(reads: Sequence[Read], *, format: ImageInput, batch_size: int, workers: int = 0) -> Iterator[Views]:
    """The evaluation views of images in order, which are the same in every bit with any number of workers.

    ``reads`` return the bytes of a file, or raise OSError or BadImage. No process is started where that would take
    longer than it saves, as the time of the first images shows.
    """
    read = partial(read_encoded, format=format)
    for image, problems in read_batches(reads, read, batch_size=batch_size, workers=workers):
        yield image, list(problems)


def read_batches(
    reads: Sequence[Read], read: Callable[[Sequence[Read]], T], *, batch_size: int, workers: int = 0
) -> Iterator[T]:
    """The answers of ``read``, which worker processes get pickled, to ``batch_size`` images at a time, in order."""
    batches = [reads[start : start + batch_size] for start in range(0, len(reads), batch_size)]
    many = workers and len(reads) >= FEWEST
    alone = _seconds_of_one(reads, read) * len(reads) if many else 0.0
    if alone * workers / (workers + 1) <= WORTHWHILE:
        yield from map(read, batches)
        return
    yield from DataLoader(
        _Batches(batches, read),
        batch_size=None,
        num_workers=workers,
        prefetch_factor=PREFETCH,
        worker_init_fn=start_worker,
        multiprocessing_context=process_context(__name__),
        generator=torch.Generator(),  # else the loader would draw its base seed from the global generator
    )


def _seconds_of_one(reads: Sequence[Read], read: Callable[[Sequence[Read]], object]) -> float:
    """How long an image takes in this process: the mean of the first ones, which are read once more for it."""
    started = time.perf_counter()
    read(reads[:PROBED])
    return (time.perf_counter() - started) / len(reads[:PROBED])


def row_batches(
    source: Source, rows: Sequence[int], *, format: ImageInput, batch_size: int, workers: int = 0
) -> Iterator[tuple[Float[Tensor, "b c h w"], Bool[Tensor, " b"]]]:
    """The same for rows of a source, and which of them could be read."""
    reads = [partial(source.files.read, source.path[row]) for row in rows]
    for image, problems in view_batches(reads, format=format, batch_size=batch_size, workers=workers):
        yield image, torch.tensor([not problem for problem in problems])


class _Batches(Dataset[T], Generic[T]):
    """The batches by their number; sent to the worker processes."""

    def __init__(self, batches: Sequence[Sequence[Read]], read: Callable[[Sequence[Read]], T]) -> None:
        self.batches, self.read = batches, read

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle with the state last, since files of a source may be of a class in a module that the user named."""
        return _unfilled, (named_modules(),), self.__dict__

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> T:
        return self.read(self.batches[number])


def _unfilled(modules: Sequence[tuple[str, str]]) -> _Batches[Any]:
    """Batches without state, for unpickling in a worker process; makes the user's modules importable first."""
    find_named(modules)
    return _Batches.__new__(_Batches)
