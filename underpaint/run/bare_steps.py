"""Training steps by themselves, for measuring and dry runs: nothing is evaluated, saved or written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from underpaint.core import Batch, DataInfo, as_objective, example_batch
from underpaint.run.declare import Run
from underpaint.training.loop import LoopConfig, TrainState, train
from underpaint.training.optim import build_optimizer

_NEVER = 1 << 40  # steps


def bare_loop(run: Run, *, steps: int, accumulation: int = 1) -> LoopConfig:
    """The numbers of a loop that ends at so many steps of ``accumulation`` microbatches each."""
    return LoopConfig(
        steps=steps,
        batch_size=accumulation * run.budget.forward_size,
        accumulation=accumulation,
        clip=run.optim.clip,
        precision=run.settled_precision,
        ema_decay=0.0,
        log_every=1,
        save_every=_NEVER,
        evaluate_every=_NEVER,
        max_skipped=5,
    )


def example_state(run: Run, data_info: DataInfo, device: torch.device | str) -> tuple[TrainState, Iterator[Batch]]:
    """The network of a run with its optimizer on one device, and one example microbatch again and again."""
    objective = run.objective.build(data_info).to(device)
    batch = example_batch(run.objective.inputs, run.budget.forward_size, device=device)
    optimizer = build_optimizer(objective, run.optim, layer_of=as_objective(objective).layer_of)
    return TrainState(objective, optimizer), iter(lambda: batch, None)


def take_steps(
    state: TrainState,
    batches: Iterator[Batch],
    run: Run,
    *,
    steps: int,
    accumulation: int = 1,
    rate: float = 0.0,
    log: Callable[[Mapping[str, Tensor | float]], None] = lambda values: None,
) -> None:
    """Take so many more steps of the real loop, its batches being microbatches; ``log`` is called after each."""
    train(
        state,
        batches,
        config=bare_loop(run, steps=state.step + steps, accumulation=accumulation),
        schedule=lambda samples: rate,
        log=lambda state, values: log(values),
        save=lambda state: None,
        evaluate=lambda state: None,
        stopped=lambda: False,
    )
