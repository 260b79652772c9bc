"""Compare the planned time of a training step with the measured one on this machine's processor.

    python benchmarks/plan_time.py
    python benchmarks/plan_time.py --threads 1 --clock process     where others use the machine too

Each repeat measures the rates anew and then a step of every case; medians over the repeats are compared. Exits with 1
if a case is off by more than 20%.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import time
from collections.abc import Callable

import torch
from plan_memory import case, noise, state_of

from underpaint.plan.compute import measured_seconds, update_seconds, work
from underpaint.plan.parameters import assumed_data, parameters
from underpaint.plan.rates import Calibration, measure_rates
from underpaint.run import Run
from underpaint.run.bare_steps import take_steps

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


def planned(run: Run, rates: Calibration) -> float:
    asked = work(run, assumed_data(LABELS), microbatch=run.budget.forward_size, checkpointing=False)
    counted = parameters(run, assumed_data(LABELS))
    update = update_seconds(counted, rates, clipped=run.optim.clip < float("inf"))
    return measured_seconds(asked, rates, run.precision) + update


def measured(run: Run, clock: Callable[[], float]) -> float:
    """Seconds of a step of a long run: the mean of the third and fourth.

    The first one allocates the state of the optimizer; until the second is over, memory is touched for the first time.
    """
    size, times = run.budget.forward_size, list[float]()
    batch = noise(run.objective.encoder, size) | {"labels": torch.zeros(size, 1, dtype=torch.int64)}
    state = state_of(run, labels=LABELS)
    take_steps(state, itertools.repeat(batch), run, steps=4, log=lambda values: times.append(clock()))
    return (times[3] - times[1]) / 2


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
