"""Radar charts: one axis per protocol, one polygon per encoder (the paper's Figure 1)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from underpaint.report.arms import Mark
from underpaint.report.frame import WIDTH, Line, Point, path_through
from underpaint.report.html_tables import PROTOCOLS
from underpaint.results.transfer import AxisValue, Estimate

CENTRE: Point = (WIDTH / 2, 186.0)
RADIUS = 128.0
LABELS = RADIUS + 16.0
HEIGHT = 376
RINGS = (0.25, 0.5, 0.75, 1.0)
LEAST_AXES = 3
"""Axes without which a polygon has no area."""


@dataclass(frozen=True, kw_only=True)
class Spoke:
    """An axis, from the centre to its end, and its two lines of text."""

    end: Point
    text: Point
    anchor: str  # of the text: start, middle or end
    label: str
    best: str


@dataclass(frozen=True, kw_only=True)
class Tip:
    """A measured value on an axis."""

    at: Point
    mark: Mark
    text: str


@dataclass(frozen=True, kw_only=True)
class Radar:
    """A radar in its own coordinates; drawn by ``templates/transfer.html.j2``."""

    title: str
    spokes: tuple[Spoke, ...]
    rings: tuple[str, ...]  # paths
    polygons: tuple[Line, ...]
    tips: tuple[Tip, ...]
    centre: Point = CENTRE
    width: int = WIDTH
    height: int = HEIGHT


def radar(values: Sequence[AxisValue], marks: Mapping[str, Mark]) -> Radar | None:
    """The means of each encoder; None for fewer than three axes.

    The centre is 0, and the end of each axis is the best encoder's score there: axes have scores of different sizes,
    and from 0 a small difference stays small. An encoder has no corner on an axis where it was not measured.
    """
    axes = list(dict.fromkeys(value["protocol"] for value in values))
    if len(axes) < LEAST_AXES:
        return None
    best = {axis: max(value["mean"] for value in values if value["protocol"] == axis) for axis in axes}
    polygons, tips = list[Line](), list[Tip]()
    for arm, mark in marks.items():
        of_arm = {value["protocol"]: value for value in values if value["arm"] == arm}
        corners: list[Point] = []
        for axis in (axis for axis in axes if axis in of_arm):
            value = of_arm[axis]
            share = value["mean"] / best[axis] if best[axis] else 0.0
            corners.append(_point(axes.index(axis), len(axes), RADIUS * share))
            shown = f"{100 * value['mean']:.1f} {interval_text(value)}".strip()
            tips.append(Tip(at=corners[-1], mark=mark, text=f"{mark.label}, {axis_name(axis)}: {shown}"))
        if corners:
            polygons.append(Line(name=mark.label, mark=mark, path=_closed(corners)))
    return Radar(
        title="Mean over datasets of each protocol",
        spokes=tuple(_spoke(number, len(axes), axis, best[axis]) for number, axis in enumerate(axes)),
        rings=tuple(_ring(RADIUS * share, len(axes)) for share in RINGS),
        polygons=tuple(polygons),
        tips=tuple(tips),
    )


def axis_name(protocol: str) -> str:
    """A protocol as pages call it."""
    return PROTOCOLS.get(protocol, protocol)


def interval_text(value: Estimate) -> str:
    """The interval of a share in per cent; "" where it has none."""
    low, high = value["low"], value["high"]
    return "" if low is None or high is None else f"[{100 * low:.1f}, {100 * high:.1f}]"


def _point(number: int, count: int, radius: float) -> Point:
    """A place on an axis; the first one points up, and they go clockwise."""
    angle = 2 * math.pi * number / count
    return round(CENTRE[0] + radius * math.sin(angle), 1), round(CENTRE[1] - radius * math.cos(angle), 1)


def _ring(radius: float, count: int) -> str:
    return _closed([_point(number, count, radius) for number in range(count)])


def _closed(points: Sequence[Point]) -> str:
    return f"{path_through(points)}Z"


def _spoke(number: int, count: int, axis: str, best: float) -> Spoke:
    end, text = _point(number, count, RADIUS), _point(number, count, LABELS)
    side = text[0] - CENTRE[0]
    anchor = "middle" if abs(side) < 1 else "start" if side > 0 else "end"
    return Spoke(end=end, text=text, anchor=anchor, label=axis_name(axis), best=f"{100 * best:.1f}")
