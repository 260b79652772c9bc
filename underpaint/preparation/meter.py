"""How far a long step is, and how long it will take, on standard error."""

from __future__ import annotations

import time

from underpaint.messages import duration, say

EVERY = 10.0
"""Seconds between two lines."""


class Meter:
    """Says how many partitions are done; nothing about a step that is over at once."""

    def __init__(self, step: str, *, total: int, done: int = 0) -> None:
        self._step, self._total, self._done, self._before = step, total, done, done
        self._images = 0
        self._started = self._said = time.monotonic()

    def add(self, *, partitions: int, images: int) -> None:
        self._done += partitions
        self._images += images
        now = time.monotonic()
        if now - self._said >= EVERY:
            self._said = now
            spent = now - self._started
            left = spent / (self._done - self._before) * (self._total - self._done)
            say(
                f"{self._step}: {self._done:,} of {self._total:,} partitions, {self._images:,} images, "
                f"{self._images / spent:,.0f} a second, about {duration(left)} left"
            )
