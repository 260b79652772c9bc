"""The frame of every chart: its scales, linear or logarithmic, its ticks, and the lines, dots and legend.

All sizes are in the user units of a drawing 440 wide, which is also its width in pixels on a desktop page, so that the
letters stay readable when a phone shows it at 350.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from underpaint.report.arms import Mark

WIDTH = 440
LEFT, RIGHT, TOP, BOTTOM = 52.0, WIDTH - 14.0, 12.0, 224.0
BELOW = 46
"""Room for tick texts and the label under the frame."""

Point = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A named place on an axis."""

    at: float
    text: str
    strong: bool = False
    full_text: str = ""  # where ``text`` was cut


@dataclass(frozen=True, kw_only=True)
class Key:
    """One entry of a legend."""

    name: str
    mark: Mark
    meaning: str = ""


@dataclass(frozen=True, kw_only=True)
class Dot:
    """A measured value, with the ends of its interval where it has one, as they are drawn."""

    x: float
    y: float
    mark: Mark
    tip: str
    low: float | None = None
    high: float | None = None
    upright: bool = True  # the interval; else it lies

    @property
    def whisker(self) -> str:
        """The interval as an SVG path; "" where there is none."""
        if self.low is None or self.high is None:
            return ""
        if self.upright:
            return f"M{self.x} {self.low}V{self.high}M{self.x - 3} {self.low}h6M{self.x - 3} {self.high}h6"
        return f"M{self.low} {self.y}H{self.high}M{self.low} {self.y - 3}v6M{self.high} {self.y - 3}v6"


@dataclass(frozen=True, kw_only=True)
class Line:
    """A curve, with the marker of its arm on some of its points."""

    name: str
    mark: Mark
    path: str
    markers: tuple[Point, ...] = ()
    dashed: bool = False


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Lines and dots in one frame, in its coordinates; drawn by ``templates/figures.html.j2``."""

    title: str
    x_label: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Line, ...] = ()
    dots: tuple[Dot, ...] = ()
    left: float = LEFT
    right: float = RIGHT
    top: float = TOP
    bottom: float = BOTTOM
    grid: Literal["x", "y"] = "y"  # the axis whose ticks have lines through the frame
    rows: bool = False  # the ticks of y are names of rows
    zero_x: float | None = None
    zero_y: float | None = None
    rules: tuple[float, ...] = ()  # heights of lines that set rows apart
    chance: tuple[Point, ...] = ()  # short upright lines where guessing ends
    width: int = WIDTH

    @property
    def height(self) -> float:
        return self.bottom + BELOW


@dataclass(frozen=True)
class Scale:
    """The map that takes ``low`` to ``start`` and ``high`` to ``stop``; an empty range lands at ``start``."""

    low: float
    high: float
    start: float
    stop: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        low, high, value = (self._plain(edge) for edge in (self.low, self.high, value))
        length = high - low
        return round(self.start + (self.stop - self.start) * ((value - low) / length if length else 0.0), 1)

    def ticks(self) -> tuple[Tick, ...]:
        """The round numbers inside the range, or the powers of ten on a logarithmic scale."""
        values = powers_of_ten(self.low, self.high) if self.logarithmic else nice_ticks(self.low, self.high)
        reach = 1e-9 * max(abs(self.low), abs(self.high))
        inside = [value for value in values if self.low - reach <= value <= self.high + reach]
        texts = map(power_text, inside) if self.logarithmic else tick_texts(inside)
        return tuple(Tick(at=self(value), text=text) for value, text in zip(inside, texts, strict=True))

    def _plain(self, value: float) -> float:
        return math.log10(value) if self.logarithmic else value


def path_through(points: Sequence[Point]) -> str:
    """The points joined by straight lines, as an SVG path."""
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def nice_ticks(low: float, high: float) -> list[float]:
    """Three to seven round numbers, the first at or below ``low``, the last at or above ``high``."""
    if high - low <= 1e-12 * max(1.0, abs(low), abs(high)):
        low, high = low - 0.5, high + 0.5
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, last + 1)]


def tick_texts(ticks: Sequence[float]) -> list[str]:
    """Ticks of one axis, all with the digits that their step needs: ``0.8 1.0 1.2``, ``50k 100k``, ``3e-05``."""
    largest = max(map(abs, ticks), default=0.0)
    power, unit = next(((p, u) for p, u in ((9, "G"), (6, "M"), (3, "k")) if largest >= 2 * 10**p), (0, ""))
    scaled = [tick / 10**power for tick in ticks]
    step = min((abs(b - a) for a, b in pairwise(scaled)), default=1.0)
    if step < 1e-4:
        return ["0" if tick == 0 else f"{tick:.2g}".replace("-", "−") for tick in scaled]
    digits = next(n for n in range(6) if abs(step * 10**n - round(step * 10**n)) < 1e-6)
    return ["0" if tick == 0 else f"{tick:.{digits}f}{unit}".replace("-", "−") for tick in scaled]


def powers_of_ten(low: float, high: float) -> list[float]:
    """The powers of ten around a range of positive numbers."""
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    return [10.0**power for power in range(first, last + 1)]


def power_text(value: float) -> str:
    """A power of ten: ``0.01``, ``1``, ``10``, ``100``, ``1k``, ``1M``."""
    power = round(math.log10(value))
    if power < 0:
        return f"{value:.{-power}f}" if power > -4 else f"1e−{-power}"
    units, digits = divmod(power, 3)
    return f"{10**digits}{'kMGT'[units - 1] if 0 < units <= 4 else ''}" if units <= 4 else f"1e{power}"
