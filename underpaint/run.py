"""A run: one frozen description of everything, and ``execute``, the one place that wires the parts together."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import torch
from torch import nn

from underpaint import draws, products, records
from underpaint.config import OPERATIONAL
from underpaint.core import Batch, Evaluator, Facts
from underpaint.data.dataset import OpenImages
from underpaint.evals.features import image_format
from underpaint.evals.heldout import HeldoutLoss
from underpaint.messages import say
from underpaint.models.vit import ViT, ViTConfig
from underpaint.models.weights import load_encoder, start_from
from underpaint.training.checkpoint import Checkpoints
from underpaint.training.log import Progress, RunLog, read_log
from underpaint.training.loop import LoopConfig, Precision, TrainState, start_average, train
from underpaint.training.optim import OptimConfig, build_optimizer
from underpaint.training.schedule import Schedule, ScheduleConfig
from underpaint.training.signals import Interrupted, catch_signals

TIMED = {"step", "samples", "train_flops", "seconds", "images_per_second"}
"""Entries of a log line that are no metric of the result: they stand there by themselves, or depend on the machine."""

SAVE_FAILURES = 3
"""Checkpoints in a row that may fail (full disk) before the run gives up."""


class OutOfSpace(OSError):
    """The disk took no checkpoint several times in a row."""


@runtime_checkable
class ObjectiveConfig(Protocol):
    """The frozen dataclass that stands in a Run and builds its objective (``objectives/``, or one of your own)."""

    @property
    def stage(self) -> str:
        """Name of the stage ("mae", "wsp", ...): part of the key of every random draw, and of the record."""
        ...

    @property
    def encoder(self) -> ViTConfig: ...

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def build(self, facts: Facts) -> nn.Module: ...

    def flops_per_sample(self, facts: Facts) -> int:
        """Training FLOPs of one sample, forward and backward, in closed form (models/flops.py)."""
        ...


@runtime_checkable
class DataConfig(Protocol):
    """What stands in ``Run.data``: ``ImageData``, or one's own dataclass that opens a ``Source`` of one's own."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def open(self) -> OpenImages: ...


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How long to train, in samples, so that another batch size changes nothing but the number of steps."""

    samples: int
    batch_size: int = 256  # samples of one optimizer step
    microbatch: int = field(default=256, metadata=OPERATIONAL)  # samples of one forward pass
    warmup: int = 0  # samples

    def __post_init__(self) -> None:
        if self.samples < self.batch_size or self.batch_size < 1:
            raise ValueError(f"budget.samples={self.samples} is less than one batch of batch_size={self.batch_size}")
        if not 0 <= self.warmup < self.samples:
            raise ValueError(f"budget.warmup={self.warmup} must be shorter than budget.samples={self.samples}")
        if self.microbatch < 1:
            raise ValueError(f"budget.microbatch={self.microbatch} must be positive")

    @property
    def steps(self) -> int:
        return self.samples // self.batch_size

    @property
    def forward_size(self) -> int:
        """The microbatch, or the whole batch where that is smaller."""
        return min(self.microbatch, self.batch_size)


@dataclass(frozen=True, kw_only=True)
class Cadence:
    """How often, in samples."""

    log: int = field(default=1_000, metadata=OPERATIONAL)
    save: int = field(default=100_000, metadata=OPERATIONAL)
    keep: int = field(default=10_000_000, metadata=OPERATIONAL)  # checkpoints that are never deleted
    evaluate: int = field(default=100_000, metadata=OPERATIONAL)

    def steps(self, samples: int, budget: Budget) -> int:
        return max(1, samples // budget.batch_size)


@dataclass(frozen=True, kw_only=True)
class Run:
    """Everything about one training run; a recipe is a function that returns one."""

    name: str
    objective: ObjectiveConfig
    data: DataConfig
    budget: Budget
    optim: OptimConfig = field(default_factory=OptimConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    evals: tuple[Evaluator, ...] = field(default=(), metadata=OPERATIONAL)
    init_from: str = field(
        default="", metadata=OPERATIONAL
    )  # run folder; its hash is part of the identity. "" is scratch
    reset_final_norm: bool = False  # of the encoder started from (unknown in the paper)
    precision: Precision = "fp32"
    ema_decay: float = 0.0  # 0 keeps no average
    max_skipped: int = 10  # steps in a row without finite loss before the run stops
    seed: int = 0
    cadence: Cadence = field(default_factory=Cadence)
    threads: int = field(default_factory=lambda: os.cpu_count() or 1, metadata=OPERATIONAL)  # kept from the first start
    device: Literal["any", "cuda", "mps", "cpu"] = field(default="any", metadata=OPERATIONAL)

    def __post_init__(self) -> None:
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay={self.ema_decay} must lie in [0, 1)")
        if self.threads < 1:
            raise ValueError(f"threads={self.threads} must be at least 1")
        _schedule(self)  # refuses a schedule that does not fit the budget or the rate


def execute(run: Run, folder: Path, *, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Train a run into ``folder``, or continue or return what is there already; its result.

    Raises:
        ValueError: for input the user can mend, among it a folder of another configuration.
        BlockingIOError: if another process works in the folder.
        Interrupted: after a signal, when the state has been saved.
        OutOfSpace: when the disk took no checkpoint several times.
    """
    with records.lock(folder):
        opened = run.data.open()
        facts = Facts(
            seed=run.seed,
            labels=opened.vocabulary.labels,
            label_count=opened.vocabulary.count,
            images=len(opened.trained_rows),
        )
        identity = records.identity(run, data=opened.source.content_hash, init_from=run.init_from)
        done = records.finished(folder, identity)
        if done is not None:
            say(f"{folder}: finished already; delete the folder to train it again")
            return done
        device, threads = choose_device(run.device), records.kept_threads(folder, run.threads)
        torch.set_num_threads(threads)
        derived = _derived(run, opened, facts) | {"device": str(device), "threads": threads}
        records.start(folder, run, identity=identity, derived=derived, overrides=overrides)
        _announce(run, folder, opened, derived)
        return _train(run, folder, opened=opened, facts=facts, device=device)


