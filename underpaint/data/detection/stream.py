"""The endless stream of batches for a detector, read by worker processes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from underpaint.core import ObjectBatch
from underpaint.data.decode.limits import BadImage
from underpaint.data.detection.samples import Sample, SampleMaker, collate, normalise
from underpaint.data.quarantine import Quarantine
from underpaint.data.sample_index import SourceSampleIndex
from underpaint.data.source import Problem
from underpaint.data.stream import Batching, Stream
from underpaint.data.workers import process_context, start_worker

PREFETCH = 2
"""Number of batches that each worker process prepares ahead."""


class ObjectStream(Stream):
    """Endless microbatches of views with their objects.

    The sample at a position depends on the table, the seed and the position only, with any number of workers. An image
    that cannot be used is a placeholder with weight 0, reported to ``quarantine``.

    Raises:
        ValueError: for a batch larger than the data.
    """

    def __init__(
        self, items: SourceSampleIndex, maker: SampleMaker, *, batching: Batching, quarantine: Quarantine
    ) -> None:
        if batching.batch_size > items.images:
            raise ValueError(
                f"batch_size={batching.batch_size} is more than the {items.images} images that '{items.name}' has "
                f"to train on; choose at most {items.images}"
            )
        super().__init__(batching, quarantine, parts=items.parts)
        self.samples = _Samples(items, maker)
        if batching.workers:
            maker.table.share_memory()
        quarantine.add(items.problems)

    def read(self, starts: Iterable[int]) -> Iterator[tuple[ObjectBatch, list[Problem]]]:
        for batch, problems in _data_loader(self.samples, starts, self.batching):
            normalise(batch, self.samples.maker.image)
            yield batch, problems


class _Samples(Dataset[tuple[int, Sample | Problem]]):
    """The sample at each position of the stream; sent to the worker processes."""

    def __init__(self, items: SourceSampleIndex, maker: SampleMaker) -> None:
        self.items = items
        self.maker = maker

    def __getitem__(self, position: int) -> tuple[int, Sample | Problem]:
        item = self.items.at(position)
        try:
            return position, self.maker.make(self.items.row_at(position), self.items.read(item), position)
        except BadImage as error:
            return position, Problem(key=item.key, reason=str(error))

    def collate(self, samples: list[tuple[int, Sample | Problem]]) -> tuple[ObjectBatch, list[Problem]]:
        good = [sample if isinstance(sample, Sample) else None for _, sample in samples]
        problems = [sample for _, sample in samples if isinstance(sample, Problem)]
        return collate(good, [position for position, _ in samples], self.maker), problems


class _Positions:
    """The stateless batch sampler: positions of the microbatches that begin at ``starts``."""

    def __init__(self, starts: Iterable[int], count: int) -> None:
        self.starts, self.count = starts, count

    def __iter__(self) -> Iterator[list[int]]:
        for first in self.starts:
            yield list(range(first, first + self.count))


def _data_loader(samples: _Samples, starts: Iterable[int], batching: Batching) -> DataLoader[Any]:
    return DataLoader(
        samples,
        batch_sampler=_Positions(starts, batching.microbatch),
        num_workers=batching.workers,
        prefetch_factor=PREFETCH if batching.workers else None,
        collate_fn=samples.collate,
        worker_init_fn=start_worker,
        multiprocessing_context=process_context(__name__) if batching.workers else None,
        generator=torch.Generator(),  # else the loader would draw its base seed from the global generator
    )
