"""Charts along an axis of values: the arms at each value, or the differences between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from underpaint.report.arms import Mark
from underpaint.report.frame import BOTTOM, LEFT, RIGHT, TOP, Chart, Dot, Line, Scale, Tick, nice_ticks, path_through

MARGIN = 26.0
"""Distance of the first and the last value from the edges of the frame, so that markers beside each other fit."""
APART = 9.0
"""Distance between the markers of one value, so that their intervals do not hide each other."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A number at a value of the axis, with its interval where it has one."""

    x: float
    y: float
    tip: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class Series:
    """One arm or contrast along the axis."""

    name: str
    mark: Mark
    values: tuple[Measured, ...]


def value_chart(
    title: str,
    x_label: str,
    series: Sequence[Series],
    values: Sequence[tuple[str, float]],
    *,
    base: str,
    zero: bool = False,
    apart: float = APART,
) -> Chart:
    """The series, whose values hold a place on the axis and per cent.

    ``values`` are the ticks by name, from left to right; that of the base point is set in bold. Series
    stand side by side, ``apart`` from each other, unless their places differ.
    """
    measured = [value for line in series for value in line.values]
    edges = [edge for value in measured for edge in (value.y, value.low, value.high) if edge is not None]
    low, high = min(edges, default=0.0), max(edges, default=0.0)
    if zero:
        low, high = min(0.0, low), max(0.0, high)
    y_range = nice_ticks(low, high)
    places = [x for _, x in values]
    x_of = Scale(min(places), max(places), LEFT + MARGIN, RIGHT - MARGIN)
    y_of = Scale(y_range[0], y_range[-1], BOTTOM, TOP)
    placed = [_placed(line, apart * (number - (len(series) - 1) / 2), x_of, y_of) for number, line in enumerate(series)]
    return Chart(
        title=title,
        x_label=x_label,
        x_ticks=tuple(Tick(at=x_of(x), text=name, strong=name == base) for name, x in values),
        y_ticks=y_of.ticks(),
        zero_y=y_of(0.0) if zero else None,
        lines=tuple(
            Line(name=line.name, mark=line.mark, path=path_through([(dot.x, dot.y) for dot in dots]), dashed=True)
            for line, dots in zip(series, placed, strict=True)
        ),
        dots=tuple(dot for dots in placed for dot in dots),
    )


def _placed(line: Series, shift: float, x_of: Scale, y_of: Scale) -> list[Dot]:
    return [
        Dot(
            x=x_of(value.x) + shift,
            y=y_of(value.y),
            mark=line.mark,
            tip=value.tip,
            low=None if value.low is None else y_of(value.low),
            high=None if value.high is None else y_of(value.high),
        )
        for value in line.values
    ]
