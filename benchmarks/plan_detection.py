"""Compare the memory plan of a detector with what torch's CPU allocator hands out in two real training steps.

    python benchmarks/plan_detection.py
    python benchmarks/plan_detection.py --recipe detect_laptop --precision bf16

By default it is ViT-B at 1,024 pixels, one image a step, with all objects that an image may have. Beside the bytes of
the allocator stands the largest resident memory of the process. Exits with 1 if the plan is off by more than 5%, or the
process takes more than 20 GiB.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from dataclasses import replace
from typing import Any

import torch
from plan_memory import GIB, allocated, planned, state_of
from torch import Tensor

from underpaint import recipes
from underpaint.core import example_batch
from underpaint.plan.estimate import COCO_CLASSES
from underpaint.run import Run
from underpaint.run.bare_steps import take_steps

TOLERANCE = 0.05
LARGEST = 20
"""GiB of resident memory."""


def case(recipe: str, microbatch: int, precision: Any) -> Run:
    """A recipe with one microbatch a step."""
    run = recipes.find_recipe(recipe)()
    budget = replace(run.budget, batch_size=microbatch, microbatch=microbatch, warmup=0)
    return replace(run, budget=budget, precision=precision, device="cpu")


def crowded(run: Run, count: int) -> dict[str, Tensor]:
    """Noise with as many objects of all classes and many sizes as an image may have, so that regions are found."""
    objective: Any = run.objective
    batch: dict[str, Any] = dict(example_batch(objective.inputs, count))
    generator = torch.Generator().manual_seed(0)
    batch["image"] = torch.randn(batch["image"].shape, generator=generator)
    shape, side = batch["classes"].shape, objective.encoder.size[0]
    corner = torch.rand(*shape, 2, generator=generator) * side * 0.7
    sides = side * (0.02 + 0.25 * torch.rand(*shape, 2, generator=generator))
    batch["boxes"] = torch.cat([corner, corner + sides], dim=-1)
    batch["classes"] = torch.randint(0, COCO_CLASSES, shape, generator=generator)
    if "masks" in batch:
        batch["masks"] = torch.ones_like(batch["masks"])
    return batch


def main() -> int:
    options = _options()
    run = case(options.recipe, options.microbatch, options.precision)
    plan = planned(run, labels=COCO_CLASSES).peak
    print(
        f"{options.recipe} {options.precision} microbatch {options.microbatch}: plan {plan / GIB:.3f} GiB", flush=True
    )
    started = time.perf_counter()

    def two_steps() -> None:
        batches = (crowded(run, count) for count in (1, options.microbatch))
        take_steps(state_of(run, labels=COCO_CLASSES), batches, run, steps=2)

    seen = allocated(two_steps)
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    off, seconds = plan / seen - 1, time.perf_counter() - started
    print(f"measured {seen / GIB:.3f} GiB, plan off by {off:+.1%}; resident {resident / GIB:.2f} GiB; {seconds:.0f} s")
    return int(abs(off) > TOLERANCE or resident > LARGEST * GIB)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--recipe", default="detect_coco_vit_b16")
    parser.add_argument("--microbatch", type=int, default=1)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
