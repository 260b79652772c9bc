"""Cost in quality and gain in time of MAE's options beyond the paper; whether ``mae_fast`` keeps its promise.

    python benchmarks/mae_fast.py --out runs/mae_fast [--seeds 0 1 2 3 4] [--only reference mae_fast]
    python benchmarks/mae_fast.py --out runs/mae_fast --pilot

Every variant sees as many images as the reference, the recipe ``mae_deep_small``, but for ``mae_fast``, which sees two
thirds more, and ``two_masks``, which sees half of them with two masks each. Measured is the mean transfer of the frozen
encoder on the tasks of the small study, paired over seeds, and the time of training. The promise: at most half the
time, and the lower end of the one-sided 95% interval of the difference above -1.0 point. It can be stopped and
continued; run it where nothing else runs.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

from candidates import Candidate, Laboratory, Measured

from underpaint.evals.statistics import paired_t

RATES = ("1e-3", "2e-3", "4e-3")
"""Peak rates at 256 samples."""

ONE_BLOCK, HALF, MOST = "objective.decoder.depth=1", "objective.decode_fraction=0.5", "objective.mask_ratio=0.9"
VARIANTS = (
    Candidate(name="reference", recipe="mae_deep"),
    Candidate(name="mae_fast", recipe="mae_fast"),
    Candidate(name="shallow", recipe="mae_deep", changes=(ONE_BLOCK,)),
    Candidate(name="part", recipe="mae_deep", changes=(HALF,)),
    Candidate(name="small_part", recipe="mae_deep", changes=("objective.decode_fraction=0.25",)),
    Candidate(name="cross", recipe="mae_deep", changes=("objective.decoder.cross=true",)),
    Candidate(
        name="cross_part",
        recipe="mae_deep",
        changes=("objective.decoder.cross=true", "objective.decode_fraction=0.25"),
    ),
    Candidate(name="more_hidden", recipe="mae_deep", changes=(MOST,)),
    Candidate(
        name="two_masks",
        recipe="mae_deep",
        changes=("objective.masks_per_image=2", "budget.samples=96000", "budget.warmup=9600"),
    ),
    Candidate(
        name="low_resolution",
        recipe="mae_deep",
        changes=("objective.encoder.size=32,32", "budget.samples=160000", "budget.warmup=16000"),
    ),
    Candidate(
        name="low_to_high",
        recipe="mae_deep",
        start="low_resolution",
        changes=("budget.samples=32000", "budget.warmup=3200", "optim.base_lr=1e-3"),
    ),
)
PILOT = (
    *(Candidate(name=f"mae_deep-{rate}", recipe="mae_deep", changes=(f"optim.base_lr={rate}",)) for rate in RATES),
    *(
        Candidate(name=f"part-{rate}", recipe="mae_deep", changes=(ONE_BLOCK, HALF, f"optim.base_lr={rate}"))
        for rate in RATES
    ),
    Candidate(name="one_block", recipe="mae_deep", changes=(ONE_BLOCK,)),
    Candidate(name="hidden", recipe="mae_deep", changes=(ONE_BLOCK, MOST)),
    Candidate(
        name="hidden_longer",
        recipe="mae_deep",
        changes=(ONE_BLOCK, MOST, "budget.samples=320000", "budget.warmup=32000"),
    ),
)
"""Rates of the reference, and what ``mae_fast`` could be; the last became it."""

PILOT_SEED = 100
CONFIDENCE, PROMISED_POINTS, PROMISED_TIME = 0.90, -1.0, 0.5
"""A two-sided interval of 90% has the lower end of the one-sided one of 95%."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        choices=[v.name for v in VARIANTS],
        help="the reference and mae_fast for the promise",
    )
    parser.add_argument("--pilot", action="store_true", help="rates and presets, on a seed of their own")
    options = parser.parse_args()
    laboratory = Laboratory(options.out)
    if options.pilot:
        for candidate in PILOT:
            found = laboratory.measure(candidate, seed=PILOT_SEED)
            print(f"{candidate.name}: mean {found.mean:.2f}, {found.seconds:.0f} s", flush=True)
        return 0
    chosen = [variant for variant in VARIANTS if not options.only or variant.name in options.only]
    found: dict[str, list[Measured]] = {variant.name: [] for variant in chosen}
    for seed in options.seeds:
        for variant in chosen:  # in alternation, so that a slow hour slows all of them
            found[variant.name].append(laboratory.measure(variant, seed=seed))
            print(f"seed {seed} {variant.name}: mean {found[variant.name][-1].mean:.2f}", flush=True)
    return report(found)


def seconds(found: dict[str, list[Measured]], name: str) -> float:
    """Median over the seeds; what a variant starts from was trained as well."""
    start = next(variant.start for variant in VARIANTS if variant.name == name)
    own = statistics.median(one.seconds for one in found[name])
    return own + (seconds(found, start) if start in found else 0.0)


def report(found: dict[str, list[Measured]]) -> int:
    print(
        f"\n{'variant':16} {'transfer':>8} {'minus reference, 90% over seeds':>32} {'seconds':>8} {'of reference':>12}"
    )
    kept: bool | None = None  # until there are two seeds of both
    for name, measured in found.items():
        mean, took = statistics.fmean(one.mean for one in measured), seconds(found, name)
        line = f"{name:16} {mean:8.2f}"
        if "reference" in found and len(measured) > 1:
            pairs = zip(measured, found["reference"], strict=True)
            gain = paired_t([one.mean - other.mean for one, other in pairs], confidence=CONFIDENCE)
            share = took / seconds(found, "reference")
            line += f" {gain.mean:+16.2f} [{gain.low:+.2f}, {gain.high:+.2f}] {took:8.0f} {share:12.2f}"
            if name == "mae_fast":
                kept = gain.low > PROMISED_POINTS and share <= PROMISED_TIME
        print(line)
    if kept is not None:
        print("mae_fast keeps its promise" if kept else "mae_fast does not keep its promise")
    return 1 if kept is False else 0


if __name__ == "__main__":
    sys.exit(main())
