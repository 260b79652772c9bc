"""Whether several parts at a time are faster on this machine than one after the other, measured by ``--plan``.

The cache folder keeps the last measurement of a study's work, which decides how many parts the study runs at a time.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path

import torch

from underpaint import files
from underpaint.core import DataInfo
from underpaint.data.cache import cache_folder
from underpaint.messages import duration, say
from underpaint.run import Run, record
from underpaint.run.bare_steps import example_state, take_steps
from underpaint.run.record import processor_name
from underpaint.studies.cost import PlanRow, work_of
from underpaint.studies.jobs import usual_jobs
from underpaint.studies.parts import ComputePart, Study, TrainPart
from underpaint.training.devices import usable_cpus

SECONDS = 1.0
"""Time of training in each measurement."""
ROUNDS = 3
"""Alternating measurements of one process and of all; their median counts, since other programs run as well."""
WORTHWHILE = 1.05
"""Ratio of speeds below which several parts at a time are not called faster."""
FORMAT = 1
MOST_KEPT = 1_000
"""Measurements in the file of the cache folder."""
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
            return f"{measured}: that is not faster, so the default is one at a time, --jobs 1"
        left = duration(seconds / self.speedup)
        return f"{measured}: about {left} instead of {duration(seconds)} with --jobs {self.jobs}, which is the default"


def default_jobs(study: Study) -> int:
    """``usual_jobs``, or 1 where the last plan on this machine found that so many parts at a time are not faster."""
    jobs = usual_jobs(study)
    speedup = _kept(_file()).get(_key(study, jobs))
    if speedup is None or SideBySide(jobs=jobs, speedup=speedup).is_faster:
        return jobs
    say(f"one part at a time, since `--plan` found {jobs} not faster here; --jobs {jobs} runs so many")
    return 1


def measure_side_by_side(study: Study, rows: Sequence[PlanRow], *, jobs: int) -> SideBySide | None:
    """Train as the part that takes longest in one process and in ``jobs`` of them; None if nothing is left or asked.

    The measurement is kept for ``default_jobs``.

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
    measured = SideBySide(jobs=jobs, speedup=ratios[ROUNDS // 2])
    _keep_measured(study, measured)
    return measured


def _keep_measured(study: Study, measured: SideBySide) -> None:
    known = _kept(_file())
    known.pop(_key(study, measured.jobs), None)  # the latest stands last
    known[_key(study, measured.jobs)] = measured.speedup
    latest = dict(list(known.items())[-MOST_KEPT:])
    _file().parent.mkdir(parents=True, exist_ok=True)
    files.write_json(_file(), {"format": FORMAT, "speedups": latest})


def _file() -> Path:
    return cache_folder() / "side_by_side.json"


def _key(study: Study, jobs: int) -> str:
    """Key of the machine and of all work that a study trains or says."""
    trained = [(part.run, part.data_info) for part in study.parts if isinstance(part, TrainPart)]
    computed = [part.work.like for part in study.parts if isinstance(part, ComputePart) and part.work is not None]
    works = sorted({work_of(*each) for each in (*trained, *computed)})
    return record.digest([processor_name(), usable_cpus(), torch.__version__, jobs, works])


def _kept(file: Path) -> dict[str, float]:
    """Earlier measurements by key; a file that is damaged or of another version counts as none."""
    try:
        content = files.read_json(file) if file.is_file() else {}
        return (
            {str(key): float(speedup) for key, speedup in content["speedups"].items()}
            if content.get("format") == FORMAT
            else {}
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        return {}


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
