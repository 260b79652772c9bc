"""The finished parts of the study ``transfer`` as ``results.json``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path

from underpaint.evals.score import Score, SetScore
from underpaint.results.study import BaselineEntry, CollectionEntry, ContrastRow, ScoreRow, StudyResults
from underpaint.results.study_file import FORMAT
from underpaint.run import record
from underpaint.studies.designs import Contrast, arm_entries, imported_arm
from underpaint.studies.parts import are_there, read_output
from underpaint.studies.remarks import Remarks
from underpaint.studies.results import (
    compare,
    compare_by_dataset,
    compare_by_protocol,
    mean_over_tasks,
    read_both_scores,
    task_of,
    tasks_of,
)
from underpaint.studies.transfer_inputs import Tested
from underpaint.studies.transfer_values import (
    axis_values,
    precision_axis_values,
    precision_task_values,
    task_values,
)

TRAINING_IMAGES = "Training images of the measured encoders ({}): they may hold the test images of these tasks."
NOT_MEASURED = (
    "Semantic segmentation.",
    "Training of the encoders: the interval of an arm with one encoder says nothing of another training of it.",
    "Learning rates of finetuning and prompts for each encoder: all have the same ones.",
)
NO_VIDEO = "Video: no encoder was measured on videos with classes."
NO_DETECTION = "Detection: no encoder was measured on images with annotated objects."
AP_IS_NOT_PAIRED = (
    "Differences of average precision: it is not a mean over images, so encoders are not paired by image, and it is in "
    "no mean over tasks."
)
LEAKAGE_RULE = (
    "Images of one family (exact copies) are never on both sides of a split, and near duplicates of test images are "
    "left out of what is trained on for them here; for robustness, remarks count near duplicates between two datasets. "
    "Videos and annotated images are divided as their lists say. Whether the encoders were trained on test images is "
    "not known."
)

Scores = Mapping[str, Mapping[int, Sequence[Score]]]
"""Scores by arm and seed."""
Precisions = Mapping[str, Mapping[int, Sequence[SetScore]]]
"""Average precisions by arm and seed."""


def collect(
    folder: Path,
    *,
    encoders: Sequence[Tested],
    outputs: Callable[[Tested, int], Sequence[str]],
    seeds: Sequence[int],
    collections: Mapping[str, CollectionEntry],
    left_out: Sequence[str],
) -> StudyResults:
    """The content of ``results.json``; an arm has the seeds whose parts are all done."""
    scores, precisions = _scores(folder, encoders, outputs, seeds)
    arms = [imported_arm(name) for name in scores]
    compared = _common_tasks(scores)
    contrasts = [Contrast(tested=second, reference=first) for first, second in combinations(scores, 2)]
    contrasts = [each for each in contrasts if _have_common_tasks(compared[each.reference], compared[each.tested])]
    rows = [row for of_kind in (scores, precisions) for row in _rows(of_kind)]
    protocols = {row["protocol"] for row in rows}
    return {
        "format": FORMAT,
        "study": "transfer",
        "page": "radar",
        "arms": arm_entries(arms),
        "contrasts": [contrast.entry() for contrast in contrasts],
        "rows": rows,
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
            "tasks": [
                *(line for arm in scores for line in task_values(arm, list(scores[arm].values()))),
                *(line for arm in scores for line in precision_task_values(arm, list(precisions[arm].values()))),
            ],
            "axes": [
                *(line for arm in scores for line in axis_values(arm, list(scores[arm].values()))),
                *(line for arm in scores for line in precision_axis_values(arm, list(precisions[arm].values()))),
            ],
            "left_out": list(left_out),
        },
        "data": {
            "collections": dict(collections),
            "leakage_rule": LEAKAGE_RULE,
            "not_measured": [
                TRAINING_IMAGES.format(", ".join(scores)),
                *map(_sentence, left_out),
                *([] if protocols & {"video", "video_attentive"} else [NO_VIDEO]),
                *([AP_IS_NOT_PAIRED] if "detection" in protocols else [NO_DETECTION]),
                *NOT_MEASURED,
            ],
            "remarks": _remarks(scores, precisions).lines(),
        },
        "environment": record.environment(),
    }


def _remarks(scores: Scores, precisions: Precisions) -> Remarks:
    remarks = Remarks()
    for of_kind in (scores, precisions):
        for arm, by_seed in of_kind.items():
            for of_seed in by_seed.values():
                remarks.add(arm, of_seed)
    return remarks


def _sentence(line: str) -> str:
    return f"{line[:1].upper()}{line[1:]}."


def _scores(
    folder: Path, encoders: Sequence[Tested], outputs: Callable[[Tested, int], Sequence[str]], seeds: Sequence[int]
) -> tuple[Scores, Precisions]:
    """Scores that are means over images, and average precisions."""
    scores: dict[str, dict[int, list[Score]]] = {encoder.arm: {} for encoder in encoders}
    precisions: dict[str, dict[int, list[SetScore]]] = {encoder.arm: {} for encoder in encoders}
    for encoder in encoders:
        for seed in seeds:
            names = outputs(encoder, seed)
            if names and are_there(names, folder):
                scores[encoder.arm][seed], precisions[encoder.arm][seed] = read_both_scores(names, folder)
    return scores, precisions


def _rows(scores: Scores | Precisions) -> list[ScoreRow]:
    return [
        {"arm": arm, "seed": seed, **score.row()}
        for arm, by_seed in scores.items()
        for seed, of_seed in by_seed.items()
        for score in of_seed
    ]


def _baselines(folder: Path, encoders: Sequence[Tested]) -> list[BaselineEntry]:
    """The first encoder of each arm; its folder says how many more there are."""
    by_arm: dict[str, list[Tested]] = {}
    for encoder in encoders:
        by_arm.setdefault(encoder.arm, []).append(encoder)
    lines: list[BaselineEntry] = []
    for arm, (first, *further) in by_arm.items():
        entry: BaselineEntry = read_output(first.baseline.part, folder)
        entry["arm"] = arm
        if "folder" in entry and further:
            entry["folder"] += f" and {len(further)} more"
        lines.append(entry)
    return lines


def _have_common_tasks(first: Mapping[int, Sequence[Score]], second: Mapping[int, Sequence[Score]]) -> bool:
    """Whether two arms have a seed in common, and tasks, which all seeds share."""
    return any(first[seed] and second.get(seed) for seed in first)


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
