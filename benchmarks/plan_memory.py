"""Compare the memory plan with what torch's CPU allocator hands out in two real training steps.

    python benchmarks/plan_memory.py
    python benchmarks/plan_memory.py --sizes vit_s16 --precision bf16 --checkpointing

The allocator's own reports are added up (torch.profiler); the first step takes one image, so that the optimizer has
its state, the second the whole microbatch. Exits with 1 if a case of at least 1 GiB is off by more than 10%.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from underpaint import recipes
from underpaint.models.recompute import make_lean
from underpaint.models.sizes import SIZES
from underpaint.models.vit import ViTConfig
from underpaint.plan.memory import Memory, memory
from underpaint.plan.parallel_layout import Layout
from underpaint.plan.parameters import assumed_data, parameters
from underpaint.run import Run
from underpaint.run.bare_steps import take_steps
from underpaint.training.loop import TrainState
from underpaint.training.optim import build_optimizer
from underpaint.training.parallel import prepare_blocks

GIB = 1 << 30
TOLERANCE = 0.10
LABELS = 28_000
MICROBATCHES = {
    ("mae", "vit_s16"): (16, 32, 64),
    ("wsp", "vit_s16"): (16, 32, 64),
    ("mae", "vit_b16"): (4, 16, 32),
    ("wsp", "vit_b16"): (4, 16, 32),
    ("mae", "vit_l16"): (2, 8, 16),
    ("wsp", "vit_l16"): (2, 6, 12),
}


def case(stage: str, size: str, microbatch: int, *, precision: Any = "fp32", lean: bool = False) -> Run:
    """The published recipe of a stage on another size of encoder, one microbatch a step."""
    run = recipes.find_recipe(f"{stage}_vit_b16")()
    encoder = replace(SIZES[size], positions=run.objective.encoder.positions)
    objective: Any = replace(run.objective, encoder=encoder)
    budget = replace(run.budget, batch_size=microbatch, microbatch=microbatch)
    parallel = replace(run.parallel, recompute_pointwise=lean)
    return replace(run, objective=objective, budget=budget, parallel=parallel, precision=precision, device="cpu")


def planned(run: Run, *, labels: int, checkpointing: bool = False) -> Memory:
    return memory(
        run,
        parameters(run, assumed_data(labels)),
        Layout(checkpointing=checkpointing),
        microbatch=run.budget.forward_size,
        data_info=assumed_data(labels),
        cuda=False,
    )


def measured(run: Run, *, labels: int, checkpointing: bool = False) -> int:
    """The largest sum of live bytes of the CPU allocator over two training steps and the building of the network."""

    def two_steps() -> None:
        state = state_of(run, labels=labels, checkpointing=checkpointing)
        batches = (
            noise(run.objective.encoder, count) | {"labels": torch.zeros(count, 1, dtype=torch.int64)}
            for count in (1, run.budget.forward_size)
        )
        take_steps(state, batches, run, steps=2)

    return allocated(two_steps)


def allocated(work: Callable[[], object]) -> int:
    """Bytes that torch's CPU allocator gives at most while ``work`` runs, beyond what lay there."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    results = profiler.profiler
    assert results is not None
    assert results.kineto_results is not None
    events = [event for event in results.kineto_results.events() if event.name() == "[memory]"]
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return max(itertools.accumulate(changes))


def state_of(run: Run, *, labels: int, checkpointing: bool = False, compiled: bool = False) -> TrainState:
    """The network of a run with its optimizer, on this processor."""
    network = run.objective.build(assumed_data(labels))
    config = replace(run.parallel, layout="single", checkpoint_activations=checkpointing, compile=compiled)
    prepare_blocks(network.blocks(), config, make_lean=make_lean)
    return TrainState(network, build_optimizer(network, run.optim, layer_of=network.layer_of))


def noise(
    encoder: ViTConfig, count: int, generator: torch.Generator | None = None, *, device: str = "cpu"
) -> dict[str, Tensor]:
    """A batch of images that are noise, without labels."""
    return {
        "image": torch.randn(count, encoder.channels, *encoder.size, generator=generator, device=device),
        "position": torch.arange(count, device=device),
        "weight": torch.ones(count, device=device),
    }


def main() -> int:
    options = _options()
    worst = 0.0
    print(f"{'case':34} {'plan GiB':>9} {'measured':>9} {'off by':>8} {'seconds':>8}")
    for (stage, size), microbatches in MICROBATCHES.items():
        for microbatch in microbatches if stage in options.stages and size in options.sizes else ():
            run = case(stage, size, microbatch, precision=options.precision, lean=options.recompute_pointwise)
            plan = planned(run, labels=LABELS, checkpointing=options.checkpointing).peak
            name = f"{stage} {size} {options.precision} microbatch {microbatch}"
            if plan > options.largest * GIB:
                print(f"{name:34} {plan / GIB:9.3f}   skipped: more than --largest", flush=True)
                continue
            started = time.perf_counter()
            seen = measured(run, labels=LABELS, checkpointing=options.checkpointing)
            off = plan / seen - 1
            worst = max(worst, abs(off)) if seen >= GIB else worst
            seconds = time.perf_counter() - started
            print(f"{name:34} {plan / GIB:9.3f} {seen / GIB:9.3f} {off:+8.1%} {seconds:8.0f}", flush=True)
    print(f"largest deviation of a case of at least 1 GiB: {worst:.1%}")
    return int(worst > TOLERANCE)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--stages", nargs="+", default=["mae", "wsp"])
    parser.add_argument("--sizes", nargs="+", default=["vit_s16", "vit_b16", "vit_l16"])
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--recompute-pointwise", action="store_true")
    parser.add_argument(
        "--largest", type=float, default=10.0, help="skip cases planned above so many GiB (default: 10)"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
