"""The page of the study ``transfer``: a radar, the scores with their intervals, differences, and what was left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from underpaint.report import headline, html_tables
from underpaint.report.arms import marks
from underpaint.report.folders import StudyFolder
from underpaint.report.frame import Key
from underpaint.report.headline import Contrast, Difference
from underpaint.report.html_tables import Cell
from underpaint.report.radar import axis_name, interval_text, radar
from underpaint.report.views import views_shown
from underpaint.results.study import MEAN_TASK, ScoreRow
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
        "lead": _lead(means, contrasts, len(common)),
        "caveat": headline.caveat(contrasts),
        "radar": radar(transfer["axes"], by_arm),
        "legend": [Key(name=mark.label, mark=mark) for mark in by_arm.values()],
        "axes": _rows(transfer["axes"], lambda line: axis_name(line["protocol"])),
        "rows": _rows(transfer["tasks"], lambda line: html_tables.task_name(line["task"])),
        "tested": _test_images(study.results["rows"]),
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


def _lead(means: Mapping[str, Cell], contrasts: Sequence[Contrast], tasks: int) -> str:
    """The sentence at the top: the encoder with the highest mean, if its difference to every other is above 0."""
    ordered = sorted(means, key=lambda arm: -means[arm].value)
    if not tasks or len(ordered) < 2:
        return "Scores of one encoder, or of encoders without a common task of classes: no means are compared."
    first, second, *_ = ordered
    over = f"the mean over the {tasks} task{'s' if tasks > 1 else ''} that all encoders share"
    scores = {arm: f"{means[arm].text} {means[arm].note} per cent correct" for arm in ordered}
    differences = {arm: _difference(contrasts, first, arm) for arm in ordered[1:]}
    rivals = [arm for arm, difference in differences.items() if difference is None or difference.verdict != "above"]
    if not rivals:
        return f"{first} is highest on {over}, {scores[first]}, {_points(differences[second])} above {second}."
    listed = " or ".join(f"{rival} ({_points(differences[rival])})" for rival in rivals)
    return f"{first} cannot be told from {listed} on {over}: {scores[first]}, {second} {scores[second]}."


def _difference(contrasts: Sequence[Contrast], first: str, second: str) -> Difference | None:
    """The difference of two means over tasks as that of ``first`` minus ``second``, whichever way it was computed."""
    for contrast in contrasts:
        if contrast.mean is not None and (contrast.first, contrast.baseline) == (first, second):
            return contrast.mean
        if contrast.mean is not None and (contrast.first, contrast.baseline) == (second, first):
            return contrast.mean.turned()
    return None


def _points(difference: Difference | None) -> str:
    """A difference with its interval, as a clause."""
    if difference is None:
        return "not compared: no seed in common"
    low, high = difference.low, difference.high
    interval = "" if low is None or high is None else f" [{headline.points(low)}, {headline.points(high)}]"
    return f"{headline.points(difference.mean)} points{interval}"


def _test_images(rows: Sequence[ScoreRow]) -> dict[str, int]:
    """The number of test images or videos of each task, by the task's name on the page."""
    counts: dict[str, int] = {}
    for row in rows:
        task = f"{row['dataset']} {row['protocol']}_mask" if row["split"] == "mask" else html_tables.task_key(row)
        if row["split"] == "restricted":
            task += " restricted"
        counts.setdefault(html_tables.task_name(task), row["n_test"])
    return counts


def _rows(lines: Sequence[TaskValue] | Sequence[AxisValue], name_of: Callable[..., str]) -> list[Row]:
    """One row per task or protocol, with the best in bold unless all are equal as printed."""
    cells: dict[str, dict[str, TaskValue | AxisValue]] = {}
    for line in lines:
        cells.setdefault(name_of(line), {})[line["arm"]] = line
    rows: list[Row] = []
    for name, by_arm in cells.items():
        best = html_tables.best_of({arm: line["mean"] for arm, line in by_arm.items()})
        rows.append((name, {arm: _cell(line, best=arm in best) for arm, line in by_arm.items()}))
    return rows


def _cell(line: TaskValue | AxisValue, *, best: bool) -> Cell:
    return Cell(text=f"{100 * line['mean']:.1f}", value=line["mean"], note=interval_text(line), best=best)
