"""Clock of a run by phase: every moment belongs to exactly one phase."""

from __future__ import annotations

import time

TRAINING = ("data", "forward", "backward", "optimizer", "other")
"""The phases that are training; ``other`` is the loop itself: the rate, the agreement of ranks, the log.

On a GPU, whose work the host only starts, the time of forward and backward shows where the host first waits for it:
at the end of ``backward``.
"""
ASIDE = ("evaluate", "save")


class Clock:
    """A stopwatch that moves from phase to phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = dict.fromkeys((*TRAINING, *ASIDE), 0.0)
        self.phase: str | None = None
        self.since = 0.0

    def enter(self, phase: str) -> None:
        """End the current phase and begin another."""
        now = time.perf_counter()
        if self.phase is not None:
            self.seconds[self.phase] += now - self.since
        self.phase, self.since = phase, now

    def stop(self) -> None:
        """Time does not count until the next ``enter``."""
        self.enter("other")
        self.phase = None

    @property
    def training(self) -> float:
        """Seconds of training alone."""
        return sum(self.seconds[phase] for phase in TRAINING)
