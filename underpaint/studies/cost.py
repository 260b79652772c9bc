"""The cost of a study on this machine: FLOPs in closed form, and time from a few steps and images measured here."""

from __future__ import annotations

import itertools
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from underpaint import config
from underpaint.core import DataInfo
from underpaint.data.loader import CACHE_BYTES
from underpaint.data.open_dataset import ImageDataset
from underpaint.data.reading_time import USUAL_SIZE, Images, images_of
from underpaint.data.view_memory import BYTES as VIEW_BYTES
from underpaint.messages import say
from underpaint.run import Run, record
from underpaint.run.bare_steps import example_state, take_steps
from underpaint.run.declare import HasEncoder
from underpaint.run.precision import with_fastest_precision
from underpaint.studies.parts import Study, TrainPart, Work, is_done, require_sound_runs
from underpaint.training.devices import choose_device

BYTES_PER_PARAMETER = 4
IMAGE_BYTES = CACHE_BYTES + VIEW_BYTES
"""Most bytes of images that a process keeps: decoded ones in training, views in evaluation."""
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

    Parts that do the same work are timed once: most of a study differ only in where they start. Training and the
    evaluations that say their work read images, which is timed on some of them.

    Raises:
        ValueError: for runs that cannot work, as ``require_sound_runs`` says.
    """
    require_sound_runs(study)
    timings = _Timings()
    rows = list[PlanRow]()
    for part in study.parts:
        if isinstance(part, TrainPart):
            rows.append(timings.of_training(part, done=is_done(part, folder)))
        elif part.work is not None:
            rows.append(timings.of_work(part.name, part.work, done=is_done(part, folder)))
    return rows


def memory_sentence(jobs: int) -> str:
    """Sentence on the memory of so many parts at a time, said when the study is built and its steps are timed.

    The process of a part does the same, and keeps images of training and evaluation, of both at most so many bytes.
    """
    unit = 1 if sys.platform == "darwin" else 1024
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    of_each = f"{held / 2**30:.1f} GiB for each part at a time, and at most {IMAGE_BYTES / 2**30:.2f} more"
    together = f": {jobs * (held + IMAGE_BYTES) / 2**30:.1f} GiB for {jobs} at a time" if jobs > 1 else ""
    return f"memory: about {of_each} for images that are kept{together}"


class _Timings:
    """Times measured for the parts of a study, each kind of step and each set of images once."""

    def __init__(self) -> None:
        self._steps: dict[str, tuple[float, int]] = {}
        self._images: dict[str, Images | None] = {}

    def of_training(self, part: TrainPart, *, done: bool) -> PlanRow:
        run, budget = part.run, part.run.budget
        samples = budget.steps * budget.batch_size - part.branch_at
        step, parameters = self._step(run, part.data_info, part.name)
        images = self._images_of(run)
        heldout = images.heldout_seconds(run.cadence.evaluations(budget), step) if images else 0.0
        return PlanRow(
            part=part.name,
            samples=samples,
            flops=float(samples * run.objective.flops_per_sample(part.data_info)),
            seconds=samples * (step + (images.seconds if images else 0.0)) + heldout,
            # checkpoints of weights and AdamW's two moments, the model and the encoder
            bytes=parameters * BYTES_PER_PARAMETER * (3 * (2 + len(run.cadence.save_at)) + 2),
            done=done,
        )

    def of_work(self, name: str, work: Work, *, done: bool) -> PlanRow:
        run, data_info = work.like
        speed = run.objective.flops_per_sample(data_info) / self._step(run, data_info, run.name)[0]
        images = self._images_of(run)
        reading = work.images * images.evaluation_seconds if images else 0.0
        seconds = work.flops / speed + reading
        return PlanRow(part=name, samples=work.images, flops=work.flops, seconds=seconds, bytes=0, done=done)

    def _step(self, run: Run, data_info: DataInfo, name: str) -> tuple[float, int]:
        """Seconds of a training sample without reading, and the number of parameters."""
        work = work_of(run, data_info)
        if work not in self._steps:
            say(f"timing a few steps of {name}")
            self._steps[work] = measure(run, data_info)
        return self._steps[work]

    def _images_of(self, run: Run) -> Images | None:
        """The images of the run, some of which are read; None for videos and annotated images."""
        size = run.objective.encoder.size if isinstance(run.objective, HasEncoder) else USUAL_SIZE
        key = record.digest([config.record(run.data), size])
        if key not in self._images:
            opened = run.data.open()
            self._images[key] = images_of(opened, size=size) if isinstance(opened, ImageDataset) else None
        return self._images[key]


def relative_seconds(first: tuple[Run, DataInfo], second: tuple[Run, DataInfo]) -> float:
    """Wall time of a training sample of the first run in samples of the second: the median of alternating repeats."""
    ratios = sorted(measure(*first)[0] / measure(*second)[0] for _ in range(TIMINGS))
    return round(ratios[TIMINGS // 2], 3)


def work_of(run: Run, data_info: DataInfo) -> str:
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
