"""What the results of all studies share: who gave the images, what a run cost, and how two arms are compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from underpaint import files
from underpaint.data.near_duplicates.label_overlap import remark, task_near_labels
from underpaint.data.source import SPLITS, Source
from underpaint.evals.score import Score
from underpaint.evals.statistics import estimate, summarise
from underpaint.studies.pretraining_images import StudyImages

FORMAT = 1

MEAN_TASK = "mean over tasks"

NOT_MEASURED = (
    "Detection, segmentation, video and zero-shot transfer.",
    "Sizes, budgets and image sizes beyond the ones in this report: nothing here says how the gain scales.",
    "The published recipes at their published sizes.",
)


def describe(images: StudyImages, *, arms: Sequence[str], labels: Sequence[str]) -> dict[str, Any]:
    """The ``data`` entry: what was trained and tested on, whose it is, what leaked, and what was not measured.

    ``labels`` are those of WSP: where they name the classes of a task, that task is near them, and it says so.
    """
    source, sources = images.source, images.tasks
    missing: list[str] = []
    if "wsp" not in arms:
        missing.append("WSP: the images have no tags, so only the arms `random` and `mae` were run.")
    if source.name not in {other.name for other in sources}:
        missing.append(
            "Transfer on these images themselves: they have no labels (--labels FILE; folders count as classes only "
            "where there is no file of tags)."
        )
    everything = {other.name: other for other in (source, *sources)}
    return {
        "pretraining": source.name,
        "collections": {name: _describe_source(other) for name, other in everything.items()},
        "leakage_rule": (
            "Images of one family (variants of a drawing, exact copies) never stand on both sides of a split; test "
            "images are seen by no stage: not by MAE, WSP, the vocabulary, the mean and deviation, nor any sweep. "
            "Near duplicates of test images, found by perceptual hash and confirmed by their pixels, are taken out."
        ),
        "leakage": [asdict(test) for test in images.leakage.tests],
        "near_labels": [said for task in sources if (said := remark(task, task_near_labels(source, labels, task)))],
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


def stage_of(run: str, folder: Path) -> dict[str, Any]:
    """What a finished run cost, for a line of ``stages``."""
    result = files.read_json(folder / run / "result.json")
    cost = {key: result[key] for key in ("samples", "train_flops", "wall_seconds", "images_per_second")}
    return {"stage": result["stage"], **cost, "run": run}


def compare(first: Sequence[Sequence[Score]], second: Sequence[Sequence[Score]]) -> list[dict[str, Any]]:
    """The second arm minus the first on every task of transfer, and on their mean.

    Each holds the scores of one arm per seed, in the same order of seeds.
    """
    sides = [[tasks_of(scores) for scores in side] for side in (first, second)]
    summary = []
    for task in sides[0][0]:
        pair = [[found[task] for found in side] for side in sides]
        summary.append({"task": task, **summarise(*pair, seed=0)})
    mean = [[mean_of(found) for found in side] for side in sides]
    return [*summary, {"task": MEAN_TASK, **summarise(*mean, seed=0, stratum=_datasets(mean[0][0]))}]


def compare_by_dataset(first: Sequence[Sequence[Score]], second: Sequence[Sequence[Score]]) -> list[dict[str, Any]]:
    """The same on the mean over the tasks of each dataset alone: a mean over all may come from one of them."""
    sides = [[tasks_of(scores) for scores in side] for side in (first, second)]
    summary = []
    for dataset in dict.fromkeys(score.dataset for score in sides[0][0].values()):
        own = [
            [{name: one for name, one in found.items() if one.dataset == dataset} for found in side] for side in sides
        ]
        mean = [[mean_of(found) for found in side] for side in own]
        summary.append({"dataset": dataset, **summarise(*mean, seed=0)})
    return summary


def mean_over_tasks(scores: Sequence[Sequence[Score]]) -> dict[str, float]:
    """The mean over tasks of one arm, whose scores are given per seed, with its interval."""
    means = [mean_of(tasks_of(found)) for found in scores]
    return estimate(means, seed=0, stratum=_datasets(means[0]))._asdict()


def _datasets(mean: Score) -> tuple[str, ...]:
    """The dataset of each test image of a mean over tasks."""
    return tuple(name.partition("/")[0] for name in mean.image)


def tasks_of(scores: Sequence[Score]) -> dict[str, Score]:
    """The scores of transfer that are compared, by the name of their task; single low-shot splits are not."""
    return {
        f"{score.dataset} {f'{score.shots}-shot' if score.shots else score.protocol}": score
        for score in scores
        if score.split in ("test", "mean")
    }


def mean_of(tasks: dict[str, Score]) -> Score:
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
