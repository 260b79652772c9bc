"""Compare the planned time of a training step with the measured one on this machine's processor.

    python benchmarks/plan_time.py
    python benchmarks/plan_time.py --threads 1 --clock process     where others use the machine too

Each repeat measures the rates anew and then a step of every case; medians over the repeats are compared. Exits with 1
if a case is off by more than 20%.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from underpaint import recipes
from underpaint.models.sizes import SIZES
from underpaint.plan.compute import measured_seconds, update_seconds, work
from underpaint.plan.parameters import assumed_facts, parameters
from underpaint.plan.rates import Calibration, measure_rates
from underpaint.run import Run
from underpaint.training.loop import LoopConfig, TrainState, train
from underpaint.training.optim import build_optimizer

TOLERANCE = 0.20
LABELS = 1_000
CASES = (
    ("mae", "vit_ti16", 32),
    ("wsp", "vit_ti16", 16),
    ("mae", "vit_s16", 16),
    ("wsp", "vit_s16", 8),
    ("mae", "vit_b16", 8),
    ("wsp", "vit_b16", 4),
    ("mae", "vit_l16", 4),
    ("wsp", "vit_l16", 2),
)
CLOCKS = {"wall": time.perf_counter, "process": time.process_time}


def case(stage: str, size: str, microbatch: int) -> Run:
    run = recipes.find_recipe(f"{stage}_vit_b16")()
    encoder = replace(SIZES[size], positions=run.objective.encoder.positions)
    objective: Any = replace(run.objective, encoder=encoder)
    budget = replace(run.budget, batch_size=microbatch, microbatch=microbatch)
    return replace(run, objective=objective, budget=budget, precision="fp32", device="cpu")


def planned(run: Run, rates: Calibration) -> float:
    asked = work(run, microbatch=run.budget.forward_size, labels=LABELS, checkpointing=False)
    counted = parameters(run, assumed_facts(LABELS))
    update = update_seconds(counted, rates, clipped=run.optim.clip < float("inf"))
    return measured_seconds(asked, rates, run.precision) + update


def measured(run: Run, clock: Callable[[], float]) -> float:
    """Seconds of the second step; the first one allocates the state of the optimizer."""
    encoder, size = run.objective.encoder, run.budget.forward_size
    network = run.objective.build(assumed_facts(LABELS))
    batch = {
        "image": torch.randn(size, encoder.channels, *encoder.size),
        "position": torch.arange(size),
        "weight": torch.ones(size),
        "labels": torch.zeros(size, 1, dtype=torch.int64),
    }
    times: list[float] = []
    config = LoopConfig(
        steps=2,
        batch_size=size,
        accumulation=1,
        clip=run.optim.clip,
        precision=run.precision,
        ema_decay=0.0,
        log_every=1,
        save_every=3,
        evaluate_every=3,
        max_skipped=3,
    )
    train(
        TrainState(network, build_optimizer(network, run.optim, depth=encoder.depth)),
        iter(lambda: batch, None),
        config=config,
        schedule=lambda samples: 0.0,
        log=lambda state, values: times.append(clock()),
        save=lambda state: None,
        evaluate=lambda state: None,
        stopped=lambda: False,
    )
    return times[1] - times[0]


def main() -> int:
    options = _options()
    if options.threads:
        torch.set_num_threads(options.threads)
    clock = CLOCKS[options.clock]
    chosen = [each for each in CASES if each[1] in options.sizes]
    seen: dict[tuple[str, str, int], list[tuple[float, float]]] = {each: [] for each in chosen}
    for repeat in range(options.repeats):
        rates = measure_rates(clock)
        print(f"repeat {repeat + 1}: {rates.matmul_rate('fp32', 512) / 1e9:.0f} GFLOP/s at 512", flush=True)
        for each in chosen:
            run = case(*each)
            seen[each].append((planned(run, rates), measured(run, clock)))
    print(f"{'case':28} {'plan s':>8} {'measured':>9} {'off by':>8}   spread of the measurements")
    worst = 0.0
    for (stage, size, microbatch), pairs in seen.items():
        plan, real = (statistics.median(values) for values in zip(*pairs, strict=True))
        worst = max(worst, abs(plan / real - 1))
        reals = [pair[1] for pair in pairs]
        spread = f"{min(reals):.3f} to {max(reals):.3f}"
        name = f"{stage} {size} microbatch {microbatch}"
        print(f"{name:28} {plan:8.3f} {real:9.3f} {plan / real - 1:+8.1%}   {spread}")
    print(f"largest deviation: {worst:.1%}")
    return int(worst > TOLERANCE)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sizes", nargs="+", default=["vit_ti16", "vit_s16", "vit_b16", "vit_l16"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="of torch (default: as it chooses)")
    parser.add_argument("--clock", choices=tuple(CLOCKS), default="wall")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
