"""Signs of trouble among the ranks: one that is slow, one that hangs."""

from __future__ import annotations

import faulthandler
import math
import statistics
import sys
import time
from collections.abc import Mapping, Sequence

OWN = ("data", "forward")
"""Phases in which a rank does not wait for others (under FSDP2 forward does, and data still shows who is slow)."""
NOTICEABLE = 0.1
"""Share of the training time that a phase must take before it is worth a warning."""
LEAST_SECONDS = 1.0
"""Less than that between two lines of the log is the noise of a short look."""


def stragglers(seconds: Sequence[Mapping[str, float]], *, factor: float) -> list[str]:
    """A line for each rank that takes ``factor`` times the median rank's time in one of its own phases.

    ``seconds`` has the time of each phase since the last look, for every rank.
    """
    lines = []
    for phase in OWN:
        usual = statistics.median_low(rank[phase] for rank in seconds)
        for number, rank in enumerate(seconds):
            if rank[phase] > max(factor * usual, NOTICEABLE * sum(rank.values()), LEAST_SECONDS):
                lines.append(f"rank {number} took {rank[phase]:.1f} s for {phase}, the median rank {usual:.1f} s")
    return lines


class Watchdog:
    """Prints the stacks of all threads and ends the process when it is not reassured in time.

    It is a separate thread in C, so it wakes where Python hangs in a collective; torchrun then ends the other ranks.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds, self.heard = seconds, -math.inf

    def reassure(self) -> None:
        """Asked for at every step, done now and then: each time starts a thread."""
        now = time.monotonic()
        if sys.__stderr__ is not None and now - self.heard > self.seconds / 20:
            self.heard = now
            faulthandler.dump_traceback_later(self.seconds, exit=True, file=sys.__stderr__)

    def stop(self) -> None:
        faulthandler.cancel_dump_traceback_later()
