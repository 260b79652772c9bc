"""What every picture shares: its width, its scales and ticks, and the entries of its legend.

All sizes are in the user units of a drawing 440 wide, which is also its width in pixels on a desktop page, so that the
letters stay readable when a phone shows it at 350.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from underpaint.report.arms import Mark

WIDTH = 440


@dataclass(frozen=True, kw_only=True)
class Tick:
    at: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Key:
    """One entry of a legend."""

    name: str
    mark: Mark
    meaning: str = ""


def scale(low: float, high: float, start: float, stop: float) -> Callable[[float], float]:
    """The linear map that takes `low` to `start` and `high` to `stop`; a range of one value lands at `start`."""
    length = high - low
    return lambda value: round(start + (stop - start) * ((value - low) / length if length else 0.0), 1)


def nice_ticks(low: float, high: float) -> list[float]:
    """Three to seven round numbers, the first at or below `low`, the last at or above `high`."""
    if high - low <= 1e-12 * max(1.0, abs(low), abs(high)):
        low, high = low - 0.5, high + 0.5
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, last + 1)]


def tick_text(value: float) -> str:
    """A tick with no more digits than it needs: ``20k``, ``1.5M``, ``0.25``, ``3e-05``."""
    size = abs(value)
    for power, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if size >= power:
            return f"{value / (1e3 if unit == 'k' else power):.6g}{unit}"
    return f"{0.0 if size < 1e-12 else value:.6g}".replace("-", "−")
