"""Studies of small parts, built by name in other processes."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from underpaint.studies.parts import ComputePart, Study

PARTS = 6


def compute(folder: Path, number: int, failing: int, killed: int, seconds: float) -> dict[str, int]:
    print(f"part {number}", file=sys.stderr)
    if number == failing:
        raise ValueError(f"part {number} has no data")
    if number == killed:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(seconds)
    return {"pid": os.getpid()}


def build(failing: int = -1, killed: int = -1, seconds: float = 0.3) -> Study:
    """Parts that sleep; ``failing`` raises an error, and ``killed`` ends its process without a word."""

    def results(folder: Path, seeds: Any) -> Any:
        return {}

    parts = tuple(
        ComputePart(
            name=f"part-{number}-seed0",
            compute=lambda folder, number=number: compute(folder, number, failing, killed, seconds),
            settings=number,
        )
        for number in range(PARTS)
    )
    return Study(name="stages", settings={}, parts=parts, seeds=(0,), parts_of=lambda seed: parts, results=results)
