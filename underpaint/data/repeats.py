"""Systematic repeats: in an epoch row i appears floor or ceil of its factor times, with the factor as the mean.

Row i of an epoch takes the slots from floor(C_{i-1} + u) to floor(C_i + u) - 1, C the running sum of the factors and u
a draw of the epoch. The sum is scaled up to a whole number, so that every epoch is equally long and the row at any
position is found by one search, with no state, and so that a row with a factor of at least 1 is in every epoch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from underpaint import keyed_random
from underpaint.data.order import permute

ROUNDING = 1e-6
"""Largest excess of the sum of factors over a whole number that is rounded off."""


class Repeats:
    """The endless stream over rows with repeat factors; every epoch is its own permutation of its slots."""

    def __init__(self, factors: Sequence[float]) -> None:
        assert min(factors) > 0
        running = np.cumsum(np.asarray(factors, dtype=np.float64))
        self.length = math.ceil(float(running[-1]) - ROUNDING)  # slots of an epoch
        self.running = running * (self.length / running[-1])
        self.running[-1] = self.length

    def row_at(self, key: int, position: int) -> int:
        epoch, index = divmod(position, self.length)
        slot = permute(keyed_random.mix(key, epoch), self.length, index)
        return self.row_of(slot, keyed_random.mix(keyed_random.key(key, "repeats"), epoch) / 2**64)

    def row_of(self, slot: int, shift: float) -> int:
        """The first row whose share of the slots, shifted by the epoch's draw, ends behind ``slot``."""
        return int(np.searchsorted(self.running, slot + 1 - shift, side="left"))