def choose_device(name: str) -> torch.device:
    """The device to train on; "any" is the first of CUDA, MPS and CPU that is there.

    Raises:
        ValueError: if the named device is not on this machine.
    """
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "any":
        name = next(kind for kind, there in present.items() if there)
    if not present[name]:
        there = ", ".join(kind for kind, there in present.items() if there)
        raise ValueError(f"device={name} is not available here; this machine has {there}")
    return torch.device(name)


def _derived(run: Run, opened: OpenImages, facts: Facts) -> dict[str, Any]:
    """What follows from the configuration and the data; recorded, never a field."""
    return {
        "images": len(opened.trained_rows),
        "labels": len(facts.labels),
        "untagged_images": len(opened.untagged),
        "steps": run.budget.steps,
        "accumulation": -(-run.budget.batch_size // run.budget.forward_size),
        "epochs": run.budget.samples / len(opened.trained_rows),
        "peak_lr": run.optim.peak_lr(run.budget.batch_size),
        "train_flops": run.budget.steps * run.budget.batch_size * run.objective.flops_per_sample(facts),
        "data_hash": opened.source.content_hash,
    }


def _announce(run: Run, folder: Path, opened: OpenImages, derived: dict[str, Any]) -> None:
    start = run.init_from or "scratch"
    say(
        f"{run.name} ({run.objective.stage}) in {folder}: {derived['images']:,} images of {opened.source.name}, "
        f"{derived['steps']:,} steps of {run.budget.batch_size}, {derived['train_flops']:.2e} FLOPs, "
        f"start from {start}, on {derived['device']} with {derived['threads']} threads"
    )
    if opened.untagged:
        say(f"{run.name}: {len(opened.untagged):,} images have no label of the vocabulary and are left out")


def _train(run: Run, folder: Path, *, opened: OpenImages, facts: Facts, device: torch.device) -> dict[str, Any]:
    """Build, resume, train and hand over."""
    state = _build(run, facts, device)
    checkpoints = Checkpoints(folder=folder / "checkpoints", keep_every=run.cadence.steps(run.cadence.keep, run.budget))
    for warning in checkpoints.resume(state):
        say(f"ALARM: {warning}")
    if state.step:
        say(f"{run.name}: continues from step {state.step:,}")
    format = image_format(run.objective.encoder)
    stream = opened.stream(
        format,
        batch_size=run.budget.batch_size,
        microbatch=run.budget.forward_size,
        seed=draws.key(run.seed, run.objective.stage),
        quarantine=folder / "bad_records.jsonl",
    )
    stream.position = state.step * run.budget.batch_size
    heldout = tuple(opened.heldout(format, batch_size=run.budget.forward_size))
    watcher = _Watcher(
        run,
        folder,
        step=state.step,
        flops=run.objective.flops_per_sample(facts),
        checkpoints=checkpoints,
        heldout=heldout,
    )
    try:
        with catch_signals() as stopped:
            train(
                state,
                on_device(stream, device),
                config=_loop_config(run),
                schedule=_schedule(run),
                log=watcher.log,
                save=watcher.save,
                evaluate=watcher.evaluate,
                stopped=stopped,
            )
        if state.step < run.budget.steps:
            raise watcher.interruption(folder, state.step)
        metrics = watcher.final_metrics(state)
    finally:
        watcher.close()
    products.save_pictures(folder, state.product, on_device(heldout or stream, device))
    samples = state.step * run.budget.batch_size
    result = {
        "name": run.name,
        "stage": run.objective.stage,
        "seed": run.seed,
        "samples": samples,
        "steps": state.step,
        "train_flops": samples * watcher.flops,
        "wall_seconds": state.seconds,
        "images_per_second": samples / state.seconds,
        "bad_records": len(stream.quarantine),
        "metrics": metrics,
    }
    return products.hand_over(folder, objective=run.objective, network=state.product, facts=facts, result=result)


def _build(run: Run, facts: Facts, device: torch.device) -> TrainState:
    """The objective with its initial weights, its optimizer and its average."""
    objective = run.objective.build(facts)
    for evaluator in run.evals:
        if not isinstance(objective, evaluator.needs):
            raise ValueError(f"{type(evaluator).__name__} needs a {evaluator.needs.__name__}, {run.name} is none")
    if run.init_from:
        assert isinstance(objective.encoder, ViT), "init_from fills a ViT"
        start_from(objective.encoder, load_encoder(run.init_from), reset_final_norm=run.reset_final_norm)
    objective.to(device)
    optimizer = build_optimizer(objective, run.optim, depth=run.objective.encoder.depth)
    return TrainState(objective, optimizer, start_average(objective, run.ema_decay))


def on_device(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    for batch in batches:
        yield {name: value.to(device, non_blocking=True) for name, value in batch.items()}


def _loop_config(run: Run) -> LoopConfig:
    budget, cadence = run.budget, run.cadence
    if budget.batch_size % budget.forward_size:
        raise ValueError(f"budget.microbatch={budget.microbatch} does not divide batch_size={budget.batch_size}")
    return LoopConfig(
        steps=budget.steps,
        batch_size=budget.batch_size,
        accumulation=budget.batch_size // budget.forward_size,
        clip=run.optim.clip,
        precision=run.precision,
        ema_decay=run.ema_decay,
        log_every=cadence.steps(cadence.log, budget),
        save_every=cadence.steps(cadence.save, budget),
        evaluate_every=cadence.steps(cadence.evaluate, budget),
        max_skipped=run.max_skipped,
    )


def _schedule(run: Run) -> Schedule:
    budget = run.budget
    samples = budget.steps * budget.batch_size
    peak = run.optim.peak_lr(budget.batch_size)
    return Schedule(config=run.schedule, peak=peak, samples=samples, warmup=budget.warmup)


class _Watcher:
    """What surrounds the loop: the log, the progress bar, held-out loss and evaluations, checkpoints and full disks."""

    def __init__(
        self, run: Run, folder: Path, *, step: int, flops: int, checkpoints: Checkpoints, heldout: tuple[Batch, ...]
    ) -> None:
        self.run, self.flops, self.checkpoints = run, flops, checkpoints
        self.evaluators = (HeldoutLoss(heldout), *run.evals) if heldout else run.evals
        self.record = RunLog(folder, step=step)
        done = step * run.budget.batch_size
        self.progress = Progress(run.name, samples=run.budget.steps * run.budget.batch_size, done=done)
        self.failures = 0

    def log(self, state: TrainState, values: dict[str, Any]) -> None:
        seen = state.step * self.run.budget.batch_size
        line = {"train_flops": seen * self.flops, "seconds": state.seconds, **values}
        self.record.write(state.step, seen, line)
        self.progress.update(seen, loss=float(values["loss"]))

    def evaluate(self, state: TrainState) -> None:
        found: dict[str, float] = {}
        for evaluator in self.evaluators:
            found |= evaluator(state.product)
        self.record.write(state.step, state.step * self.run.budget.batch_size, {"eval": found})

    def final_metrics(self, state: TrainState) -> dict[str, float]:
        """The last evaluation and the scalars of the last step, from the log, where a run continued after them."""
        if not any("eval" in line and line["step"] == state.step for line in read_log(self.record.path)):
            self.evaluate(state)
        last: dict[str, Any] = {}
        for line in read_log(self.record.path):
            last |= line.get("eval", line)
        return {name: value for name, value in last.items() if name not in TIMED}

    def save(self, state: TrainState) -> None:
        """Save; a disk that takes no checkpoint raises an alarm, and ends the run when it happens again and again."""
        try:
            self.checkpoints.save(state)
            self.failures = 0
        except OSError as error:
            self.failures += 1
            newest = next((path.name for path in self.checkpoints.newest()), "none")
            say(f"ALARM: the checkpoint of step {state.step} was not saved ({error}); the newest good one is {newest}")
            if self.failures >= SAVE_FAILURES or state.step >= self.run.budget.steps:
                raise OutOfSpace(
                    f"{self.failures} checkpoints in a row were not saved; free some space and go on"
                ) from error

    def interruption(self, folder: Path, step: int) -> Exception:
        """Why a run ended before its last step: a signal, after which the state was saved or could not be."""
        if self.failures:
            return OutOfSpace(f"stopped at step {step:,}, whose state could not be saved; free some space and go on")
        return Interrupted(folder, step)

    def close(self) -> None:
        self.progress.close()
        self.record.close()
