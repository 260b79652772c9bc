"""Intervals of the summaries of a study with all the noise that was measured."""

from __future__ import annotations

import math

from underpaint.results.study import Noise, Summary


def with_all_noise(line: Summary) -> tuple[float | None, float | None, list[Noise]]:
    """The ends of the interval and the noise that it covers.

    Older results give the intervals of seeds and of test images apart: their distances from the mean add in squares.
    """
    low, high, noise = line["low"], line["high"], line["noise"]
    test_low, test_high = line.get("test_low"), line.get("test_high")
    if noise != ["seeds"] or low is None or high is None or test_low is None or test_high is None:
        return low, high, noise
    mean = line["mean"]
    below, above = math.hypot(mean - low, mean - test_low), math.hypot(high - mean, test_high - mean)
    return mean - below, mean + above, ["seeds", "test images"]
