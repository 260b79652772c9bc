"""Dot plots: what each arm reaches per task, and the differences between arms with their intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from underpaint.report.arms import UNKNOWN, Mark
from underpaint.report.axes import WIDTH, Key, Tick, nice_ticks, scale
from underpaint.report.headline import Contrast, Difference, points
from underpaint.report.html_tables import Column, task_name
from underpaint.results.study import MEAN_TASK

LABEL_LETTERS = 22
LEFT, RIGHT, TOP = 152.0, WIDTH - 14.0, 8.0
PITCH = 30.0
"""From row to row: both plots have the same, so that side by side the tasks stand in line."""


@dataclass(frozen=True, kw_only=True)
class Dot:
    """One measured value of a plot, with the ends of its interval where it has one, as they are drawn."""

    x: float
    y: float
    mark: Mark
    tip: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class DotRow:
    label: str
    full_label: str
    y: float
    dots: tuple[Dot, ...]
    apart: bool = False  # a rule above: the mean is no task
    chance: float | None = None


@dataclass(frozen=True, kw_only=True)
class DotPlot:
    """One row per task, one marker per arm or contrast."""

    title: str
    x_label: str
    left: float
    right: float
    top: float
    bottom: float
    pitch: float  # from row to row
    height: float
    ticks: tuple[Tick, ...]
    rows: tuple[DotRow, ...]
    zero: float | None
    width: int = WIDTH


def results_plot(columns: Sequence[Column], marks: dict[str, Mark]) -> DotPlot:
    """One row per task, one marker per arm, per cent correct from 0 to 100."""
    x_of = scale(0.0, 1.0, LEFT, RIGHT)
    rows = []
    for index, column in enumerate(columns):
        y = TOP + PITCH * (index + 0.5)
        dots = tuple(
            Dot(x=x_of(cell.value), y=y + _shift(number, len(column.cells)), mark=marks[arm], tip=f"{arm}: {cell.text}")
            for number, (arm, cell) in enumerate(column.cells.items())
        )
        chance = None if column.chance is None else x_of(column.chance.value)
        rows.append(_row(f"{column.dataset} {column.protocol}", y, dots, chance=chance))
    ticks = tuple(Tick(at=x_of(value / 100), text=str(value)) for value in range(0, 101, 20))
    return _plot("What each arm reaches on each task", "per cent correct", rows, ticks, pitch=PITCH)


def contrast_plot(contrasts: Sequence[Contrast], marks: dict[str, Mark], *, by_first: bool = False) -> DotPlot:
    """One row per task, one marker with its interval per contrast, in percentage points.

    A contrast has the marker of its second arm, or where all are measured against one, ``by_first``, of its first.
    """
    differences = [one for contrast in contrasts for one in contrast.differences]
    edges = [100 * edge for one in differences for edge in (one.mean, one.low, one.high) if edge is not None]
    axis = nice_ticks(min(0.0, *edges), max(0.0, *edges))
    x_of = scale(axis[0], axis[-1], LEFT, RIGHT)
    pitch = max(PITCH, 12.0 * len(contrasts))
    tasks = list(dict.fromkeys(one.task for one in differences if one.task != MEAN_TASK))
    if any(contrast.mean for contrast in contrasts):
        tasks.append(MEAN_TASK)
    rows = []
    for index, task in enumerate(tasks):
        y = TOP + pitch * (index + 0.5)
        dots = []
        for number, contrast in enumerate(contrasts):
            one = contrast.difference(task)
            if one is not None:
                offset = 11.0 * (number - (len(contrasts) - 1) / 2)
                dots.append(_difference_dot(one, y + offset, contrast_mark(contrast, marks, by_first=by_first), x_of))
        rows.append(_row(task_name(task), y, tuple(dots), apart=task == MEAN_TASK))
    ticks = tuple(Tick(at=x_of(value), text="0" if value == 0 else f"{value:+g}".replace("-", "−")) for value in axis)
    title = "Differences with their intervals"
    return _plot(title, "difference in percentage points", rows, ticks, pitch=pitch, zero=x_of(0.0))


def _shift(number: int, count: int) -> float:
    """Arms of one task stand slightly one below the other, or equal ones would hide each other; none leaves its row."""
    return min(3.5, 0.75 * PITCH / count) * (number - (count - 1) / 2)


def contrast_legend(
    contrasts: Sequence[Contrast], marks: dict[str, Mark], *, by_first: bool = False
) -> tuple[Key, ...]:
    return tuple(
        Key(name=one.title, mark=contrast_mark(one, marks, by_first=by_first), meaning=one.condition)
        for one in contrasts
    )


def contrast_mark(contrast: Contrast, marks: dict[str, Mark], *, by_first: bool) -> Mark:
    """A contrast is drawn as one of its arms: the one that tells the contrasts of a picture apart."""
    return marks.get(contrast.first if by_first else contrast.baseline, UNKNOWN)


def _difference_dot(one: Difference, y: float, mark: Mark, x_of: Callable[[float], float]) -> Dot:
    tip = f"{one.contrast}, {one.task}: {points(one.mean)}"
    if one.low is None or one.high is None:
        return Dot(x=x_of(100 * one.mean), y=y, mark=mark, tip=tip)
    return Dot(
        x=x_of(100 * one.mean),
        y=y,
        mark=mark,
        tip=f"{tip} [{points(one.low)}, {points(one.high)}]",
        low=x_of(100 * one.low),
        high=x_of(100 * one.high),
    )


def _row(label: str, y: float, dots: tuple[Dot, ...], *, chance: float | None = None, apart: bool = False) -> DotRow:
    short = label if len(label) <= LABEL_LETTERS else label[: LABEL_LETTERS - 1] + "…"
    return DotRow(label=short, full_label=label, y=y, dots=dots, chance=chance, apart=apart)


def _plot(
    title: str,
    x_label: str,
    rows: Sequence[DotRow],
    ticks: tuple[Tick, ...],
    *,
    pitch: float,
    zero: float | None = None,
) -> DotPlot:
    bottom = TOP + pitch * len(rows)
    return DotPlot(
        title=title,
        x_label=x_label,
        left=LEFT,
        right=RIGHT,
        top=TOP,
        bottom=bottom,
        pitch=pitch,
        height=bottom + 40,
        ticks=ticks,
        rows=tuple(rows),
        zero=zero,
    )
