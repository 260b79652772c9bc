"""The finished parts of the study ``scaling`` as ``results.json``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from underpaint.evals.score import Score
from underpaint.results.scaling import ModelEntry, ScalingEntry
from underpaint.results.study import (
    COMPARED_SPLITS,
    AxisEntry,
    ContrastRow,
    DataEntry,
    ScoreRow,
    StageRow,
    StudyResults,
)
from underpaint.results.study_file import FORMAT
from underpaint.run import record
from underpaint.studies.ablations_results import Place
from underpaint.studies.designs import Arm, Contrast, arm_entries
from underpaint.studies.pretraining_images import StudyImages
from underpaint.studies.remarks import Remarks
from underpaint.studies.results import compare, compare_by_protocol, describe, read_scores, stage_of, task_of, tasks_of
from underpaint.studies.scaling_designs import ARMS, FINETUNED_ALONE, UNMEASURED, Point
from underpaint.studies.scaling_laws import Measured, errors_of, flops_of, law_entries
from underpaint.studies.scaling_prediction import keep_prediction, outcome_of, predict
from underpaint.studies.scaling_trends import trend_rows

CONTRASTS = (
    Contrast(tested="mae_wsp", reference="wsp", equal="steps"),  # paper.md C1 at every point, C6
    Contrast(tested="mae_wsp", reference="mae"),
    Contrast(tested="swapped_mae_wsp", reference="mae_wsp", equal="steps"),  # C14
    Contrast(tested="swapped_mae_wsp", reference="wsp", equal="steps"),
    Contrast(tested="single_mae_wsp", reference="single_wsp", equal="steps"),  # C15
)
"""Differences that are reported where both arms are."""

NOT_MEASURED = (
    "Recipes tuned for each point: rates and budgets are the same everywhere, and fewer images are seen more often.",
    "Frozen features of MAE alone.",
    "Laws along parameters and training FLOPs, where there are fewer than five models.",
)
NOTE = (
    "MAE and WSP keep their samples, so fewer images are seen more often; a smaller share of a seed is part of every "
    "larger one. Bands cover what the points scatter around the law, and not the noise that all points have in common, "
    "as that of the test images."
)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Values that the results of all seeds share."""

    images: StudyImages
    models: Sequence[ModelEntry]
    labels: Sequence[str]  # of WSP on all images
    left_out: Sequence[str]  # shares that were too few images, and why


def collect(
    folder: Path,
    *,
    arms: Mapping[Point, Sequence[Arm]],
    images: Mapping[Point, float],
    seeds: Sequence[int],
    largest: Point,
    setting: Setting,
) -> StudyResults:
    """The content of ``results.json``; writes ``prediction.json`` where the largest point is not among the arms."""
    datasets = [task.name for task in setting.images.tasks]
    scores = {
        point: {arm.name: [_scores(folder, arm, point, datasets, seed) for seed in seeds] for arm in there}
        for point, there in ((point, [arm for arm in there if arm not in UNMEASURED]) for point, there in arms.items())
    }
    places = {point: _place(point, images[point]) for point in arms}
    rows = {
        point: [
            ScoreRow(**places[point], arm=arm, seed=seed, **score.row())
            for arm, by_seed in by_arm.items()
            for seed, of_seed in zip(seeds, by_seed, strict=True)
            for score in of_seed
        ]
        for point, by_arm in scores.items()
    }
    stages = {point: _stages(folder, there, point, places[point], seeds) for point, there in arms.items()}
    measured = Measured(errors=errors_of(rows), images=images, flops=flops_of(stages), models=setting.models)
    has_largest = any(arm.name == "mae_wsp" for arm in arms[largest])
    if not has_largest:
        keep_prediction(folder, predict(measured, largest, seeds=seeds), largest)
    prediction = outcome_of(folder, measured, largest)
    remarks = Remarks()
    for by_arm in scores.values():
        for arm, by_seed in by_arm.items():
            for of_seed in by_seed:
                remarks.add(arm, of_seed)
    scaling: ScalingEntry = {"models": list(setting.models), "laws": law_entries(measured)}
    if prediction is not None:
        scaling["prediction"] = prediction
    summary, protocol_summary = _summaries(scores, places)
    return {
        "format": FORMAT,
        "study": "scaling",
        "page": "scaling",
        "arms": arm_entries(ARMS),
        "contrasts": [contrast.entry() for contrast in CONTRASTS],
        "rows": [row for of_point in rows.values() for row in of_point],
        "stages": [line for of_point in stages.values() for line in of_point],
        "baselines": [],
        "arm_means": [],
        "summary": summary,
        "dataset_summary": [],
        "tag_summary": [],
        "protocol_summary": protocol_summary,
        "trends": trend_rows(scores, setting.models) if has_largest else [],
        "scaling": scaling,
        "data": {**_describe(setting), "remarks": remarks.lines()},
        "environment": record.environment(),
    }


