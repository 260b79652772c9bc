"""The finished parts of the study ``transfer`` as ``results.json``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path

from underpaint.evals.score import Score
from underpaint.evals.statistics import Interval, estimate
from underpaint.results.study import BaselineEntry, ContrastRow, DataEntry, ScoreRow, StudyResults, protocol_key
from underpaint.results.study_file import FORMAT
from underpaint.results.transfer import AxisValue, TaskValue
from underpaint.run import record
from underpaint.studies.baselines import REMARK
from underpaint.studies.designs import Contrast, arm_entries, imported_arm
from underpaint.studies.parts import are_there, read_output
from underpaint.studies.remarks import Remarks
from underpaint.studies.results import (
    MeanOverTasks,
    compare,
    compare_by_dataset,
    compare_by_protocol,
    describe_source,
    mean_of,
    mean_over_tasks,
    read_scores,
    strata_of,
    task_of,
    tasks_of,
)
from underpaint.studies.transfer_inputs import Dataset, Tested

NOT_MEASURED = (
    "Detection, segmentation and video.",
    "Training of the encoders: the interval of an arm with one encoder says nothing of another training of it.",
    "Learning rates of finetuning and prompts for each encoder: all have the same ones.",
)
LEAKAGE_RULE = (
    "Images of one family (exact copies) are never on both sides of a split, and near duplicates of test images are "
    "left out of what is trained on here. Whether the encoders were trained on test images is not known."
)
RESTRICTED = " restricted"

Scores = Mapping[str, Mapping[int, Sequence[Score]]]
"""Scores by arm and seed."""


def collect(
    folder: Path,
    *,
    encoders: Sequence[Tested],
    outputs: Callable[[Tested, int], Sequence[str]],
    seeds: Sequence[int],
    datasets: Sequence[Dataset],
    left_out: Sequence[str],
) -> StudyResults:
    """The content of ``results.json``; an arm has the seeds whose parts are all done."""
    scores = _scores(folder, encoders, outputs, seeds)
    arms = [imported_arm(name) for name in scores]
    compared = _common_tasks(scores)
    contrasts = [Contrast(tested=second, reference=first) for first, second in combinations(scores, 2)]
    contrasts = [each for each in contrasts if compared[each.reference].keys() & compared[each.tested].keys()]
    remarks = Remarks()
    for arm, by_seed in scores.items():
        for of_seed in by_seed.values():
            remarks.add(arm, of_seed)
    return {
        "format": FORMAT,
        "study": "transfer",
        "page": "radar",
        "arms": arm_entries(arms),
        "contrasts": [contrast.entry() for contrast in contrasts],
        "rows": [
            _row(arm, seed, score)
            for arm, by_seed in scores.items()
            for seed, of_seed in by_seed.items()
            for score in of_seed
        ],
        "stages": [],
        "baselines": _baselines(folder, encoders),
        "arm_means": [
            {"arm": arm, **mean_over_tasks(list(by_seed.values()))}
            for arm, by_seed in compared.items()
            if all(map(tasks_of, by_seed.values()))
        ],
        "summary": _summary(compared, compare, contrasts),
        "dataset_summary": _summary(compared, compare_by_dataset, contrasts),
        "tag_summary": [],
        "protocol_summary": _summary(compared, compare_by_protocol, contrasts),
        "transfer": {
            "tasks": [line for arm, by_seed in scores.items() for line in _task_values(arm, list(by_seed.values()))],
            "axes": [line for arm, by_seed in scores.items() for line in _axis_values(arm, list(by_seed.values()))],
            "left_out": list(left_out),
        },
        "data": _data(datasets, left_out, list(scores), remarks),
        "environment": record.environment(),
    }


def _data(datasets: Sequence[Dataset], left_out: Sequence[str], arms: Sequence[str], remarks: Remarks) -> DataEntry:
    return {
        "collections": {each.source.name: describe_source(each.source) for each in datasets},
        "leakage_rule": LEAKAGE_RULE,
        "not_measured": [REMARK.format(", ".join(arms)), *map(_sentence, left_out), *NOT_MEASURED],
        "remarks": remarks.lines(),
    }


def _sentence(line: str) -> str:
    return f"{line[:1].upper()}{line[1:]}."


def _scores(
    folder: Path, encoders: Sequence[Tested], outputs: Callable[[Tested, int], Sequence[str]], seeds: Sequence[int]
) -> dict[str, dict[int, list[Score]]]:
    scores: dict[str, dict[int, list[Score]]] = {encoder.arm: {} for encoder in encoders}
    for encoder in encoders:
        for seed in seeds:
            names = outputs(encoder, seed)
            if names and are_there(names, folder):
                scores[encoder.arm][seed] = read_scores(names, folder)
    return scores


def _row(arm: str, seed: int, score: Score) -> ScoreRow:
    return {"arm": arm, "seed": seed, **score.row()}


def _baselines(folder: Path, encoders: Sequence[Tested]) -> list[BaselineEntry]:
    """The first encoder of each arm."""
    first = {encoder.arm: encoder for encoder in reversed(encoders)}
    lines: list[BaselineEntry] = []
    for arm in dict.fromkeys(encoder.arm for encoder in encoders):
        entry: BaselineEntry = read_output(first[arm].baseline.part, folder)
        lines.append({**entry, "arm": arm})
    return lines


def _common_tasks(scores: Scores) -> dict[str, dict[int, list[Score]]]:
    """The scores on the tasks that all arms have, over which alone means may be compared."""
    tasks = [set(tasks_of(of_seed)) for by_seed in scores.values() for of_seed in by_seed.values()]
    common = set.intersection(*tasks) if tasks else set[str]()
    return {
        arm: {seed: [score for score in of_seed if task_of(score) in common] for seed, of_seed in by_seed.items()}
        for arm, by_seed in scores.items()
    }


def _summary(
    scores: Scores,
    compared: Callable[[Sequence[Sequence[Score]], Sequence[Sequence[Score]]], list[ContrastRow]],
    contrasts: Sequence[Contrast],
) -> list[ContrastRow]:
    """Every contrast over the seeds that both arms have."""
    summary: list[ContrastRow] = []
    for contrast in contrasts:
        reference, tested = scores[contrast.reference], scores[contrast.tested]
        seeds = [seed for seed in reference if seed in tested]
        lines = compared([reference[seed] for seed in seeds], [tested[seed] for seed in seeds])
        summary.extend({**line, "contrast": contrast.name} for line in lines)
    return summary


def _task_values(arm: str, scores: Sequence[Sequence[Score]]) -> list[TaskValue]:
    """The score on each task with its interval, by both rules where there are two."""
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


def _axis_values(arm: str, scores: Sequence[Sequence[Score]]) -> list[AxisValue]:
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
        means = [mean_of(tasks) for tasks in several]
        interval = _interval(estimate(means, seed=0, stratum=strata_of(means[0])))
        lines.append({"arm": arm, "protocol": axis, "datasets": len(several[0]), **interval})
    return lines


def _interval(interval: Interval) -> MeanOverTasks:
    return {"mean": interval.mean, "low": interval.low, "high": interval.high}
