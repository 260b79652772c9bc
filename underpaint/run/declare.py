"""Declaration of a run: one frozen description of everything, whose fields are identity or operational."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

from torch import Tensor, nn

from underpaint.config import LATER, OPERATIONAL
from underpaint.core import DataInfo, Evaluator, Inputs
from underpaint.data.open_dataset import OpenDataset
from underpaint.models.vit import ViTConfig
from underpaint.run.budget import Budget, Cadence
from underpaint.training.devices import usable_cpus
from underpaint.training.loop import Precision
from underpaint.training.optim import OptimConfig
from underpaint.training.parallel import ParallelConfig
from underpaint.training.schedule import Schedule, ScheduleConfig
from underpaint.training.trackers import TrackerName


@runtime_checkable
class ObjectiveConfig(Protocol):
    """The frozen dataclass that stands in a Run and builds its objective (``objectives/``, or one of your own)."""

    @property
    def stage(self) -> str:
        """Name of the stage ("mae", "wsp", ...): part of the key of every random draw, and of the record."""
        ...

    @property
    def inputs(self) -> Inputs:
        """Definition of a sample: the tensors of a batch that the objective needs, besides position and weight."""
        ...

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def build(self, data_info: DataInfo) -> nn.Module: ...

    def flops_per_sample(self, data_info: DataInfo) -> int:
        """Training FLOPs of one sample, forward and backward, in closed form (models/flops.py)."""
        ...


@runtime_checkable
class HasFurtherStart(Protocol):
    """An objective's config that names weights to start from besides ``init_from``, as LiT names a text tower."""

    def start_hash(self) -> str:
        """Checksum of the weights, part of the run's identity; "" where it starts from scratch."""
        ...

    def start_tensors(self) -> dict[str, Tensor]:
        """The weights by their names in the objective."""
        ...

    def start_languages(self) -> tuple[str, ...]:
        """Languages of the texts that the weights were trained on, where they are known."""
        ...


@runtime_checkable
class ChecksStart(Protocol):
    """An objective's config that takes other encoders to start from than those of its own form."""

    def require_start(self, source: ViTConfig, *, start: str) -> None:
        """Raise ValueError if the encoder does not fit; ``start`` is its name in the message."""
        ...


@runtime_checkable
class NeedsWholeBatch(Protocol):
    """An objective's config whose loss compares the samples of a batch, so that microbatches would change it."""

    @property
    def needs_whole_batch(self) -> bool: ...


@runtime_checkable
class HasEncoder(Protocol):
    """An objective's config that describes a ViT, as those of this package do."""

    @property
    def encoder(self) -> ViTConfig: ...


def encoder_of(run: Run) -> ViTConfig:
    """The encoder's config of a run of MAE, WSP, finetuning or linear probing."""
    assert isinstance(run.objective, HasEncoder), type(run.objective).__name__
    return run.objective.encoder


@runtime_checkable
class DataConfig(Protocol):
    """Protocol of ``Run.data``: ``ImageData``, or the user's own dataclass that opens the user's own ``Source``."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def open(self) -> OpenDataset: ...


RunPrecision = Literal["fp32", "bf16", "float8", "fastest"]
"""Precision as a run names it; ``fastest`` is fp32 or bf16, as measured at the first start (run/precision.py)."""


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
    # A run folder, whose hash is part of the identity; "" is scratch.
    init_from: str = field(default="", metadata=OPERATIONAL)
    # The folder of a longer run with the same rates at first, whose checkpoint this run continues (run/branches.py).
    branch_from: str = field(default="", metadata=OPERATIONAL | LATER)
    reset_final_norm: bool = False  # of the encoder started from (unknown in the paper)
    precision: RunPrecision = "fp32"  # the fastest is measured, and kept from the first start
    ema_decay: float = 0.0  # 0 keeps no average
    max_skipped: int = 10  # skipped steps in a row before the run stops
    spike_factor: float = field(default=math.inf, metadata=OPERATIONAL | LATER)  # of the recent median of the losses
    seed: int = 0
    cadence: Cadence = field(default_factory=Cadence)
    log_to: tuple[TrackerName, ...] = field(default=(), metadata=OPERATIONAL | LATER)  # besides the run's own log
    threads: int = field(default_factory=usable_cpus, metadata=OPERATIONAL)  # kept from the first start
    device: Literal["any", "cuda", "mps", "cpu"] = field(default="any", metadata=OPERATIONAL)
    parallel: ParallelConfig = field(default_factory=ParallelConfig, metadata=OPERATIONAL)

    def __post_init__(self) -> None:
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay={self.ema_decay} must lie in [0, 1)")
        if self.name in {"", "..", "."} or "/" in self.name:
            raise ValueError(f"name={self.name!r} must be a name without '/', since the run's folder is called so")
        if not 1 <= self.threads <= 1024:  # OpenMP ends the process where it cannot start so many
            raise ValueError(f"threads={self.threads} must lie between 1 and 1024")
        if self.max_skipped < 1 or self.spike_factor <= 1:
            at_least = f"max_skipped={self.max_skipped} must be at least 1"
            raise ValueError(f"{at_least}, spike_factor={self.spike_factor} above 1; inf skips no spikes")
        if not self.budget.epochs:
            self.lr_schedule()  # refuses a schedule that does not fit the budget or the rate

    @property
    def settled_precision(self) -> Precision:
        """The precision, of a run for which the fastest has been measured (run/precision.py)."""
        assert self.precision != "fastest", f"{self.name}: the fastest precision has not been measured"
        return self.precision

    def lr_schedule(self) -> Schedule:
        """The learning rate by samples seen.

        Raises:
            ValueError: if the schedule does not fit the budget or the peak rate.
        """
        budget = self.budget
        samples = budget.steps * budget.batch_size
        peak = self.optim.peak_lr(budget.batch_size)
        return Schedule(config=self.schedule, peak=peak, samples=samples, warmup=budget.warmup)
