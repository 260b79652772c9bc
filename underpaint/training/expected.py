"""Band in which the loss of a run is expected to fall, from the curves of earlier runs, over the first of its budget.

Curves are compared by samples seen, in WINDOWS equal windows up to PART of the budget, as means of the logarithm of the
loss. The band of a window is a prediction interval: the mean of the earlier runs, plus and minus WIDTH standard
deviations times sqrt(1 + 1/n). The deviation is that of the window or, where it is larger, of all windows together, so
that a few runs that agree by chance give no narrow band; and at least FLOOR.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

PART = 0.25
"""Share of the budget in which a run is compared."""
WINDOWS = 8
FEWEST = 3
"""Smallest number of earlier runs that give a band."""
WIDTH = 5.0
"""Half of the band's width in standard deviations."""
FLOOR = 0.01
"""Smallest standard deviation of the logarithm of the loss."""

_SMALLEST = 1e-12

Curve = Sequence[tuple[int, float]]
"""Samples seen and loss at each logged step."""


@dataclass(frozen=True, kw_only=True)
class Band:
    """Losses between which a run is expected in a window."""

    lower: float
    upper: float


def window_means(curve: Curve, budget: int) -> list[float | None]:
    """The mean logarithm of the loss in each window, None in a window without a logged step."""
    inside: list[list[float]] = [[] for _ in range(WINDOWS)]
    for samples, loss in curve:
        window = math.ceil(samples * WINDOWS / (PART * budget)) - 1
        if 0 <= window < WINDOWS:
            inside[window].append(math.log(max(loss, _SMALLEST)))
    return [statistics.fmean(values) if values else None for values in inside]


def pooled_deviation(curves: Sequence[Curve], budget: int) -> float:
    """The standard deviation between the curves within a window, over all windows of FEWEST curves; at least FLOOR."""
    variances = [statistics.variance(values) for values in _by_window(curves, budget) if len(values) >= FEWEST]
    return max(FLOOR, math.sqrt(statistics.fmean(variances))) if variances else FLOOR


def bands(curves: Sequence[Curve], budget: int, *, deviation: float) -> list[Band | None]:
    """The band of each window; None where fewer than FEWEST curves have a step in it.

    A window's own standard deviation counts where it is larger than ``deviation``.
    """
    return [
        _band(values, max(deviation, statistics.stdev(values))) if len(values) >= FEWEST else None
        for values in _by_window(curves, budget)
    ]


def _by_window(curves: Sequence[Curve], budget: int) -> list[list[float]]:
    means = [window_means(curve, budget) for curve in curves]
    return [[mean for of_curve in means if (mean := of_curve[window]) is not None] for window in range(WINDOWS)]


def _band(values: Sequence[float], deviation: float) -> Band:
    center, reach = statistics.fmean(values), WIDTH * deviation * math.sqrt(1 + 1 / len(values))
    return Band(lower=math.exp(center - reach), upper=math.exp(center + reach))


class ExpectedCurve:
    """Comparison of a run with earlier ones while it runs; it speaks once, at the first window outside of its band."""

    def __init__(self, earlier: Sequence[Curve], budget: int, *, curve: Iterable[tuple[int, float]] = ()) -> None:
        """``curve`` is the part of this run's curve that was logged before it was interrupted."""
        self._earlier, self._budget = earlier, budget
        self._deviation = pooled_deviation(earlier, budget)
        self._curve: list[tuple[int, float]] = []
        self._window, self._has_spoken = 0, False
        for samples, loss in curve:
            self.add(samples, loss)

    def add(self, samples: int, loss: float) -> str:
        """A remark where the window that ends here, or before it, left its band; else ""."""
        if math.isfinite(loss):
            self._curve.append((samples, loss))
        remark = ""
        while self._window < WINDOWS and samples * WINDOWS >= (self._window + 1) * PART * self._budget:
            remark = remark or self._judge(self._window)
            self._window += 1
        return remark

    def _judge(self, window: int) -> str:
        mean, band = window_means(self._curve, self._budget)[window], self._bands()[window]
        if mean is None or band is None or self._has_spoken or band.lower <= math.exp(mean) <= band.upper:
            return ""
        self._has_spoken = True
        end = round((window + 1) / WINDOWS * PART * self._budget)
        side = "above" if math.exp(mean) > band.upper else "below"
        return (
            f"the loss of {math.exp(mean):.4g} up to {end:,} images is {side} the {band.lower:.4g} to {band.upper:.4g} "
            f"expected from {len(self._earlier)} earlier runs; compare the rate, the labels and the images with theirs"
        )

    def _bands(self) -> list[Band | None]:
        """The bands from the steps that this run logged too: means over others would not be comparable."""
        logged = {samples for samples, _ in self._curve}
        common = [[point for point in curve if point[0] in logged] for curve in self._earlier]
        return bands(common, self._budget, deviation=self._deviation)
