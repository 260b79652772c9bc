"""The page of the study ``ablations``: along every axis the differences, the arms, two sentences and all numbers."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from underpaint.report import headline, html_tables
from underpaint.report.arms import MARKS, UNKNOWN, Mark, marks
from underpaint.report.dots import contrast_legend
from underpaint.report.folders import StudyFolder
from underpaint.report.frame import Chart, Key
from underpaint.report.headline import Contrast, Difference, Verdict, points
from underpaint.report.html_tables import Cell
from underpaint.report.value_charts import Measured, Series, value_chart
from underpaint.results.study import (
    COMPARED_SPLITS,
    MEAN_TASK,
    AxisEntry,
    ContrastEntry,
    ContrastRow,
    ScoreRow,
    StageRow,
)

PLACES: dict[Verdict, str] = {"above": "above zero", "across": "across zero", "below": "below zero"}


@dataclass(frozen=True, kw_only=True)
class TaskLine:
    """The numbers of one task at one value."""

    task: str
    arms: dict[str, Cell]
    differences: dict[str, Difference]


@dataclass(frozen=True, kw_only=True)
class ValueLines:
    """The numbers at one value: every task, and their mean."""

    value: str
    x: float
    mean: TaskLine
    tasks: tuple[TaskLine, ...]
    flops: dict[str, Cell]  # of all stages of each arm


@dataclass(frozen=True, kw_only=True)
class AxisPart:
    """One section of the page."""

    name: str
    title: str
    note: str
    base: str  # the value of the base point, "" where the study does not name it
    sentences: tuple[str, ...]
    differences: Chart
    accuracy: Chart
    values: tuple[ValueLines, ...]


def content(study: StudyFolder) -> dict[str, object]:
    """Values for the template ``ablations.html.j2``, beside those that every study's page has."""
    by_arm = marks(study.meaning.values())
    places = {role: place for place, role in enumerate(MARKS)}
    arms = sorted(study.arms, key=lambda arm: places.get(study.meaning[arm]["role"], len(places)))
    contrasts = headline.study_contrasts(study.results)
    asked = asked_contrast(study.results["contrasts"])
    parts = axis_parts(study, by_arm, contrasts)
    at_base, verdicts = _base_contrasts(study), _verdicts(parts, asked)
    return {
        "parts": parts,
        "arms": arms,
        "contrasts": contrasts,
        "marks": by_arm,
        "lead": _lead(verdicts),
        "judged": len(verdicts),
        "base_contrasts": at_base,
        "base_lead": headline.lead(at_base),
        "caveat": headline.caveat(at_base or contrasts),
        "tasks": len({html_tables.task_key(row) for row in study.results["rows"]}),
        "legend": [
            Key(name=by_arm[arm].label, mark=by_arm[arm], meaning=study.meaning[arm]["description"]) for arm in arms
        ],
        "short_legend": [Key(name=by_arm[arm].label, mark=by_arm[arm]) for arm in arms],
        "contrast_legend": contrast_legend(contrasts, by_arm),
        "cost": html_tables.measuring_cost(study.staged),
    }


def axis_parts(study: StudyFolder, by_arm: Mapping[str, Mark], contrasts: Sequence[Contrast]) -> list[AxisPart]:
    """The differences and the arms along every axis."""
    asked = asked_contrast(study.results["contrasts"])
    titles = {contrast.name: contrast.title for contrast in contrasts}
    return [_axis_part(study, axis, by_arm, titles, asked) for axis in _axes(study)]


def _axes(study: StudyFolder) -> list[AxisEntry]:
    """The axes in words, as the study names them; one that it does not name is called as in the rows."""
    named = {axis["axis"]: axis for axis in study.results["data"].get("axes", ())}
    axes = dict.fromkeys(row["axis"] for row in study.results["rows"] if "axis" in row)
    bare: list[AxisEntry] = [{"axis": name, "title": "", "label": "", "note": "", "base": ""} for name in axes]
    return [named.get(axis["axis"], axis) for axis in bare]


