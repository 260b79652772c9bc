"""One rank's share of a stream of batches: the positions that are its part of every global batch.

Batch k covers the positions [k B, (k + 1) B); of w ranks, rank r serves the r-th of w equal parts of it. The sample
at a position depends on the position alone, so the ranks together see what one process would.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from underpaint.core import Batch
from underpaint.data.source import Problem
from underpaint.data.stream import Stream
from underpaint.training.ranks import Ranks


class RankStream:
    """The part of one rank; satisfies ``core.Data``, with the position of the next global batch.

    ``stream`` is cut into the microbatches of one rank. Bad records wait in ``found`` until the ranks meet in
    ``settle``: then all count the same, and all stop together when there are too many.
    """

    def __init__(self, stream: Stream, *, ranks: Ranks, batch_size: int) -> None:
        if stream.parts % ranks.world:
            raise ValueError(
                f"{ranks.world} processes cannot share the {stream.parts} lanes of a batch evenly; make "
                f"data.lanes.count a multiple of the number of processes"
            )
        self.stream, self.ranks, self.batch_size = stream, ranks, batch_size
        self.quarantine = stream.quarantine
        self.position = 0
        self.problems: list[Problem] = []

    def __iter__(self) -> Iterator[Batch]:
        microbatch = self.stream.batching.microbatch
        assert self.batch_size % (microbatch * self.ranks.world) == 0, (self.batch_size, microbatch, self.ranks)
        assert self.position % self.batch_size == 0, self.position
        for number, (batch, problems) in enumerate(self.stream.read(self._starts()), 1):
            self.problems += problems
            if number % (self.batch_size // self.ranks.world // microbatch) == 0:
                self.position += self.batch_size
            yield batch

    def _starts(self) -> Iterable[int]:
        microbatch, leave = self.stream.batching.microbatch, self.batch_size // self.ranks.world
        return _Starts(self.position + self.ranks.rank * leave, leave=leave, stride=self.batch_size, step=microbatch)

    def settle(self) -> None:
        """Tell the other ranks of bad records, and hear of theirs.

        Raises:
            TooManyBadRecords: on all ranks.
        """
        mine, self.problems = [[problem.key, problem.reason] for problem in self.problems], []
        for listed in self.ranks.exchange(mine):
            self.quarantine.add(Problem(key=key, reason=reason) for key, reason in listed)


class _Starts:
    """The first positions of this rank's microbatches, without end."""

    def __init__(self, first: int, *, leave: int, stride: int, step: int) -> None:
        self.first, self.leave, self.stride, self.step = first, leave, stride, step

    def __iter__(self) -> Iterator[int]:
        first = self.first
        while True:
            yield from range(first, first + self.leave, self.step)
            first += self.stride
