"""A sequence of random numbers from one seed, for augmentations that need a number of draws not known before."""

from __future__ import annotations

import math

from underpaint import keyed_random

LARGEST_ALPHA = 4.0
"""Largest parameter of ``beta``, which needs 70 pairs of draws on average there, and 2 at 1."""


class Draws:
    """Numbers drawn one after the other from the stream of a seed (``keyed_random.mix``)."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.count = 0

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """A number in [low, high)."""
        self.count += 1
        return low + (high - low) * (keyed_random.mix(self.seed, self.count - 1) >> 11) * 2.0**-53

    def whole(self, below: int) -> int:
        """A whole number in [0, below)."""
        return int(self.uniform() * below)

    def normal(self, mean: float, deviation: float) -> float:
        """A normal number (Box and Muller 1958)."""
        radius = math.sqrt(-2 * math.log(1 - self.uniform()))
        return mean + deviation * radius * math.cos(2 * math.pi * self.uniform())

    def beta(self, alpha: float) -> float:
        """A number of the beta distribution with both parameters ``alpha`` (Jöhnk 1964)."""
        assert 0 < alpha <= LARGEST_ALPHA
        while True:
            x, y = self.uniform() ** (1 / alpha), self.uniform() ** (1 / alpha)
            if 0 < x + y <= 1:
                return x / (x + y)
