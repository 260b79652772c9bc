"""The one training loop: next batch, forward, backward, clip, step, average, log, save, evaluate."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from underpaint.core import Batch
from underpaint.training.allocator import keep_freed_memory
from underpaint.training.clock import Clock
from underpaint.training.optim import clip_gradients, set_learning_rate
from underpaint.training.ranks import Ranks
from underpaint.training.spikes import LossHistory

Precision = Literal["fp32", "bf16", "float8"]
"""Precision of matrix products; weights and optimizer are fp32. ``float8`` is bf16, but for large layers."""


class NonFiniteLoss(ValueError):
    """Too many steps in a row had a loss or gradient that is not finite, or a spike."""


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """The numbers a loop needs, derived from the run."""

    steps: int
    batch_size: int  # samples of one optimizer step
    accumulation: int  # microbatches of one optimizer step
    clip: float
    precision: Precision
    ema_decay: float  # 0 keeps no average
    log_every: int  # steps
    save_every: int
    evaluate_every: int
    max_skipped: int  # skipped steps in a row before the run stops
    spike_factor: float = math.inf  # a loss so many times the recent median is a spike
    save_at: frozenset[int] = frozenset()  # further steps that are saved


@dataclass
class TrainState:
    """Everything that a checkpoint holds, and the ranks; the rest of a run follows from its configuration."""

    objective: nn.Module
    optimizer: torch.optim.Optimizer
    average: nn.Module | None = None  # exponential moving average of the objective
    step: int = 0
    skipped: int = 0  # steps in a row that were not taken
    history: LossHistory = field(default_factory=LossHistory)
    clock: Clock = field(default_factory=Clock)  # over all starts
    ranks: Ranks = field(default_factory=Ranks)
    replicas: nn.Module | None = None  # DDP's wrapper of the objective, where there is one

    @property
    def network(self) -> nn.Module:
        """Module that the loop calls: the replicas where there are any, else the objective."""
        return self.objective if self.replicas is None else self.replicas

    @property
    def seconds(self) -> float:
        """Seconds of training over all starts; evaluations and checkpoints count apart."""
        return self.clock.training

    @property
    def product(self) -> nn.Module:
        """Module that the run saves: the weight average where it is kept, else the objective."""
        return self.objective if self.average is None else self.average


def start_average(objective: nn.Module, decay: float) -> nn.Module | None:
    return deepcopy(objective).requires_grad_(False) if decay > 0 else None


def train(
    state: TrainState,
    batches: Iterator[Batch],
    *,
    config: LoopConfig,
    schedule: Callable[[int], float],
    log: Callable[[TrainState, Mapping[str, Tensor | float]], None],
    save: Callable[[TrainState], None],
    evaluate: Callable[[TrainState], None],
    stopped: Callable[[], bool],
) -> None:
    """Train until ``config.steps`` or until ``stopped()``; the state is saved at the end in both cases.

    A step whose loss or gradient is not finite on some rank, or whose loss is a spike, is skipped on all: weights,
    average and running statistics stay as they were, and its window of the data is recorded.

    Raises:
        NonFiniteLoss: after ``max_skipped`` skipped steps in a row.
    """
    keep_freed_memory()
    clock = state.clock
    state.objective.train()
    statistics = _running_statistics(state.objective)
    logged_step, logged_seconds = state.step, state.seconds
    clock.enter("other")
    while state.step < config.steps and not stopped():
        rate = schedule(state.step * config.batch_size)
        set_learning_rate(state.optimizer, rate)
        before = [value.clone() for value in statistics.values()]
        loss, scalars = _forward_backward(state.network, batches, config, clock)
        norm = clip_gradients(state.optimizer, config.clip)
        shared = state.ranks.mean({"loss": loss, **scalars, **statistics})
        taken = _is_sound(state, shared["loss"], norm, config)
        clock.enter("optimizer")
        if taken:
            state.optimizer.step()
            _restore(statistics, [shared[name] for name in statistics])
            _update_average(state, config.ema_decay)
        else:
            _restore(statistics, before)
        state.optimizer.zero_grad(set_to_none=True)
        clock.enter("other")
        _count(state, taken, float(shared["loss"]), config)
        if state.step % config.log_every == 0 or state.step == config.steps or not taken:
            speed = (state.step - logged_step) * config.batch_size / (state.seconds - logged_seconds)
            logged_step, logged_seconds = state.step, state.seconds
            means = {name: shared[name] for name in ("loss", *scalars)}
            log(state, {**means, "lr": rate, "grad_norm": norm, "images_per_second": speed})
        _require_progress(state, config)
        if state.step % config.evaluate_every == 0 or state.step == config.steps:
            clock.enter("evaluate")
            evaluate(state)
        saved = state.step % config.save_every == 0 or state.step in config.save_at
        if saved and state.step < config.steps:
            clock.enter("save")
            save(state)
        clock.enter("other")
    clock.enter("save")
    save(state)
    clock.stop()


def _forward_backward(
    objective: nn.Module, batches: Iterator[Batch], config: LoopConfig, clock: Clock | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Accumulate the gradient of one optimizer step; the mean loss and scalars of its microbatches."""
    clock = clock or Clock()
    total: Tensor | float = 0.0
    sums: dict[str, Tensor] = {}
    for _ in range(config.accumulation):
        clock.enter("data")
        batch = next(batches)
        clock.enter("forward")
        device = batch["weight"].device.type
        with torch.autocast(device, dtype=torch.bfloat16, enabled=config.precision != "fp32"):
            step = objective(batch)
        clock.enter("backward")
        (step.loss / config.accumulation).backward()
        total = total + step.loss.detach() / config.accumulation
        for name, value in step.scalars.items():
            value = value.detach() / config.accumulation
            sums[name] = sums[name] + value if name in sums else value
    assert isinstance(total, Tensor)
    return total, sums


