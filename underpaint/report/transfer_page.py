"""The page of the study ``transfer``: a radar, the scores with their intervals, differences, and what was left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from underpaint.report import headline, html_tables
from underpaint.report.arms import marks
from underpaint.report.folders import StudyFolder
from underpaint.report.frame import Key
from underpaint.report.html_tables import Cell
from underpaint.report.radar import axis_name, interval_text, radar
from underpaint.report.views import views_shown
from underpaint.results.study import MEAN_TASK
from underpaint.results.transfer import AxisValue, TaskValue

Row = tuple[str, dict[str, Cell]]
"""Name of a row, and its cells by arm."""


def content(study: StudyFolder) -> dict[str, object]:
    """Values for the template ``transfer.html.j2``, beside those that every study's page has.

    Raises:
        ValueError: if the results hold no scores of encoders.
    """
    transfer = study.results.get("transfer")
    if transfer is None:
        raise ValueError(f"{study.path} holds results of the study of transfer without 'transfer'")
    by_arm = {arm: mark for arm, mark in marks(study.meaning.values()).items() if arm in study.arms}
    contrasts = headline.study_contrasts(study.results)
    means = html_tables.arm_means(study)
    lines = [line for contrast in contrasts for line in contrast.differences]
    common = {line.task for line in lines if line.task != MEAN_TASK}
    return {
        "marks": by_arm,
        "lead": _lead(means, len(common)),
        "caveat": headline.caveat(contrasts),
        "radar": radar(transfer["axes"], by_arm),
        "legend": [Key(name=mark.label, mark=mark) for mark in by_arm.values()],
        "axes": _rows(transfer["axes"], lambda line: axis_name(line["protocol"])),
        "rows": _rows(transfer["tasks"], lambda line: html_tables.task_name(line["task"])),
        "means": means,
        "common": len(common),
        "contrasts": contrasts,
        "tasks": list(dict.fromkeys(line.task for line in lines)),
        "mean_task": MEAN_TASK,
        "views": views_shown(study.results["rows"]),
        "left_out": transfer["left_out"],
        "imported": html_tables.imported_encoders(study),
        "cost": html_tables.measuring_cost(study.measuring),
    }


def _lead(means: dict[str, Cell], tasks: int) -> str:
    """The sentence at the top: the encoder with the highest mean, and the next one."""
    ordered = sorted(means.items(), key=lambda pair: -pair[1].value)
    if not tasks or len(ordered) < 2:
        return "Scores of one encoder, or of encoders without a common task: nothing is compared."
    (first, best), (second, after), *_ = ordered
    return (
        f"{first} has the highest mean over the {tasks} tasks that all encoders share, {best.text} {best.note} per "
        f"cent correct, before {second} with {after.text} {after.note}."
    )


def _rows(lines: Sequence[TaskValue] | Sequence[AxisValue], name_of: Callable[..., str]) -> list[Row]:
    """One row per task or protocol, with the best of those that are equal as printed in bold."""
    cells: dict[str, dict[str, TaskValue | AxisValue]] = {}
    for line in lines:
        cells.setdefault(name_of(line), {})[line["arm"]] = line
    rows: list[Row] = []
    for name, by_arm in cells.items():
        top = max(round(line["mean"], 3) for line in by_arm.values())
        rows.append((name, {arm: _cell(line, top) for arm, line in by_arm.items()}))
    return rows


def _cell(line: TaskValue | AxisValue, top: float) -> Cell:
    return Cell(
        text=f"{100 * line['mean']:.1f}",
        value=line["mean"],
        note=interval_text(line),
        best=round(line["mean"], 3) == top,
    )