def _base_contrasts(study: StudyFolder) -> list[Contrast]:
    """The contrasts at the base point, from the first axis that has it."""
    for axis in _axes(study):
        lines = [line for line in study.results["summary"] if _is_at(line, axis["axis"], axis["base"])]
        if lines:
            return headline.read_contrasts(study.results, lines)
    return []


def asked_contrast(contrasts: Sequence[ContrastEntry]) -> str:
    """The contrast that the sentences are about: whether the compute of MAE was better spent on MAE; "" for none."""
    return next((entry["contrast"] for entry in contrasts if entry["equal"] == "compute"), "")


def _axis_part(
    study: StudyFolder, axis: AxisEntry, by_arm: Mapping[str, Mark], titles: Mapping[str, str], asked: str
) -> AxisPart:
    name, base = axis["axis"], axis["base"]
    places = {
        row["at"]: row["x"] for row in study.results["rows"] if "at" in row and "x" in row and row.get("axis") == name
    }
    ticks = sorted(places.items(), key=lambda place: place[1])
    values = tuple(_value_lines(study, name, at, x) for at, x in ticks)
    label = axis["label"] or name
    return AxisPart(
        name=name,
        title=axis["title"] or name,
        note=axis["note"],
        base=base,
        sentences=sentences([(lines.value, lines.mean.differences.get(asked)) for lines in values]),
        differences=value_chart(
            "Differences in percentage points",
            label,
            _difference_series(values, by_arm, titles),
            ticks,
            base=base,
            zero=True,
        ),
        accuracy=value_chart("Per cent correct, mean over tasks", label, _arm_series(values, by_arm), ticks, base=base),
        values=values,
    )


def _value_lines(study: StudyFolder, axis: str, at: str, x: float) -> ValueLines:
    scores: dict[str, dict[str, dict[int, float]]] = {}  # by task, arm and seed
    for row in study.results["rows"]:
        if _is_at(row, axis, at) and row["split"] in COMPARED_SPLITS:
            scores.setdefault(html_tables.task_key(row), {}).setdefault(row["arm"], {})[row["seed"]] = row["value"]
    contrasts = headline.read_contrasts(
        study.results, [line for line in study.results["summary"] if _is_at(line, axis, at)]
    )
    lines = [
        _task_line(task, {arm: list(by_seed.values()) for arm, by_seed in arms.items()}, contrasts)
        for task, arms in scores.items()
    ]
    arms = dict.fromkeys(arm for by_arm in scores.values() for arm in by_arm)
    means = {arm: _means_over_tasks([by_arm[arm] for by_arm in scores.values() if arm in by_arm]) for arm in arms}
    flops: dict[str, dict[int, float]] = {}
    for stage in (stage for stage in study.results["stages"] if _is_at(stage, axis, at)):
        of_arm = flops.setdefault(stage["arm"], {})
        of_arm[stage["seed"]] = of_arm.get(stage["seed"], 0.0) + stage["train_flops"]
    return ValueLines(
        value=at,
        x=x,
        mean=_task_line(MEAN_TASK, means, contrasts),
        tasks=tuple(lines),
        flops={arm: _flops(list(by_seed.values())) for arm, by_seed in flops.items()},
    )


def _is_at(line: ScoreRow | StageRow | ContrastRow, axis: str, at: str) -> bool:
    return (line.get("axis"), line.get("at")) == (axis, at)


def _task_line(task: str, arms: Mapping[str, Sequence[float]], contrasts: Sequence[Contrast]) -> TaskLine:
    differences = {contrast.name: contrast.difference(task) for contrast in contrasts}
    return TaskLine(
        task=task,
        arms={arm: html_tables.percent(values) for arm, values in arms.items()},
        differences={name: difference for name, difference in differences.items() if difference is not None},
    )


