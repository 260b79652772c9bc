"""Studies of small parts, built by name in other processes."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from underpaint.studies.parts import ComputePart, Study

PARTS = 6


def compute(folder: Path, number: int, failing: int) -> dict[str, int]:
    print(f"part {number}", file=sys.stderr)
    if number == failing:
        raise ValueError(f"part {number} has no data")
    time.sleep(0.3)
    return {"pid": os.getpid()}


def build(failing: int = -1) -> Study:
    def results(folder: Path, seeds: Any) -> Any:
        return {}

    parts = tuple(
        ComputePart(
            name=f"part-{number}-seed0",
            compute=lambda folder, number=number: compute(folder, number, failing),
            settings=number,
        )
        for number in range(PARTS)
    )
    return Study(name="stages", settings={}, parts=parts, seeds=(0,), parts_of=lambda seed: parts, results=results)
