"""Results that all studies share: origins of the images, costs of runs, and comparisons of two arms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypedDict

import numpy as np

from underpaint.data.near_duplicates.label_overlap import remark, task_near_labels
from underpaint.data.near_duplicates.removal import TestSet
from underpaint.data.source import SPLITS, Source
from underpaint.evals.score import Interval, Score, SetScore
from underpaint.evals.statistics import estimate, summarise
from underpaint.results.run import read_result
from underpaint.results.study import (
    COMPARED_SPLITS,
    MEAN_TASK,
    CollectionEntry,
    ContrastRow,
    DataEntry,
    LeakageEntry,
    StageCost,
    protocol_key,
)
from underpaint.studies.parts import read_output
from underpaint.studies.pretraining_images import StudyImages

NOT_MEASURED = (
    "Detection, segmentation, video and zero-shot transfer.",
    "Sizes, budgets and image sizes beyond the ones in this report: nothing here says how the gain scales.",
    "The published recipes at their published sizes.",
)


def describe(images: StudyImages, *, arms: Sequence[str], labels: Sequence[str]) -> DataEntry:
    """The ``data`` entry: what was trained and tested on, whose it is, what leaked, and what was not measured.

    ``labels`` are those of WSP: where they name the classes of a task, that task is near them, and it says so.
    """
    source, sources = images.source, images.tasks
    missing = lacking(images, arms=arms)
    collections = {task.name: task for task in (source, *sources)}
    return {
        "pretraining": source.name,
        "collections": {name: describe_source(collection) for name, collection in collections.items()},
        "leakage_rule": (
            "Images of one family (variants of a drawing, exact copies) are never on both sides of a split. No stage "
            "uses test images: neither MAE, WSP, the vocabulary, the mean and deviation, nor any sweep. "
            "Near duplicates of test images, found by perceptual hash and confirmed by their pixels, are left out."
        ),
        "leakage": [_leakage(test) for test in images.leakage.tests],
        "near_labels": [said for task in sources if (said := remark(task, task_near_labels(source, labels, task)))],
        "not_measured": [*missing, *NOT_MEASURED],
    }


def lacking(images: StudyImages, *, arms: Sequence[str]) -> list[str]:
    """Sentences on what a study cannot measure for want of tags or classes, with what to give."""
    missing: list[str] = []
    if "wsp" not in arms:
        missing.append(
            "WSP: the images have no tags, so only MAE alone and the untrained encoder are measured (--tags FILE; "
            "keywords inside images are read by `underpaint prepare`)."
        )
    if images.source.name not in {task.name for task in images.tasks}:
        missing.append(
            "Transfer on these images themselves: they have no labels (--labels FILE, or --labels folders for class "
            "folders beside a file of tags)."
        )
    return missing


def _leakage(test: TestSet) -> LeakageEntry:
    return {
        "name": test.name,
        "images": test.images,
        "duplicated": test.duplicated,
        "removed": test.removed,
        "unreadable_or_flat": test.unreadable_or_flat,
    }


def describe_source(source: Source) -> CollectionEntry:
    """The entry of a source among ``collections``."""
    return {
        "images": len(source.path),
        "splits": {split: len(source.rows(split)) for split in SPLITS},
        "families": len(set(source.family)),
        "tagged": sum(bool(tags) for tags in source.tags),
        "classes": len({source.label[row] for row in source.rows("train")} - {""}),
        "licence": source.licence,
        "attribution": source.attribution,
        "content_hash": source.content_hash,
        "problems": dict(Counter(problem.reason for problem in (*source.problems, *source.skipped))),
    }


def stage_of(run: str, folder: Path) -> StageCost:
    """Cost of a finished run, for a line of ``stages``."""
    result = read_result(folder / run)
    return {
        "stage": result["stage"],
        "samples": result["samples"],
        "train_flops": result["train_flops"],
        "wall_seconds": result["wall_seconds"],
        "images_per_second": result["images_per_second"],
        "run": run,
    }


def read_scores(names: Sequence[str], folder: Path) -> list[Score]:
    """The scores that these parts of a study put out."""
    return [Score.from_record(score) for name in names for score in read_output(name, folder)]


def read_both_scores(names: Sequence[str], folder: Path) -> tuple[list[Score], list[SetScore]]:
    """The scores that these parts put out: those that are means over images, and those of whole sets."""
    records = [record for name in names for record in read_output(name, folder)]
    return (
        [Score.from_record(record) for record in records if "correct" in record],
        [SetScore.from_record(record) for record in records if "correct" not in record],
    )


def compare(reference: Sequence[Sequence[Score]], tested: Sequence[Sequence[Score]]) -> list[ContrastRow]:
    """The tested arm minus the reference on every task of transfer, and on their mean.

    Each holds the scores of one arm per seed, in the same order of seeds. The contrast has no name yet.
    """
    sides = [[tasks_of(scores) for scores in side] for side in (reference, tested)]
    summary: list[ContrastRow] = []
    for task in sides[0][0]:
        pair = [[tasks[task] for tasks in side] for side in sides]
        summary.append({"contrast": "", "task": task, **summarise(*pair, seed=0)})
    mean = [[mean_of(tasks) for tasks in side] for side in sides]
    overall = summarise(*mean, seed=0, stratum=strata_of(mean[0][0]))
    return [*summary, {"contrast": "", "task": MEAN_TASK, **overall}]


def compare_by_dataset(reference: Sequence[Sequence[Score]], tested: Sequence[Sequence[Score]]) -> list[ContrastRow]:
    """The same on the mean over the tasks of each dataset alone: a mean over all may come from one of them."""
    sides = [[tasks_of(scores) for scores in side] for side in (reference, tested)]
    summary: list[ContrastRow] = []
    for dataset in dict.fromkeys(score.dataset for score in sides[0][0].values()):
        mean = [[mean_of(_tasks_on(dataset, tasks)) for tasks in side] for side in sides]
        summary.append({"contrast": "", "dataset": dataset, **summarise(*mean, seed=0)})
    return summary


def compare_by_protocol(reference: Sequence[Sequence[Score]], tested: Sequence[Sequence[Score]]) -> list[ContrastRow]:
    """The same on the mean over the tasks of each protocol alone, all shots together."""
    sides = [[tasks_of(scores) for scores in side] for side in (reference, tested)]
    summary: list[ContrastRow] = []
    for protocol in dict.fromkeys(score.protocol for score in sides[0][0].values()):
        mean = [[mean_of(tasks_by(protocol, tasks)) for tasks in side] for side in sides]
        lines = summarise(*mean, seed=0, stratum=strata_of(mean[0][0]))
        summary.append({"contrast": "", "protocol": protocol, **lines})
    return summary


def tasks_by(protocol: str, tasks: Mapping[str, Score]) -> dict[str, Score]:
    """The tasks of one protocol."""
    return {name: score for name, score in tasks.items() if score.protocol == protocol}


def _tasks_on(dataset: str, tasks: Mapping[str, Score]) -> dict[str, Score]:
    return {name: score for name, score in tasks.items() if score.dataset == dataset}


class MeanOverTasks(TypedDict):
    """The entry of an arm among ``arm_means`` without its name."""

    mean: float
    low: float
    high: float


def mean_over_tasks(scores: Sequence[Sequence[Score]]) -> MeanOverTasks:
    """The mean over tasks of one arm, whose scores are given per seed, with its interval."""
    interval = estimate_mean([tasks_of(of_seed) for of_seed in scores])
    return {"mean": interval.mean, "low": interval.low, "high": interval.high}


def estimate_mean(tasks: Sequence[Mapping[str, Score]]) -> Interval:
    """The mean over tasks with its interval; ``tasks`` are those of each seed."""
    means = [mean_of(of_seed) for of_seed in tasks]
    right = mean_of({name: replace(task, correct=(1.0,) * len(task.correct)) for name, task in tasks[0].items()})
    return estimate(means, seed=0, stratum=strata_of(means[0]), most=right.correct)


def strata_of(mean: Score) -> tuple[str, ...]:
    """The dataset of each test image of a mean over tasks."""
    return tuple(name.partition("/")[0] for name in mean.image)


def tasks_of(scores: Sequence[Score]) -> dict[str, Score]:
    """The scores of transfer that are compared, by the name of their task; single low-shot splits are not."""
    return {task_of(score): score for score in scores if score.split in COMPARED_SPLITS}


def task_of(score: Score | SetScore) -> str:
    """The name of the task that a score is of, such as ``digits 5-shot vpt`` or ``coco detection_mask``."""
    if isinstance(score, SetScore):
        return f"{score.dataset} {overlap_key(score)}"
    names = (score.dataset, protocol_key(score.protocol, score.shots), score.language)
    return " ".join(name for name in names if name)


def overlap_key(score: SetScore) -> str:
    """Protocol of an average precision with its kind of overlap: ``detection`` for boxes, ``detection_mask``."""
    return score.protocol if score.split == "box" else f"{score.protocol}_{score.split}"


def mean_of(tasks: Mapping[str, Score]) -> Score:
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
