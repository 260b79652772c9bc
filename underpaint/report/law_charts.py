"""Charts of errors along a logarithmic axis, with the law through the points and the edges of its band."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from underpaint.report.arms import Mark
from underpaint.report.frame import (
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    Chart,
    Dot,
    Line,
    Scale,
    Tick,
    nice_ticks,
    path_through,
)
from underpaint.results.scaling import LawEntry, LawPoint

MARGIN = 24.0
"""Distance of the first and the last point from the edges of the frame."""
MOST_TICKS = 6
BEYOND = 0.35
"""Room above and below the points, as a part of their range: wider bands are cut off."""


@dataclass(frozen=True, kw_only=True)
class _Frame:
    """The scales of both axes: x is the logarithm, y per cent, cut off at the edges."""

    x: Scale
    y: Scale

    def place(self, x: float, y: float) -> tuple[float, float]:
        percent = min(max(100 * y, self.y.low), self.y.high)
        return self.x(math.log10(x)), self.y(percent)


def law_chart(title: str, x_label: str, laws: Sequence[LawEntry], by_arm: Mapping[str, Mark]) -> Chart:
    """Errors in per cent of one arm per law."""
    points = [point for law in laws for point in law["points"]]
    frame = _frame(points)
    lines: list[Line] = []
    for law in laws:
        mark = by_arm[law["arm"]]
        for name, dashed in (("value", False), ("low", True), ("high", True)):
            path = [frame.place(point["x"], point[name]) for point in law["curve"]]
            if path:
                text = f"{mark.label}, {'edge of the band' if dashed else 'law'}"
                lines.append(Line(name=text, mark=mark, path=path_through(path), dashed=dashed))
    return Chart(
        title=title,
        x_label=x_label,
        x_ticks=_ticks([point["x"] for point in points], frame),
        y_ticks=frame.y.ticks(),
        lines=tuple(lines),
        dots=tuple(_dot(point, by_arm[law["arm"]], frame) for law in laws for point in law["points"]),
    )


def _frame(points: Sequence[LawPoint]) -> _Frame:
    places, errors = [math.log10(point["x"]) for point in points], [100 * point["y"] for point in points]
    room = BEYOND * (max(errors) - min(errors))
    y_axis = nice_ticks(max(0.0, min(errors) - room), max(errors) + room)
    return _Frame(
        x=Scale(min(places), max(places), LEFT + MARGIN, RIGHT - MARGIN), y=Scale(y_axis[0], y_axis[-1], BOTTOM, TOP)
    )


def _ticks(values: Sequence[float], frame: _Frame) -> tuple[Tick, ...]:
    """Ticks at some of the points, the largest among them."""
    distinct = sorted(set(values))
    every = -(-len(distinct) // MOST_TICKS)
    shown = distinct[::-1][::every][::-1]
    return tuple(Tick(at=frame.x(math.log10(value)), text=number_text(value)) for value in shown)


def number_text(value: float) -> str:
    """A positive number with two digits and its unit: ``290``, ``1.2k``, ``0.45M``."""
    for power, unit in ((15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if value >= 0.995 * 10**power:
            return f"{value / 10**power:.2g}{unit}" if value < 99.5 * 10**power else f"{value / 10**power:.0f}{unit}"
    return f"{value:.0f}"


def _dot(point: LawPoint, mark: Mark, frame: _Frame) -> Dot:
    x, y = frame.place(point["x"], point["y"])
    return Dot(x=x, y=y, mark=mark, tip=f"{mark.label} at {point['at']}: {100 * point['y']:.1f}% wrong")