def _means_over_tasks(tasks: Sequence[Mapping[int, float]]) -> list[float]:
    """Per seed the mean over tasks."""
    return [statistics.fmean(task[seed] for task in tasks) for seed in tasks[0]]


def _flops(values: Sequence[float]) -> Cell:
    mean = statistics.fmean(values)
    return Cell(text=html_tables.flops(mean), value=mean)


def _difference_series(
    values: Sequence[ValueLines], by_arm: Mapping[str, Mark], titles: Mapping[str, str]
) -> list[Series]:
    """One series per contrast, in per cent, drawn as the arm that it is measured against."""
    series = []
    for name in dict.fromkeys(name for value in values for name in value.mean.differences):
        known = [(value, value.mean.differences[name]) for value in values if name in value.mean.differences]
        measured = tuple(
            Measured(
                x=value.x,
                y=100 * difference.mean,
                low=None if difference.low is None else 100 * difference.low,
                high=None if difference.high is None else 100 * difference.high,
                tip=f"{titles[name]} at {value.value}: {interval(difference)}",
            )
            for value, difference in known
        )
        series.append(Series(name=titles[name], mark=by_arm.get(name.partition(" - ")[2], UNKNOWN), values=measured))
    return series


def _arm_series(values: Sequence[ValueLines], by_arm: Mapping[str, Mark]) -> list[Series]:
    series = []
    for arm in dict.fromkeys(arm for value in values for arm in value.mean.arms):
        known = [(value, value.mean.arms[arm]) for value in values if arm in value.mean.arms]
        measured = tuple(
            Measured(x=value.x, y=100 * cell.value, tip=f"{by_arm[arm].label} at {value.value}: {cell.text}")
            for value, cell in known
        )
        series.append(Series(name=by_arm[arm].label, mark=by_arm[arm], values=measured))
    return series


def sentences(differences: Sequence[tuple[str, Difference | None]]) -> tuple[str, ...]:
    """Sentences on the contrast at both ends of an axis, and on where its interval lies, in the order of the values."""
    known = [(value, difference) for value, difference in differences if difference is not None]
    if not known:
        return ("At no value of this axis two different runs of equal compute were compared.",)
    (first, at_first), (last, at_last) = known[0], known[-1]
    ends = f"At equal compute, pre-pretraining changed the mean over tasks by {interval(at_first)} points at {first}"
    if len(known) > 1:
        ends += f" and by {interval(at_last)} at {last}"
    where = []
    for verdict, place in PLACES.items():
        at = [value for value, difference in known if difference.verdict == verdict]
        if at:
            where.append(f"{place} at {'every value' if len(at) == len(known) else listed(at)}")
    return (f"{ends}.", f"The interval lies {', '.join(where)}.")


def interval(difference: Difference) -> str:
    """``+1.2 [0.4, 2.0]``."""
    if difference.low is None or difference.high is None:
        return f"{points(difference.mean)} (no interval)"
    return f"{points(difference.mean)} [{points(difference.low)}, {points(difference.high)}]"


def listed(names: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)


def _verdicts(parts: Sequence[AxisPart], asked: str) -> list[Verdict]:
    """The answer at every point; the base point, which stands on every axis, counts once."""
    verdicts: dict[tuple[str, str], Verdict] = {}
    for part in parts:
        for value in part.values:
            if asked in value.mean.differences:
                place = ("", "base") if value.value == part.base else (part.name, value.value)
                verdicts[place] = value.mean.differences[asked].verdict
    return list(verdicts.values())


def _lead(verdicts: Sequence[Verdict]) -> str:
    if not verdicts:
        return "This study compared no point with and without pre-pretraining at equal compute."
    above, across, below = (verdicts.count(verdict) for verdict in PLACES)
    return (
        f"At equal compute, pre-pretraining was better at {above} of {len(verdicts)} points, worse at {below}, and "
        f"made no difference that can be told from noise at {across}."
    )
