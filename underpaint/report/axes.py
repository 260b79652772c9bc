"""What every picture shares: its width, its scales and ticks, and the entries of its legend.

All sizes are in the user units of a drawing 440 wide, which is also its width in pixels on a desktop page, so that the
letters stay readable when a phone shows it at 350.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

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
    """The linear map that takes ``low`` to ``start`` and ``high`` to ``stop``; an empty range lands at ``start``."""
    length = high - low
    return lambda value: round(start + (stop - start) * ((value - low) / length if length else 0.0), 1)


def nice_ticks(low: float, high: float) -> list[float]:
    """Three to seven round numbers, the first at or below ``low``, the last at or above ``high``."""
    if high - low <= 1e-12 * max(1.0, abs(low), abs(high)):
        low, high = low - 0.5, high + 0.5
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, last + 1)]


def tick_texts(ticks: list[float]) -> list[str]:
    """Ticks of one axis, all with the digits that their step needs: ``0.8 1.0 1.2``, ``50k 100k``, ``3e-05``."""
    largest = max(map(abs, ticks))
    power, unit = next(((p, u) for p, u in ((9, "G"), (6, "M"), (3, "k")) if largest >= 2 * 10**p), (0, ""))
    scaled = [tick / 10**power for tick in ticks]
    step = min(abs(b - a) for a, b in pairwise(scaled))
    if step < 1e-4:
        return ["0" if tick == 0 else f"{tick:.2g}".replace("-", "−") for tick in scaled]
    digits = next(n for n in range(6) if abs(step * 10**n - round(step * 10**n)) < 1e-6)
    return ["0" if tick == 0 else f"{tick:.{digits}f}{unit}".replace("-", "−") for tick in scaled]
