"""Images per second of small training steps in this checkout beside an earlier one, in fp32.

    git worktree add --detach ../earlier 004752c
    PYTHONPATH=. python benchmarks/small_steps.py --earlier ../earlier [--rounds 5] [--threads 1]

The encoder, decoder and batch are those of ``mae_laptop`` and ``wsp_laptop``; images are the same noise in each step,
so that nothing is read. Every figure comes from a process of its own, checkouts take turns, and the order turns round
in every other round. The losses after the same steps are compared as well; exits with 1 if they differ by over 1e-5.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parents[1]
STAGES = ("mae", "wsp")
TOLERANCE = 1e-5
MEASURED = """
import json, sys, time
import torch
stage, threads, steps = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(threads)
import peers_steps
from underpaint import recipes
laptop = recipes.find_recipe(f"{stage}_laptop")()
decoder = recipes.find_recipe("mae_laptop")().objective.decoder
batch = laptop.budget.batch_size
size = peers_steps.Size(encoder=laptop.objective.encoder, decoder=decoder, batch=batch, labels=300)
objective, _, more = peers_steps.our_steps(stage, size, batch, variant="shipped")
more(10)
with torch.no_grad():
    loss = float(objective(peers_steps.batch_of(size, batch)).loss)
started = time.perf_counter()
more(steps)
print(json.dumps({"rate": steps * batch / (time.perf_counter() - started), "loss": loss}))
"""
"""The same lines for both checkouts, each with its own package and its own benchmarks."""


class Measured(NamedTuple):
    """One process."""

    rate: float  # images per second
    loss: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--earlier", type=Path, required=True, help="a checkout of an earlier commit")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=60)
    options = parser.parse_args()
    if not (options.earlier / "benchmarks" / "peers_steps.py").is_file():
        parser.error(f"--earlier {options.earlier} is not a checkout that has benchmarks/peers_steps.py")
    print("| recipe | earlier, images/s | here, images/s | ratio | loss, earlier and here |")
    print("|---|---|---|---|---|")
    agrees = True
    for stage in STAGES:
        taken: dict[Path, list[Measured]] = {options.earlier.resolve(): [], HERE: []}
        for turn in range(options.rounds):
            for checkout in list(taken)[:: -1 if turn % 2 else 1]:
                taken[checkout].append(measure(checkout, stage, options.threads, options.steps))
        earlier, here = taken.values()
        ratios = [new.rate / old.rate for old, new in zip(earlier, here, strict=True)]
        cells = [
            f"{stage}_laptop",
            _spread([each.rate for each in earlier], 0),
            _spread([each.rate for each in here], 0),
        ]
        losses = f"{earlier[0].loss:.6f}, {here[0].loss:.6f}"
        print("| " + " | ".join([*cells, _spread(ratios, 2), losses]) + " |", flush=True)
        agrees &= abs(earlier[0].loss - here[0].loss) <= TOLERANCE
    return int(not agrees)


def measure(checkout: Path, stage: str, threads: int, steps: int) -> Measured:
    paths = os.pathsep.join([str(checkout), str(checkout / "benchmarks")])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-c", MEASURED, stage, str(threads), str(steps)]
    done = subprocess.run(command, env=environment, cwd=checkout, check=True, capture_output=True, text=True)
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def _spread(values: list[float], digits: int) -> str:
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


if __name__ == "__main__":
    sys.exit(main())