def _is_sound(state: TrainState, loss: Tensor, norm: Tensor, config: LoopConfig) -> bool:
    """Whether the step may be taken; the same answer on all ranks, since loss and norm are."""
    if not bool(torch.isfinite(loss) & torch.isfinite(norm)):
        return False
    return not state.history.is_spike(float(loss), config.spike_factor)


def _count(state: TrainState, taken: bool, loss: float, config: LoopConfig) -> None:
    first = state.step * config.batch_size
    if taken:
        state.history.take(loss)
    else:
        state.history.skip(first, first + config.batch_size)
    state.skipped = 0 if taken else state.skipped + 1
    state.step += 1


def _require_progress(state: TrainState, config: LoopConfig) -> None:
    if state.skipped >= config.max_skipped:
        raise NonFiniteLoss(
            f"the loss or gradient was not finite, or a spike, in {state.skipped} steps in a row, up to step "
            f"{state.step}; a lower optim.base_lr, a finite optim.clip or precision=fp32 usually helps"
        )


def _running_statistics(objective: nn.Module) -> dict[str, Tensor]:
    """Buffers that a forward pass changes without the optimizer: BatchNorm's. Empty for most objectives."""
    norms = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
    layers = [(name, layer) for name, layer in objective.named_modules() if isinstance(layer, norms)]
    return {f"{name}.{key}": value for name, layer in layers for key, value in layer.named_buffers()}


def _restore(tensors: dict[str, Tensor], values: list[Tensor]) -> None:
    for tensor, value in zip(tensors.values(), values, strict=True):
        tensor.copy_(value)


@torch.no_grad()
def _update_average(state: TrainState, decay: float) -> None:
    if state.average is None:
        return
    tensors = state.objective.state_dict()
    for name, average in state.average.state_dict().items():
        if average.is_floating_point():
            average.lerp_(tensors[name], 1 - decay)
        else:
            average.copy_(tensors[name])
