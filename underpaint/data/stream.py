"""Endless streams of microbatches whose entire state is one integer, the position of the next sample."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from underpaint.core import Batch, Inputs, example_batch
from underpaint.data.decode.limits import BadImage
from underpaint.data.quarantine import Quarantine
from underpaint.data.source import Problem


@dataclass(frozen=True, kw_only=True)
class Batching:
    """Sizes of the batches of an endless stream, and the number of processes that make them."""

    batch_size: int
    """Number of samples per optimizer step."""
    microbatch: int
    """Number of samples per forward pass; divides ``batch_size``."""
    workers: int = 0
    """Number of processes that read and decode, or 0 for the main process; batches are the same with any number."""

    def __post_init__(self) -> None:
        if self.microbatch < 1 or self.batch_size % self.microbatch:
            raise ValueError(f"microbatch={self.microbatch} must divide batch_size={self.batch_size}")
        if self.workers < 0:
            raise ValueError(f"workers={self.workers} must be 0 or more")


class Stream(ABC):
    """Endless microbatches; satisfies ``core.Data``.

    Batch k covers the positions [k * batch_size, (k + 1) * batch_size) and comes in microbatches, in order. The sample
    at a position may depend on the position and on constants alone, so setting ``position`` to that of a checkpoint
    before iterating continues exactly there, and several ranks can share one stream.
    """

    def __init__(self, batching: Batching, quarantine: Quarantine, *, parts: int) -> None:
        self.batching = batching
        self.quarantine = quarantine
        self.parts = parts
        """Number of equal parts of a batch, each read by one process; the number of processes divides it."""
        self.position = 0

    def __iter__(self) -> Iterator[Batch]:
        assert self.position % self.batching.microbatch == 0, (self.position, self.batching)
        for batch, problems in self.read(itertools.count(self.position, self.batching.microbatch)):
            self.quarantine.add(problems)
            self.position += self.batching.microbatch
            yield batch

    @abstractmethod
    def read(self, starts: Iterable[int]) -> Iterator[tuple[Batch, list[Problem]]]:
        """The microbatches that begin at these positions, each with its bad records, not yet in the quarantine."""


class SampleStream(Stream):
    """A stream of samples made one at a time, for a user's own data with any inputs (docs/extend.md).

    ``sample(position)`` returns the tensors of one sample by batch key; where it raises BadImage, a placeholder of
    zeros with weight 0 stands in the batch and the reason goes to ``quarantine``.
    """

    def __init__(
        self,
        sample: Callable[[int], Mapping[str, Tensor]],
        inputs: Inputs,
        batching: Batching,
        *,
        quarantine: Quarantine,
    ) -> None:
        super().__init__(batching, quarantine, parts=batching.batch_size)
        self.sample = sample
        self.inputs = inputs

    def read(self, starts: Iterable[int]) -> Iterator[tuple[Batch, list[Problem]]]:
        for first in starts:
            yield self._microbatch(range(first, first + self.batching.microbatch))

    def _microbatch(self, positions: Iterable[int]) -> tuple[Batch, list[Problem]]:
        samples: list[Mapping[str, Tensor] | None] = []
        problems: list[Problem] = []
        for position in positions:
            try:
                samples.append(self.sample(position))
            except BadImage as error:
                samples.append(None)
                problems.append(Problem(key=f"sample {position}", reason=str(error)))
        example = next((sample for sample in samples if sample is not None), None)
        if example is None:
            example = {key: value[0] for key, value in example_batch(self.inputs, 1).items()}
        zeros = {key: torch.zeros_like(example[key]) for key in self.inputs}
        batch = {key: torch.stack([(sample or zeros)[key] for sample in samples]) for key in self.inputs}
        batch["position"] = torch.tensor(list(positions), dtype=torch.int64)
        batch["weight"] = torch.tensor([0.0 if sample is None else 1.0 for sample in samples])
        return batch, problems
