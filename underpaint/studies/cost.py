"""The cost of a study on this machine: FLOPs in closed form, and time from a few steps and images measured here."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from underpaint import config
from underpaint.core import DataInfo
from underpaint.data.open_dataset import ImageDataset
from underpaint.data.reading_time import USUAL_SIZE, images_of
from underpaint.messages import say
from underpaint.run import Run, record
from underpaint.run.bare_steps import example_state, take_steps
from underpaint.run.declare import HasEncoder
from underpaint.run.precision import with_fastest_precision
from underpaint.studies.parts import ComputePart, Study, TrainPart, is_done, require_sound_runs
from underpaint.training.devices import choose_device

BYTES_PER_PARAMETER = 4
TIMINGS = 5
"""Alternating repeats of a ratio of times."""


@dataclass(frozen=True, kw_only=True)
class PlanRow:
    part: str
    samples: int
    flops: float
    seconds: float
    bytes: int
    done: bool


def plan(study: Study, folder: Path) -> list[PlanRow]:
    """Cost of each part that trains or says its work: FLOPs in closed form, seconds from a few timed steps here.

    Parts that do the same work are timed once: most of a study differ only in where they start. Training reads its
    images, which is timed on some of them; evaluations, most of which use features that are kept, do not count it.

    Raises:
        ValueError: for runs that cannot work, as ``require_sound_runs`` says.
    """
    require_sound_runs(study)
    rows = []
    measured: dict[str, tuple[float, int]] = {}
    reading: dict[str, float] = {}

    def read(run: Run) -> float:
        key = record.digest([config.record(run.data), _size(run)])
        if key not in reading:
            reading[key] = _reading_seconds(run)
        return reading[key]

    def timed(run: Run, data_info: DataInfo, name: str) -> tuple[float, int]:
        work = _work(run, data_info)
        if work not in measured:
            say(f"timing a few steps of {name}")
            measured[work] = measure(run, data_info)
        return measured[work]

    for part in study.parts:
        if isinstance(part, ComputePart) and part.work is not None:
            run, data_info = part.work.like
            speed = run.objective.flops_per_sample(data_info) / timed(run, data_info, run.name)[0]
            rows.append(
                PlanRow(
                    part=part.name,
                    samples=part.work.images,
                    flops=part.work.flops,
                    seconds=part.work.flops / speed,
                    bytes=0,
                    done=is_done(part, folder),
                )
            )
        if isinstance(part, TrainPart):
            budget, data_info = part.run.budget, part.data_info
            samples = budget.steps * budget.batch_size - part.branch_at
            seconds, parameters = timed(part.run, data_info, part.name)
            rows.append(
                PlanRow(
                    part=part.name,
                    samples=samples,
                    flops=float(samples * part.run.objective.flops_per_sample(data_info)),
                    seconds=samples * (seconds + read(part.run)),
                    # checkpoints of weights and AdamW's two moments, the model and the encoder
                    bytes=parameters * BYTES_PER_PARAMETER * (3 * (2 + len(part.run.cadence.save_at)) + 2),
                    done=is_done(part, folder),
                )
            )
    return rows


def relative_seconds(first: tuple[Run, DataInfo], second: tuple[Run, DataInfo]) -> float:
    """Wall time of a training sample of the first run in samples of the second: the median of alternating repeats."""
    ratios = sorted(measure(*first)[0] / measure(*second)[0] for _ in range(TIMINGS))
    return round(ratios[TIMINGS // 2], 3)


def _reading_seconds(run: Run) -> float:
    """Seconds to read an image of the run and to make a view of it; 0 for videos and annotated images."""
    opened = run.data.open()
    return images_of(opened, size=_size(run)).seconds if isinstance(opened, ImageDataset) else 0.0


def _size(run: Run) -> tuple[int, int]:
    return run.objective.encoder.size if isinstance(run.objective, HasEncoder) else USUAL_SIZE


def _work(run: Run, data_info: DataInfo) -> str:
    """Key of the computation of a step: parts with the same key take the same time per sample."""
    fields = [run.objective, run.optim, run.precision, run.budget.forward_size, run.device, run.threads]
    return record.digest([config.record(fields), len(data_info.labels)])


def measure(run: Run, data_info: DataInfo) -> tuple[float, int]:
    """Seconds per training sample on this machine, without reading images, and the number of parameters."""
    torch.set_num_threads(run.threads)
    device = choose_device(run.device)
    run = with_fastest_precision(run, device)
    state, batches = example_state(run, data_info, device)
    times: list[float] = []
    take_steps(state, batches, run, steps=5, log=lambda values: times.append(time.perf_counter()))
    seconds = sorted(after - before for before, after in itertools.pairwise(times))
    parameters = sum(parameter.numel() for parameter in state.objective.parameters())
    return seconds[len(seconds) // 2] / run.budget.forward_size, parameters
