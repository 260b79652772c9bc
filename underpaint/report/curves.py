"""Curves over training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from underpaint.report.arms import Mark
from underpaint.report.folders import RunFolder, StudyFolder, is_number
from underpaint.report.frame import BOTTOM, LEFT, RIGHT, TOP, Chart, Key, Line, Point, Scale, path_through
from underpaint.report.html_tables import flop_unit

MAX_POINTS = 300
MAX_MARKERS = 10


@dataclass(frozen=True, kw_only=True)
class Curve:
    """The log of one run: (samples, FLOPs, loss) of training, and of the held-out images."""

    name: str
    mark: Mark
    train: tuple[tuple[float, float, float], ...]
    heldout: tuple[tuple[float, float, float], ...]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """Charts that share a legend."""

    title: str
    legend: tuple[Key, ...]
    charts: tuple[Chart, ...]
    has_heldout: bool


def study_curves(study: StudyFolder, marks: dict[str, Mark]) -> list[Figure]:
    """One figure per stage: loss against samples, and against the FLOPs of all stages so far."""
    figures = []
    for stage in dict.fromkeys(record["stage"] for record in study.results["stages"]):
        curves = _stage_curves(study, stage, marks)
        if curves:
            descriptions = {marks[arm].label: entry["description"] for arm, entry in study.meaning.items()}
            figures.append(loss_figure(f"{stage.upper()} loss", curves, descriptions))
    return figures


def _stage_curves(study: StudyFolder, stage: str, marks: dict[str, Mark]) -> list[Curve]:
    curves: dict[Path, Curve] = {}  # a run that two arms share is drawn once, as the first of them
    spent: dict[tuple[str, int], float] = {}
    for record in study.results["stages"]:
        arm_seed = (record["arm"], record["seed"])
        before = spent.get(arm_seed, 0.0)
        spent[arm_seed] = before + record["train_flops"]
        run, mark = study.run_of(record), marks[record["arm"]]
        if record["stage"] == stage and run is not None and run.log and run.path not in curves:
            curves[run.path] = curve_of(run, name=mark.label, mark=mark, flops_before=before)
    return list(curves.values())


def curve_of(run: RunFolder, *, name: str, mark: Mark, flops_before: float) -> Curve:
    """The losses of a run; the FLOPs of earlier stages are added, for they were paid for this curve too."""
    train = [
        (float(line["samples"]), flops_before + line.get("train_flops", 0.0), loss)
        for line in run.log
        if is_number(loss := line.get("loss"))
    ]
    per_sample = (train[-1][1] - flops_before) / train[-1][0]
    heldout = [(line["samples"], line.get("eval", {}).get("heldout_loss")) for line in run.evals]
    return Curve(
        name=name,
        mark=mark,
        train=tuple(train),
        heldout=tuple(
            (float(samples), flops_before + per_sample * samples, loss) for samples, loss in heldout if is_number(loss)
        ),
    )


def loss_figure(title: str, curves: Sequence[Curve], descriptions: Mapping[str, str]) -> Figure:
    """The same losses twice: against samples of this stage, and against training FLOPs."""
    most = max(point[1] for curve in curves for point in curve.train)
    unit, power = flop_unit(most)
    charts = (
        _loss_chart(f"{title} against samples", "samples", curves, lambda point: (point[0], point[2])),
        _loss_chart(f"{title} against compute", f"training {unit}s", curves, lambda p: (p[1] / 10**power, p[2])),
    )
    legend = {
        curve.name: Key(name=curve.name, mark=curve.mark, meaning=descriptions.get(curve.name, "")) for curve in curves
    }
    return Figure(
        title=title,
        legend=tuple(legend.values()),
        charts=charts,
        has_heldout=any(curve.heldout for curve in curves),
    )


def run_charts(run: RunFolder, mark: Mark) -> list[Figure]:
    """The loss of one run, and beside it the learning rate and the speed."""
    if not run.log:
        return []
    figures = [loss_figure("Loss", [curve_of(run, name=run.name, mark=mark, flops_before=0.0)], {})]
    others = []
    for key, title in (("lr", "Learning rate"), ("images_per_second", "Images per second")):
        points_ = [(float(line["samples"]), float(line[key])) for line in run.log if is_number(line.get(key))]
        if points_:
            lines = ((run.name, mark, points_, False),)
            others.append(_chart(f"{title} against samples", "samples", lines, from_zero=True))
    return [*figures, Figure(title="Learning rate and speed", legend=(), charts=tuple(others), has_heldout=False)]


Series = tuple[str, Mark, Sequence[Point], bool]
"""Name, mark, points and whether it is dashed."""


def _loss_chart(
    title: str, x_label: str, curves: Sequence[Curve], point: Callable[[tuple[float, float, float]], Point]
) -> Chart:
    series: list[Series] = []
    for curve in curves:
        series.append((curve.name, curve.mark, thin(smooth([point(entry) for entry in curve.train])), False))
        if curve.heldout:
            series.append((curve.name, curve.mark, thin([point(entry) for entry in curve.heldout]), True))
    return _chart(title, x_label, series, from_zero=False)


def _chart(title: str, x_label: str, series: Sequence[Series], *, from_zero: bool) -> Chart:
    """Fit the scales to the points and place them; with ``from_zero`` the upright one starts at 0."""
    xs = [x for _, _, line, _ in series for x, _ in line]
    ys = [y for _, _, line, _ in series for _, y in line]
    margin = 0.04 * (max(ys) - min(ys)) or 0.5
    x_of = Scale(0.0, max(xs), LEFT, RIGHT)
    y_of = Scale(0.0 if from_zero else min(ys) - margin, max(ys) + margin, BOTTOM, TOP)
    return Chart(
        title=title,
        x_label=x_label,
        x_ticks=x_of.ticks(),
        y_ticks=y_of.ticks(),
        lines=tuple(_line(line, x_of, y_of) for line in series),
    )


def _line(series: Series, x_of: Scale, y_of: Scale) -> Line:
    name, mark, line, dashed = series
    placed = [(x_of(x), y_of(y)) for x, y in line]
    every = -(-len(placed) // MAX_MARKERS)
    return Line(
        name=f"{name}, held-out images" if dashed else name,
        mark=mark,
        path=path_through(placed),
        # from the end backwards: the last value is the one that is looked for
        markers=tuple(placed[::-1][::every]) if dashed else tuple(placed[-1:]),
        dashed=dashed,
    )


def smooth(line: Sequence[Point]) -> list[Point]:
    """Replace each value by the mean over the twentieth of the line around it.

    The window opens from the first point on, which keeps the steep start, and looks back only at the end, where a
    shrinking one would show the noise of the last steps as the result.
    """
    half = len(line) // 40
    total = [0.0]
    for _, y in line:
        total.append(total[-1] + y)
    smoothed = []
    for index, (x, _) in enumerate(line):
        reach = min(half, index)
        first, stop = index - reach, min(len(line), index + reach + 1)
        smoothed.append((x, (total[stop] - total[first]) / (stop - first)))
    return smoothed


def thin(line: Sequence[Point]) -> list[Point]:
    """At most MAX_POINTS of the points, evenly spaced, the first and the last among them."""
    if len(line) <= MAX_POINTS:
        return list(line)
    return [line[round(k * (len(line) - 1) / (MAX_POINTS - 1))] for k in range(MAX_POINTS)]
