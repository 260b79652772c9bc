"""Scores of the study ``transfer`` with their intervals: by task, and by axis of the radar."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

from underpaint.evals.score import Interval, Score, SetScore
from underpaint.evals.statistics import estimate, paired_t, with_both_noises
from underpaint.results.study import protocol_key
from underpaint.results.transfer import AxisValue, Estimate, TaskValue
from underpaint.studies.results import estimate_mean, overlap_key, task_of, tasks_of

RESTRICTED = " restricted"


def task_values(arm: str, scores: Sequence[Sequence[Score]]) -> list[TaskValue]:
    """The score on each task, by both rules where there are two; ``scores`` are those of each seed."""
    by_task: dict[str, list[Score]] = {}
    for of_seed in scores:
        for task, score in tasks_of(of_seed).items():
            by_task.setdefault(task, []).append(score)
        for score in of_seed:
            if score.split == "restricted":
                by_task.setdefault(task_of(score) + RESTRICTED, []).append(score)
    return [
        {"arm": arm, "task": task, **_interval(estimate(several, seed=0)), "n_seeds": len(several)}
        for task, several in by_task.items()
    ]


def axis_values(arm: str, scores: Sequence[Sequence[Score]]) -> list[AxisValue]:
    """The mean over datasets of each protocol, several languages together."""
    by_axis: dict[str, list[dict[str, Score]]] = {}
    for of_seed in scores:
        here: dict[str, dict[str, Score]] = {}
        for task, score in tasks_of(of_seed).items():
            here.setdefault(protocol_key(score.protocol, score.shots), {})[task] = score
        for axis, tasks in here.items():
            by_axis.setdefault(axis, []).append(tasks)
    lines: list[AxisValue] = []
    for axis, several in by_axis.items():
        interval = _interval(estimate_mean(several))
        lines.append({"arm": arm, "protocol": axis, "datasets": len(several[0]), **interval})
    return lines


def precision_task_values(arm: str, scores: Sequence[Sequence[SetScore]]) -> list[TaskValue]:
    """The average precision on each set of annotated images, of boxes and of masks."""
    tasks = list(dict.fromkeys(task_of(score) for of_seed in scores for score in of_seed))
    lines: list[TaskValue] = []
    for task in tasks:
        of_task = [[score for score in of_seed if _is_axis(score) and task_of(score) == task] for of_seed in scores]
        lines.append({"arm": arm, "task": task, **_precision(of_task), "n_seeds": len(of_task)})
    return lines


def precision_axis_values(arm: str, scores: Sequence[Sequence[SetScore]]) -> list[AxisValue]:
    """The mean over sets of the average precision, of boxes and of masks."""
    axes = list(dict.fromkeys(overlap_key(score) for of_seed in scores for score in of_seed))
    lines: list[AxisValue] = []
    for axis in axes:
        of_axis = [[score for score in of_seed if _is_axis(score) and overlap_key(score) == axis] for of_seed in scores]
        lines.append({"arm": arm, "protocol": axis, "datasets": len(of_axis[0]), **_precision(of_axis)})
    return lines


def _is_axis(score: SetScore) -> bool:
    """Whether it is the mean over overlaps from 0.5 to 0.95, and not one of the scores beside it."""
    return score.metric == "AP"


def _precision(scores: Sequence[Sequence[SetScore]]) -> Estimate:
    """The mean over seeds and sets, which are the same for each seed, with an interval where all have one.

    Sets are independent of each other; seeds share their images, so the noise of images is not less with more of them.
    """
    means = [fmean(score.value for score in of_seed) for of_seed in scores]
    mean, below, above = fmean(means), list[float](), list[float]()
    for of_set in zip(*scores, strict=True):
        intervals = [score.interval for score in of_set if score.interval is not None]
        if len(intervals) < len(of_set):
            return {"mean": mean, "low": None, "high": None}
        value = fmean(score.value for score in of_set)
        below.append(value - fmean(interval.low for interval in intervals))
        above.append(fmean(interval.high for interval in intervals) - value)
    sets = len(below)
    images = Interval(mean, mean - math.hypot(*below) / sets, mean + math.hypot(*above) / sets)
    return _interval(with_both_noises(paired_t(means), images) if len(means) > 1 else images)


def _interval(interval: Interval) -> Estimate:
    return {"mean": interval.mean, "low": interval.low, "high": interval.high}
