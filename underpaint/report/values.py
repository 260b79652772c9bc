"""Pictures along an axis of values: what a change does to the arms, and to the differences between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from underpaint.report.arms import Mark
from underpaint.report.axes import WIDTH, Tick, nice_ticks, scale, tick_texts

LEFT, RIGHT, TOP, BOTTOM = 46.0, WIDTH - 14.0, 12.0, 224.0
MARGIN = 26.0
"""From the edges of the frame to the first and the last value, so that markers beside each other fit."""
APART = 9.0
"""Between the markers of one value: their intervals would hide each other."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A number at a value of the axis, with its interval where it has one."""

    x: float
    y: float
    tip: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class Line:
    """One arm or contrast along the axis."""

    name: str
    mark: Mark
    dots: tuple[Measured, ...]

    @property
    def path(self) -> str:
        return "M" + "L".join(f"{dot.x:.1f} {dot.y:.1f}" for dot in self.dots)


@dataclass(frozen=True, kw_only=True)
class ValueTick(Tick):
    strong: bool  # the base point


@dataclass(frozen=True, kw_only=True)
class ValueChart:
    """Lines in one frame, in its coordinates."""

    title: str
    x_label: str
    x_ticks: tuple[ValueTick, ...]
    y_ticks: tuple[Tick, ...]
    zero: float | None
    lines: tuple[Line, ...]
    left: float = LEFT
    right: float = RIGHT
    top: float = TOP
    bottom: float = BOTTOM
    width: int = WIDTH
    height: int = 270


def value_chart(
    title: str,
    x_label: str,
    lines: Sequence[Line],
    values: Sequence[tuple[str, float]],
    *,
    base: str,
    zero: bool = False,
) -> ValueChart:
    """Place the lines, whose dots hold a number of the axis and per cent.

    ``values`` are the ticks by name, from left to right; that of the base point is set in bold.
    """
    edges = [edge for line in lines for dot in line.dots for edge in (dot.y, dot.low, dot.high) if edge is not None]
    low, high = min(edges, default=0.0), max(edges, default=0.0)
    if zero:
        low, high = min(0.0, low), max(0.0, high)
    ticks = nice_ticks(low, high)
    xs = [x for _, x in values]
    x_of = scale(min(xs), max(xs), LEFT + MARGIN, RIGHT - MARGIN)
    y_of = scale(ticks[0], ticks[-1], BOTTOM, TOP)

    def placed(line: Line, shift: float) -> Line:
        dots = tuple(
            Measured(
                x=x_of(dot.x) + shift,
                y=y_of(dot.y),
                tip=dot.tip,
                low=None if dot.low is None else y_of(dot.low),
                high=None if dot.high is None else y_of(dot.high),
            )
            for dot in line.dots
        )
        return Line(name=line.name, mark=line.mark, dots=dots)

    return ValueChart(
        title=title,
        x_label=x_label,
        x_ticks=tuple(ValueTick(at=x_of(x), text=name, strong=name == base) for name, x in values),
        y_ticks=tuple(Tick(at=y_of(y), text=text) for y, text in zip(ticks, tick_texts(ticks), strict=True)),
        zero=y_of(0.0) if zero else None,
        lines=tuple(placed(line, APART * (number - (len(lines) - 1) / 2)) for number, line in enumerate(lines)),
    )
