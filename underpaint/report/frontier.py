"""Chart of each arm's mean over tasks against its training FLOPs, as the paper's Figure 1 draws it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter

from underpaint.report.arms import UNKNOWN, Mark
from underpaint.report.folders import StudyFolder
from underpaint.report.frame import LEFT, RIGHT, TOP, Chart, Dot, Line, Scale, nice_ticks, path_through
from underpaint.report.html_tables import Total, flop_unit

BOTTOM = 246.0
GAP = 7.0


def frontier(study: StudyFolder, totals: Sequence[Total], marks: Mapping[str, Mark]) -> Chart | None:
    """None where fewer than two arms were trained, or the results are older than their means.

    An arm that was not trained here has no place: its compute is not known.
    """
    untrained = study.arms_of("untrained")
    compute = {**dict.fromkeys(untrained, 0.0), **{total.arm: total.train_flops.value for total in totals}}
    means = {mean["arm"]: mean for mean in study.results["arm_means"] if mean["arm"] in compute}
    if len(means.keys() - set(untrained)) < 2:
        return None
    unit, power = flop_unit(max(compute.values()))
    x_axis = nice_ticks(0.0, max(compute[arm] for arm in means) / 10**power)
    lowest, highest = (100 * edge(mean[end] for mean in means.values()) for edge, end in ((min, "low"), (max, "high")))
    y_axis = nice_ticks(lowest, highest)
    x_of, y_of = Scale(x_axis[0], x_axis[-1], LEFT, RIGHT), Scale(y_axis[0], y_axis[-1], BOTTOM, TOP)
    places = _apart({arm: x_of(compute[arm] / 10**power) for arm in means})
    reached = {
        arm: Dot(
            x=places[arm],
            y=y_of(100 * mean["mean"]),
            low=y_of(100 * mean["low"]),
            high=y_of(100 * mean["high"]),
            mark=marks[arm],
            tip=f"{marks[arm].label}: {100 * mean['mean']:.1f} [{100 * mean['low']:.1f}, {100 * mean['high']:.1f}]",
        )
        for arm, mean in means.items()
    }
    ladders: dict[str, list[Dot]] = {}  # arms that differ in nothing but the length of WSP: from scratch, after MAE
    for arm, entry in study.meaning.items():
        if entry["ladder"] and arm in reached:
            ladders.setdefault(entry["ladder"], []).append(reached[arm])
    return Chart(
        title="Mean over tasks by training compute",
        x_label=f"training compute of all stages, {unit}s",
        bottom=BOTTOM,
        x_ticks=x_of.ticks(),
        y_ticks=y_of.ticks(),
        lines=tuple(_ladder(rungs, marks.get(name, UNKNOWN)) for name, rungs in ladders.items() if len(rungs) > 1),
        dots=tuple(reached.values()),
    )


def _ladder(rungs: Sequence[Dot], mark: Mark) -> Line:
    path = path_through([(dot.x, dot.y) for dot in sorted(rungs, key=attrgetter("x"))])
    return Line(name=mark.label, mark=mark, path=path, dashed=True)


def _apart(places: Mapping[str, float]) -> dict[str, float]:
    """Arms of equal compute stand side by side, or their intervals would hide each other."""
    ordered = sorted(places, key=lambda arm: places[arm])
    groups: list[list[str]] = []
    for arm in ordered:
        if groups and places[arm] - places[groups[-1][0]] < GAP:
            groups[-1].append(arm)
        else:
            groups.append([arm])
    return {
        arm: round(places[arm] + GAP * (number - (len(group) - 1) / 2), 1)
        for group in groups
        for number, arm in enumerate(group)
    }
