"""Whether several parts at a time are faster on this machine than one after the other, measured."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier

import torch

from underpaint.core import DataInfo
from underpaint.messages import duration
from underpaint.run import Run
from underpaint.run.bare_steps import example_state, take_steps
from underpaint.studies.cost import PlanRow
from underpaint.studies.parts import ComputePart, Study, TrainPart

SECONDS = 1.0
"""Time of training in each measurement."""
ROUNDS = 3
"""Alternating measurements of one process and of all; their median counts, since other programs run as well."""
WORTHWHILE = 1.05
"""Ratio of speeds below which several parts at a time are not called faster."""
START_SECONDS = 120.0
"""Time within which all processes must have started to train."""


@dataclass(frozen=True, kw_only=True)
class SideBySide:
    """Samples per second of ``jobs`` processes together, in those of one process alone."""

    jobs: int
    speedup: float

    @property
    def is_faster(self) -> bool:
        return self.speedup >= WORTHWHILE

    def sentence(self, seconds: float) -> str:
        """Sentence on the measurement, for parts that take so many seconds one after the other."""
        measured = f"{self.jobs} parts at a time do {self.speedup:.2f} times as much as one, measured here just now"
        if not self.is_faster:
            return f"{measured}: that is not faster; give --jobs 1"
        left = duration(seconds / self.speedup)
        return f"{measured}: about {left} instead of {duration(seconds)} with --jobs {self.jobs}, which is the default"


def measure_side_by_side(study: Study, rows: Sequence[PlanRow], *, jobs: int) -> SideBySide | None:
    """Train as the part that takes longest in one process and in ``jobs`` of them; None if nothing is left or asked.

    Without a part that trains, it is the training that an evaluation's FLOPs are as fast as.
    """
    left = {row.part: row.seconds for row in rows if not row.done}
    named = [part for part in study.parts if part.name in left]
    trained = {part.name: (part.run, part.data_info) for part in named if isinstance(part, TrainPart)}
    computed = {part.name: part.work.like for part in named if isinstance(part, ComputePart) and part.work is not None}
    works = trained or computed
    if jobs < 2 or not works:
        return None
    longest = works[max(works, key=left.__getitem__)]
    context = multiprocessing.get_context("spawn")
    barriers = (context.Barrier(1), context.Barrier(jobs))
    with ProcessPoolExecutor(jobs, context, initializer=_keep, initargs=barriers) as pool:
        _speed(pool, longest, processes=jobs)  # all of them start and import
        ratios = sorted(
            _speed(pool, longest, processes=jobs) / _speed(pool, longest, processes=1) for _ in range(ROUNDS)
        )
    return SideBySide(jobs=jobs, speedup=ratios[ROUNDS // 2])


def _speed(pool: ProcessPoolExecutor, work: tuple[Run, DataInfo], *, processes: int) -> float:
    """Samples per second of so many processes together."""
    futures = [pool.submit(_train, *work, alone=processes == 1) for _ in range(processes)]
    return sum(future.result() for future in futures)


_BARRIERS: list[Barrier] = []


def _keep(alone: Barrier, together: Barrier) -> None:
    """Make the barriers known to this process, which only inherits them when it starts."""
    _BARRIERS[:] = (alone, together)


def _train(run: Run, data_info: DataInfo, *, alone: bool) -> float:
    """Samples per second of some steps that begin when those of all processes begin."""
    torch.set_num_threads(run.threads)
    state, batches = example_state(run, data_info, "cpu")
    take_steps(state, batches, run, steps=2)
    _BARRIERS[0 if alone else 1].wait(START_SECONDS)
    started, steps = time.perf_counter(), 0
    while (seconds := time.perf_counter() - started) < SECONDS:
        take_steps(state, batches, run, steps=1)
        steps += 1
    return steps * run.budget.forward_size / seconds
