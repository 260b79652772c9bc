"""Microbatches of the samples at consecutive positions, made in worker processes or in this one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from underpaint.data.stream import Batching
from underpaint.data.workers import process_context, start_worker

PREFETCH = 2
"""Number of batches that each worker process prepares ahead."""


class PositionDataset(Dataset[Any], ABC):
    """Samples by their position, and what makes a batch of them; sent to the worker processes."""

    @abstractmethod
    def __getitem__(self, position: int) -> Any: ...

    @abstractmethod
    def collate(self, samples: list[Any]) -> Any: ...


def position_loader(
    samples: PositionDataset, starts: Iterable[int], batching: Batching, *, module: str
) -> Iterator[Any]:
    """The microbatches that begin at ``starts``; worker processes import ``module`` first."""
    return iter(
        DataLoader(
            samples,
            batch_sampler=_Positions(starts, batching.microbatch),
            num_workers=batching.workers,
            prefetch_factor=PREFETCH if batching.workers else None,
            collate_fn=samples.collate,
            worker_init_fn=start_worker,
            multiprocessing_context=process_context(module) if batching.workers else None,
            generator=torch.Generator(),  # else the loader would draw its base seed from the global generator
        )
    )


class _Positions:
    """The stateless batch sampler: positions of the microbatches that begin at ``starts``."""

    def __init__(self, starts: Iterable[int], count: int) -> None:
        self.starts, self.count = starts, count

    def __iter__(self) -> Iterator[list[int]]:
        for first in self.starts:
            yield list(range(first, first + self.count))
