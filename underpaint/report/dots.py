"""Dot plots: the accuracy of each arm per task, and the differences between arms with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from underpaint.report.arms import UNKNOWN, Mark
from underpaint.report.frame import RIGHT, Chart, Dot, Key, Point, Scale, Tick, nice_ticks
from underpaint.report.headline import Contrast, Difference, points
from underpaint.report.html_tables import Column, task_name
from underpaint.results.study import MEAN_TASK

LABEL_LETTERS = 22
LEFT, TOP = 152.0, 8.0
PITCH = 30.0
"""Distance between rows, the same in both plots, so that the tasks are aligned side by side."""


def results_plot(columns: Sequence[Column], marks: Mapping[str, Mark]) -> Chart:
    """One row per task, one marker per arm, per cent correct from 0 to 100."""
    x_of = Scale(0.0, 100.0, LEFT, RIGHT)
    rows, dots, chance = list[Tick](), list[Dot](), list[Point]()
    for index, column in enumerate(columns):
        y = TOP + PITCH * (index + 0.5)
        rows.append(_row(f"{column.dataset} {column.protocol}", y))
        for number, (arm, cell) in enumerate(column.cells.items()):
            tip = f"{marks[arm].label}: {cell.text}"
            place = y + _shift(number, len(column.cells))
            dots.append(Dot(x=x_of(100 * cell.value), y=place, mark=marks[arm], tip=tip))
        if column.chance is not None:
            chance.append((x_of(100 * column.chance.value), y))
    return Chart(
        title="Accuracy of each arm on each task",
        x_label="per cent correct",
        left=LEFT,
        top=TOP,
        bottom=TOP + PITCH * len(rows),
        grid="x",
        rows=True,
        x_ticks=tuple(Tick(at=x_of(value), text=str(value)) for value in range(0, 101, 20)),
        y_ticks=tuple(rows),
        dots=tuple(dots),
        chance=tuple(chance),
    )


def contrast_plot(contrasts: Sequence[Contrast], marks: Mapping[str, Mark], *, by_first: bool = False) -> Chart:
    """One row per task, one marker with its interval per contrast, in percentage points.

    A contrast has the marker of its second arm, or where all are measured against one, ``by_first``, of its first.
    """
    differences = [difference for contrast in contrasts for difference in contrast.differences]
    edges = [100 * edge for line in differences for edge in (line.mean, line.low, line.high) if edge is not None]
    axis = nice_ticks(min(0.0, *edges), max(0.0, *edges))
    x_of = Scale(axis[0], axis[-1], LEFT, RIGHT)
    pitch = max(PITCH, 12.0 * len(contrasts))
    tasks = list(dict.fromkeys(line.task for line in differences if line.task != MEAN_TASK))
    if any(contrast.mean for contrast in contrasts):
        tasks.append(MEAN_TASK)
    rows, dots = list[Tick](), list[Dot]()
    for index, task in enumerate(tasks):
        y = TOP + pitch * (index + 0.5)
        rows.append(_row(task_name(task), y, strong=task == MEAN_TASK))
        for number, contrast in enumerate(contrasts):
            difference = contrast.difference(task)
            if difference is not None:
                place = y + 11.0 * (number - (len(contrasts) - 1) / 2)
                mark = contrast_mark(contrast, marks, by_first=by_first)
                dots.append(_difference_dot(difference, contrast.title, place, mark, x_of))
    return Chart(
        title="Differences with their intervals",
        x_label="difference in percentage points",
        left=LEFT,
        top=TOP,
        bottom=TOP + pitch * len(rows),
        grid="x",
        rows=True,
        x_ticks=tuple(Tick(at=x_of(value), text=_signed(value)) for value in axis),
        y_ticks=tuple(rows),
        dots=tuple(dots),
        zero_x=x_of(0.0),
        rules=tuple(row.at - pitch / 2 for row in rows if row.strong),
    )


def contrast_legend(
    contrasts: Sequence[Contrast], marks: Mapping[str, Mark], *, by_first: bool = False
) -> tuple[Key, ...]:
    return tuple(
        Key(
            name=contrast.title,
            mark=contrast_mark(contrast, marks, by_first=by_first),
            meaning=contrast.condition,
        )
        for contrast in contrasts
    )


def contrast_mark(contrast: Contrast, marks: Mapping[str, Mark], *, by_first: bool) -> Mark:
    """A contrast is drawn as one of its arms: the one that tells the contrasts of a picture apart."""
    return marks.get(contrast.first if by_first else contrast.baseline, UNKNOWN)


def _shift(number: int, count: int) -> float:
    """Arms of one task stand slightly one below the other, or equal ones would hide each other; none leaves its row."""
    return min(3.5, 0.75 * PITCH / count) * (number - (count - 1) / 2)


def _signed(value: float) -> str:
    return "0" if value == 0 else f"{value:+g}".replace("-", "−")


def _difference_dot(line: Difference, contrast: str, y: float, mark: Mark, x_of: Scale) -> Dot:
    tip = f"{contrast}, {task_name(line.task)}: {points(line.mean)}"
    if line.low is None or line.high is None:
        return Dot(x=x_of(100 * line.mean), y=y, mark=mark, tip=tip)
    return Dot(
        x=x_of(100 * line.mean),
        y=y,
        mark=mark,
        tip=f"{tip} [{points(line.low)}, {points(line.high)}]",
        low=x_of(100 * line.low),
        high=x_of(100 * line.high),
        upright=False,
    )


def _row(label: str, y: float, *, strong: bool = False) -> Tick:
    short = label if len(label) <= LABEL_LETTERS else label[: LABEL_LETTERS - 1] + "…"
    return Tick(at=y, text=short, strong=strong, full_text=label if short != label else "")
