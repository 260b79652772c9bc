"""The finished parts of the study ``stages`` as ``results.json``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from underpaint import files, records
from underpaint.data.records import SPLITS, Source
from underpaint.evals.score import Score
from underpaint.evals.statistics import summarise
from underpaint.studies.designs import Arm
from underpaint.study import read_output

FORMAT = 1

CONTRASTS = (
    ("wsp", "mae_wsp"),  # equal WSP steps (paper.md C1)
    ("wsp_equal_compute", "mae_wsp"),  # equal compute (C2)
    ("wsp_equal_time", "mae_wsp"),
    ("mae", "mae_wsp"),
    ("mae", "wsp"),
    ("random", "mae"),
    ("random", "wsp"),
    ("mae_wsp", "mae_wsp_low_rate"),
    ("mae_wsp", "mae_wsp_layer_decay"),
)
"""Differences that are reported: the second arm minus the first."""

MEAN_TASK = "mean over tasks"

NOT_MEASURED = (
    "Detection, segmentation, video and zero-shot transfer.",
    "Near duplicates between training and test images: families are kept apart, look-alikes are not searched for.",
    "Sizes, budgets and image sizes beyond the ones in this report: nothing here says how the gain scales.",
    "The published recipes at their published sizes.",
)


def describe(source: Source, *, arms: Sequence[str], sources: Sequence[Source]) -> dict[str, Any]:
    """The ``data`` entry: what was trained and tested on, whose it is, and what was not measured."""
    missing: list[str] = []
    if "wsp" not in arms:
        missing.append("WSP: the images have no tags, so only the arms `random` and `mae` were run.")
    if source.name not in {other.name for other in sources}:
        missing.append("Transfer on these images themselves: they have no labels (--labels FILE, or class folders).")
    everything = {other.name: other for other in (source, *sources)}
    return {
        "pretraining": source.name,
        "collections": {name: _describe_source(other) for name, other in everything.items()},
        "leakage_rule": (
            "Images of one family (variants of a drawing, exact copies) never stand on both sides of a split; test "
            "images are seen by no stage: not by MAE, WSP, the vocabulary, the mean and deviation, nor any sweep."
        ),
        "not_measured": [*missing, *NOT_MEASURED],
    }


def _describe_source(source: Source) -> dict[str, Any]:
    return {
        "images": len(source.path),
        "splits": {split: len(source.rows(split)) for split in SPLITS},
        "families": len(set(source.family)),
        "tagged": sum(bool(tags) for tags in source.tags),
        "classes": len({source.label[row] for row in source.rows("train")} - {""}),
        "licence": source.licence,
        "attribution": source.attribution,
        "content_hash": source.content_hash,
        "problems": dict(Counter(problem.reason for problem in source.problems)),
    }


def collect(
    folder: Path, *, arms: Sequence[Arm], seeds: Sequence[int], datasets: Sequence[str], data: dict[str, Any]
) -> dict[str, Any]:
    """The content of ``results.json`` from the outputs of all parts."""
    scores = {(arm.name, seed): _scores(folder, arm, datasets, seed) for arm in arms for seed in seeds}
    rows = [{"arm": arm, "seed": seed, **score.row()} for (arm, seed), found in scores.items() for score in found]
    remarks = sorted({remark for found in scores.values() for score in found for remark in score.remarks})
    return {
        "format": FORMAT,
        "study": "stages",
        "rows": rows,
        "stages": [stage for arm in arms for seed in seeds for stage in _stages(folder, arm, seed)],
        "summary": _summary(scores, arms=[arm.name for arm in arms], seeds=seeds),
        "tag_summary": _tag_summary(scores, arms=[arm.name for arm in arms], seeds=seeds),
        "data": {**data, "remarks": remarks},
        "environment": records.environment(),
    }


def _scores(folder: Path, arm: Arm, datasets: Sequence[str], seed: int) -> list[Score]:
    names = [f"{kind}-{arm.name}-{dataset}-seed{seed}" for dataset in datasets for kind in ("transfer", "accuracy")]
    if arm.stage == "wsp":
        names.append(f"tags-{arm.name}-seed{seed}")
    return [Score.from_record(record) for name in names for record in read_output(name, folder)]


def _stages(folder: Path, arm: Arm, seed: int) -> list[dict[str, Any]]:
    """The pretraining runs of an arm; the cost of an arm that continues another is the sum of both."""
    found = []
    for name in (arm.start, arm.name):
        if not name or arm.stage == "none":
            continue
        result = files.read_json(folder / f"{name}-seed{seed}" / "result.json")
        cost = {key: result[key] for key in ("samples", "train_flops", "wall_seconds", "images_per_second")}
        found.append({"arm": arm.name, "stage": result["stage"], "seed": seed, **cost, "run": f"{name}-seed{seed}"})
    return found


def _summary(
    scores: dict[tuple[str, int], list[Score]], *, arms: Sequence[str], seeds: Sequence[int]
) -> list[dict[str, Any]]:
    """Every contrast on every task, and on their mean."""
    summary = []
    for contrast, first, second in _contrasts(arms):
        sides = [[_tasks(scores[arm, seed]) for seed in seeds] for arm in (first, second)]
        for task in sides[0][0]:
            pair = [[found[task] for found in side] for side in sides]
            summary.append({"contrast": contrast, "task": task, **summarise(*pair, seed=0)})
        mean = [[_mean(found) for found in side] for side in sides]
        stratum = tuple(name.partition("/")[0] for name in mean[0][0].image)
        summary.append({"contrast": contrast, "task": MEAN_TASK, **summarise(*mean, seed=0, stratum=stratum)})
    return summary


def _tag_summary(
    scores: dict[tuple[str, int], list[Score]], *, arms: Sequence[str], seeds: Sequence[int]
) -> list[dict[str, Any]]:
    """The contrasts of arms that learned tags, on the tags of held-out images; no task of transfer."""
    summary = []
    for contrast, first, second in _contrasts(arms):
        sides = [[_tags(scores[arm, seed]) for seed in seeds] for arm in (first, second)]
        for bin in [bin for bin in sides[0][0] if bin in sides[1][0]]:
            pair = [[found[bin] for found in side] for side in sides]
            summary.append({"contrast": contrast, "bin": bin, **summarise(*pair, seed=0)})
    return summary


def _contrasts(arms: Sequence[str]) -> list[tuple[str, str, str]]:
    """Name, first and second arm of the contrasts whose arms were run."""
    return [(f"{second} - {first}", first, second) for first, second in CONTRASTS if {first, second} <= set(arms)]


def _tasks(scores: Sequence[Score]) -> dict[str, Score]:
    """The scores of transfer that are compared, by the name of their task; single low-shot splits are not."""
    return {
        f"{score.dataset} {f'{score.shots}-shot' if score.shots else score.protocol}": score
        for score in scores
        if score.split in ("test", "mean")
    }


def _tags(scores: Sequence[Score]) -> dict[str, Score]:
    return {score.split: score for score in scores if score.protocol == "tags"}


def _mean(tasks: dict[str, Score]) -> Score:
    """The mean over tasks as one score whose "images" are the test images of all datasets.

    Every task weighs the same: an image's entry is scaled so that the mean of the entries is the mean of the tasks.
    Families of different datasets stay apart.
    """
    total = sum(len(score.correct) for score in tasks.values())
    parts = [(score, total / (len(tasks) * len(score.correct))) for score in tasks.values()]
    return replace(
        next(iter(tasks.values())),
        dataset="all",
        protocol="mean",
        shots=0,
        split="test",
        correct=tuple(float(value * weight) for score, weight in parts for value in np.asarray(score.correct)),
        image=tuple(f"{score.dataset}/{name}" for score, _ in parts for name in score.image),
        family=tuple(f"{score.dataset}/{name}" for score, _ in parts for name in score.family),
    )
