"""Compare the memory plan of the largest size with a training step that FSDP2 makes on many simulated ranks.

    python benchmarks/plan_dry_run.py
    python benchmarks/plan_dry_run.py --ranks 512 --microbatches 8 32

One process, no GPU, no memory filled (underpaint/plan/dry_run.py). Exits with 1 if weights, gradients or the state of
the optimizer are off by more than 1%, the peak by more than 10%, or a case takes a minute of the processor.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace

from underpaint import recipes
from underpaint.plan.dry_run import dry_run
from underpaint.plan.memory import memory
from underpaint.plan.parallel_layout import Layout
from underpaint.plan.parameters import assumed_data, parameters

GIB = 1 << 30
LABELS = 28_000


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--recipes", nargs="+", default=["mae_vit_6.5b14", "wsp_vit_6.5b14"])
    parser.add_argument("--ranks", nargs="+", type=int, default=[64, 256])
    parser.add_argument("--microbatches", nargs="+", type=int, default=[8])
    parser.add_argument("--layout", choices=("fsdp", "hsdp"), default="fsdp")
    options = parser.parse_args()
    failed = False
    print(f"{'case':64} {'plan GiB':>9} {'simulated':>9} {'off by':>7} {'seconds':>8} {'CPU s':>6}")
    cases = [(r, n, m) for r in options.recipes for n in options.ranks for m in options.microbatches]
    for recipe, ranks, microbatch in cases:
        run, layout = recipes.find_recipe(recipe)(), Layout(kind=options.layout, ranks=ranks, checkpointing=True)
        run = replace(run, budget=replace(run.budget, batch_size=microbatch * ranks))
        started, busy = time.perf_counter(), time.process_time()
        dry = dry_run(run, layout, microbatch=microbatch, labels=LABELS)
        seconds, busy = time.perf_counter() - started, time.process_time() - busy
        counted = parameters(run, assumed_data(LABELS))
        plan = memory(run, counted, layout, microbatch=microbatch, data_info=assumed_data(LABELS), cuda=False)
        parts = [getattr(plan, name) / getattr(dry, name) - 1 for name in ("weights", "gradients", "optimizer")]
        planned = plan.peak - plan.optimizer  # the simulation ends before the optimizer has a state
        off = planned / dry.peak - 1
        failed |= abs(off) > 0.1 or max(map(abs, parts)) > 0.01 or busy > 60
        name = f"{recipe} {layout}, {ranks} ranks, microbatch {microbatch}"
        print(
            f"{name:64} {planned / GIB:9.2f} {dry.peak / GIB:9.2f} {off:+7.1%} {seconds:8.1f} {busy:6.1f}", flush=True
        )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
