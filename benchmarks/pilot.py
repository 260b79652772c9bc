"""The pilot of the study ``stages --size small``: what its rates and budgets were chosen by.

    python benchmarks/pilot.py --out runs/pilot [--seed 100] [--only wsp-rate]

Seeds from 100 on belong to pilots; the study itself never sees them. The rate of WSP is chosen on WSP from scratch
alone (paper.md C16), MAE's on MAE alone; then MAE of one and of two lengths before an unchanged WSP. It can be stopped
and continued.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from candidates import Candidate, Laboratory

TWICE = ("budget.samples=384000", "budget.warmup=38400")
CANDIDATES = (
    Candidate(name="wsp-rate-5e-4", recipe="wsp", changes=("optim.base_lr=5e-4",)),
    Candidate(name="wsp-rate-1e-3", recipe="wsp", changes=("optim.base_lr=1e-3",)),
    Candidate(name="wsp-rate-2e-3", recipe="wsp", changes=("optim.base_lr=2e-3",)),
    Candidate(name="wsp-rate-4e-3", recipe="wsp", changes=("optim.base_lr=4e-3",)),
    Candidate(name="mae-rate-1e-3", recipe="mae", changes=("optim.base_lr=1e-3",)),
    Candidate(name="mae-rate-2e-3", recipe="mae", changes=("optim.base_lr=2e-3",)),
    Candidate(name="mae-rate-4e-3", recipe="mae", changes=("optim.base_lr=4e-3",)),
    Candidate(name="mae-twice", recipe="mae", changes=TWICE),
    Candidate(name="mae-once-wsp", recipe="wsp", start="mae-rate-2e-3"),
    Candidate(name="wsp-for-once", recipe="wsp", added=192_000),
    Candidate(name="mae-twice-wsp", recipe="wsp", start="mae-twice"),
    Candidate(name="wsp-for-twice", recipe="wsp", added=384_000),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("--only", default="", help="candidates whose name starts so")
    options = parser.parse_args()
    if options.seed < 100:
        parser.error(f"--seed {options.seed}: seeds below 100 belong to the study")
    laboratory = Laboratory(options.out)
    for candidate in CANDIDATES:
        if candidate.name.startswith(options.only):
            found = laboratory.measure(candidate, seed=options.seed)
            scores = "  ".join(f"{name} {value:.1f}" for name, value in found.scores.items())
            name = f"{candidate.name:14} {found.samples:8,} samples {found.seconds:5.0f} s"
            print(f"{name}  mean {found.mean:.2f}  {scores}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
