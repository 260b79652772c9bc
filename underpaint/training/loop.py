"""The one training loop: next batch, forward, backward, clip, step, average, log, save, evaluate."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from underpaint.core import Batch
from underpaint.training.optim import set_learning_rate

Precision = Literal["fp32", "bf16"]


class NonFiniteLoss(ValueError):
    """Too many steps in a row had a loss or gradient that is not finite."""


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
    max_skipped: int  # non-finite steps in a row before the run stops


@dataclass
class TrainState:
    """All that a checkpoint holds; the rest of a run follows from its configuration."""

    objective: nn.Module
    optimizer: torch.optim.Optimizer
    average: nn.Module | None = None  # exponential moving average of the objective
    step: int = 0
    skipped: int = 0  # non-finite steps in a row
    seconds: float = 0.0  # of training, over all starts

    @property
    def product(self) -> nn.Module:
        """What the run hands over: the average where one is kept."""
        return self.objective if self.average is None else self.average


def start_average(objective: nn.Module, decay: float) -> nn.Module | None:
    return deepcopy(objective).requires_grad_(False) if decay > 0 else None


def train(
    state: TrainState,
    batches: Iterator[Batch],
    *,
    config: LoopConfig,
    schedule: Callable[[int], float],
    log: Callable[[TrainState, dict[str, Any]], None],
    save: Callable[[TrainState], None],
    evaluate: Callable[[TrainState], None],
    stopped: Callable[[], bool],
) -> None:
    """Train until ``config.steps`` or until ``stopped()``; the state is saved at the end in both cases.

    Raises:
        NonFiniteLoss: after ``max_skipped`` steps in a row without a finite loss and gradient.
    """
    state.objective.train()
    started, seconds_before, logged_at = time.perf_counter(), state.seconds, (state.step, time.perf_counter())
    while state.step < config.steps and not stopped():
        rate = schedule(state.step * config.batch_size)
        set_learning_rate(state.optimizer, rate)
        loss, scalars = _forward_backward(state.objective, batches, config)
        norm = torch.nn.utils.clip_grad_norm_(_gradients_of(state.optimizer), config.clip)
        finite = bool(torch.isfinite(loss) & torch.isfinite(norm))
        if finite:
            state.optimizer.step()
            _update_average(state, config.ema_decay)
        state.optimizer.zero_grad(set_to_none=True)
        state.skipped = 0 if finite else state.skipped + 1
        state.step += 1
        state.seconds = seconds_before + time.perf_counter() - started
        if state.step % config.log_every == 0 or state.step == config.steps or not finite:
            now, (last_step, last_time) = time.perf_counter(), logged_at
            speed = (state.step - last_step) * config.batch_size / (now - last_time)
            logged_at = (state.step, now)
            log(state, {"loss": loss, "lr": rate, "grad_norm": norm, **scalars, "images_per_second": speed})
        if state.skipped >= config.max_skipped:
            raise NonFiniteLoss(
                f"the loss or gradient was not finite in {state.skipped} steps in a row, up to step {state.step}; "
                "a lower optim.base_lr, a finite optim.clip or precision=fp32 usually helps"
            )
        if state.step % config.evaluate_every == 0 or state.step == config.steps:
            evaluate(state)
        if state.step % config.save_every == 0 and state.step < config.steps:
            save(state)
    save(state)


def _forward_backward(
    objective: nn.Module, batches: Iterator[Batch], config: LoopConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """Accumulate the gradient of one optimizer step; the mean loss and scalars of its microbatches."""
    total: Tensor | float = 0.0
    sums: dict[str, Tensor] = {}
    for _ in range(config.accumulation):
        batch = next(batches)
        device = batch["image"].device.type
        with torch.autocast(device, dtype=torch.bfloat16, enabled=config.precision == "bf16"):
            step = objective(batch)
        (step.loss / config.accumulation).backward()
        total = total + step.loss.detach() / config.accumulation
        for name, value in step.scalars.items():
            value = value.detach() / config.accumulation
            sums[name] = sums[name] + value if name in sums else value
    assert isinstance(total, Tensor)
    return total, sums


def _gradients_of(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


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