def _describe(setting: Setting) -> DataEntry:
    data = describe(setting.images, arms=[arm.name for arm in ARMS], labels=setting.labels)
    axes: list[AxisEntry] = [
        {
            "axis": model["model"],
            "title": f"Width {model['width']}, {model['parameters'] / 1e6:.2f} million parameters",
            "label": "images",
            "note": NOTE,
            "base": "",
        }
        for model in setting.models
    ]
    missing = [f"{reason}." for reason in setting.left_out]
    return {**data, "not_measured": [*missing, *NOT_MEASURED, *data["not_measured"]], "axes": axes}


def _place(point: Point, images: float) -> Place:
    return {"axis": point.model, "at": f"{images:,.0f}", "x": math.log2(images)}


def _scores(folder: Path, arm: Arm, point: Point, datasets: Sequence[str], seed: int) -> list[Score]:
    """The scores of an arm at a point; single low-shot splits are not kept, since all points together have many."""
    kinds = ("accuracy",) if arm in FINETUNED_ALONE else ("transfer", "accuracy")
    names = [f"{kind}-{point.label_of(arm.name, dataset, seed)}" for dataset in datasets for kind in kinds]
    return [score for score in read_scores(names, folder) if score.split in COMPARED_SPLITS]


def _stages(folder: Path, arms: Sequence[Arm], point: Point, place: Place, seeds: Sequence[int]) -> list[StageRow]:
    """The runs of each arm; the cost of an arm that continues another is the sum of both."""
    lines: list[StageRow] = []
    for arm in arms:
        runs = [] if arm.stage == "none" else [name for name in (arm.start, arm.name) if name]
        for seed in seeds:
            for run in runs:
                lines.append({**place, "arm": arm.name, "seed": seed, **stage_of(point.run_of(run, seed), folder)})
    return lines


def _summaries(
    scores: Mapping[Point, Mapping[str, Sequence[Sequence[Score]]]], places: Mapping[Point, Place]
) -> tuple[list[ContrastRow], list[ContrastRow]]:
    """Every contrast at every point that has both arms, by task and by protocol, on the tasks that both have."""
    by_task: list[ContrastRow] = []
    by_protocol: list[ContrastRow] = []
    for point, by_arm in scores.items():
        for contrast in CONTRASTS:
            if contrast.tested in by_arm and contrast.reference in by_arm:
                sides = _in_common(by_arm[contrast.reference], by_arm[contrast.tested])
                by_task.extend({**line, **places[point], "contrast": contrast.name} for line in compare(*sides))
                lines = compare_by_protocol(*sides)
                by_protocol.extend({**line, **places[point], "contrast": contrast.name} for line in lines)
    return by_task, by_protocol


def _in_common(*sides: Sequence[Sequence[Score]]) -> list[list[list[Score]]]:
    """The scores of the tasks that all sides have."""
    tasks = set.intersection(*(set(tasks_of(by_seed[0])) for by_seed in sides))
    return [[[score for score in of_seed if task_of(score) in tasks] for of_seed in by_seed] for by_seed in sides]
