"""Radar charts: one axis per protocol, one polygon per encoder (the paper's Figure 1)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from underpaint.report.arms import Mark
from underpaint.report.frame import WIDTH, Point, path_through
from underpaint.report.html_tables import PROTOCOLS
from underpaint.results.transfer import AxisValue, Estimate

CENTRE: Point = (WIDTH / 2, 186.0)
RADIUS = 128.0
LABELS = RADIUS + 16.0
HEIGHT = 376
RINGS = (0.25, 0.5, 0.75, 1.0)
LEAST_AXES = 3
"""Axes without which a polygon has no area."""
DASHES = ("", "9 5", "2 4", "12 3 2 3", "5 9", "2 9")
"""Dashes of the polygons in turn: through the gaps of one the line below it is seen where encoders tie."""
BESIDE = 9.0
"""Distance of markers that would cover each other, which stand side by side across the axis."""


@dataclass(frozen=True, kw_only=True)
class Spoke:
    """An axis, from the centre to its end, and its two lines of text."""

    end: Point
    text: Point
    anchor: str  # of the text: start, middle or end
    label: str
    best: str


@dataclass(frozen=True, kw_only=True)
class Polygon:
    """The line through an encoder's corners."""

    name: str
    mark: Mark
    path: str
    dash: str  # of the stroke; "" for none


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
    polygons: tuple[Polygon, ...]
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
    polygons, tips = list[Polygon](), list[Tip]()
    for arm, mark in marks.items():
        of_arm = {value["protocol"]: value for value in values if value["arm"] == arm}
        corners: list[Point] = []
        for axis in (axis for axis in axes if axis in of_arm):
            value = of_arm[axis]
            share = value["mean"] / best[axis] if best[axis] else 0.0
            corners.append(_point(axes.index(axis), len(axes), RADIUS * share))
            shown = f"{100 * value['mean']:.1f} {interval_text(value)}".strip()
            at = _beside(corners[-1], axes.index(axis), len(axes), _alike(values, value, best[axis]))
            tips.append(Tip(at=at, mark=mark, text=f"{mark.label}, {axis_name(axis)}: {shown}"))
        if corners:
            dash = DASHES[len(polygons) % len(DASHES)]
            polygons.append(Polygon(name=mark.label, mark=mark, path=_closed(corners), dash=dash))
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


def _alike(values: Sequence[AxisValue], value: AxisValue, best: float) -> tuple[int, int]:
    """The place of an encoder among those whose markers would cover each other on an axis, and their number."""
    near = BESIDE / 2 / RADIUS * best
    arms = [v["arm"] for v in values if v["protocol"] == value["protocol"] and abs(v["mean"] - value["mean"]) <= near]
    return arms.index(value["arm"]), len(arms)


def _beside(corner: Point, number: int, count: int, alike: tuple[int, int]) -> Point:
    """A corner, moved across its axis to its place among those that are alike."""
    place, together = alike
    angle, shift = 2 * math.pi * number / count, BESIDE * (place - (together - 1) / 2)
    return round(corner[0] + shift * math.cos(angle), 1), round(corner[1] + shift * math.sin(angle), 1)


def _ring(radius: float, count: int) -> str:
    return _closed([_point(number, count, radius) for number in range(count)])


def _closed(points: Sequence[Point]) -> str:
    return f"{path_through(points)}Z"


def _spoke(number: int, count: int, axis: str, best: float) -> Spoke:
    end, text = _point(number, count, RADIUS), _point(number, count, LABELS)
    side = text[0] - CENTRE[0]
    # two lines: above the end at the top, and below it at the bottom, so that no corner is covered
    text = text[0], round(text[1] - 2 - 8 * (CENTRE[1] - text[1]) / LABELS, 1)
    anchor = "middle" if abs(side) < 1 else "start" if side > 0 else "end"
    return Spoke(end=end, text=text, anchor=anchor, label=axis_name(axis), best=f"{100 * best:.1f}")
