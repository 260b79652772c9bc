"""Time of 200 steps at the tiny size by phase of the loop's own clock; everything but work must be at most 2%.

    python benchmarks/overhead.py

Work is data, forward, backward and optimizer. The rest is ``other`` (the rate, skipped steps, the log) and, shown
apart, evaluations and checkpoints, whose cadence is the user's choice. Exits with 1 above the limit.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from underpaint import recipes
from underpaint.run import Run, execute

STEPS, LIMIT = 200, 0.02
WORK = ("data", "forward", "backward", "optimizer")


def short(recipe: str, *, seed: int, threads: int) -> Run:
    """A laptop recipe cut to its first 200 steps, with its own cadences of the log."""
    run = recipes.find_recipe(recipe)()
    samples = STEPS * run.budget.batch_size
    return replace(run, seed=seed, threads=threads, budget=replace(run.budget, samples=samples, warmup=samples // 10))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--recipes", nargs="+", default=["mae_laptop", "wsp_laptop"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of torch (default: all cores)")
    options = parser.parse_args()
    worst = 0.0
    for recipe in options.recipes:
        shares = []
        for seed in range(options.repeats):
            with tempfile.TemporaryDirectory() as name:
                execute(short(recipe, seed=seed, threads=options.threads), Path(name) / "run")
                clock = json.loads((Path(name) / "run" / "result.json").read_text())["clock"]
            training = sum(clock[phase] for phase in (*WORK, "other"))
            shares.append(clock["other"] / training)
            listed = ", ".join(f"{phase} {seconds:.3f}" for phase, seconds in clock.items())
            print(f"{recipe} seed {seed}: {listed} s; other is {shares[-1]:.2%} of the training", flush=True)
        worst = max(worst, statistics.median(shares))
    print(f"largest median: {worst:.2%} of the training time, in {STEPS} steps")
    return int(worst > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
