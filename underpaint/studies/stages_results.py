"""The finished parts of the study ``stages`` as ``results.json``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from underpaint.evals.score import Score
from underpaint.evals.statistics import summarise
from underpaint.run import record
from underpaint.studies.baselines import part_of
from underpaint.studies.designs import Arm
from underpaint.studies.parts import read_output
from underpaint.studies.results import FORMAT, compare, compare_by_dataset, mean_over_tasks, stage_of, tasks_of

CONTRASTS = (
    ("wsp", "mae_wsp"),  # equal WSP steps (paper.md C1)
    ("wsp_equal_compute", "mae_wsp"),  # equal compute (C2)
    ("wsp_equal_time", "mae_wsp"),
    ("mae", "mae_wsp"),
    ("mae", "wsp"),
    ("random", "mae"),
    ("random", "wsp"),
    ("wsp", "mae_wsp_half"),  # convergence: as good after half the steps (C3)
    ("wsp", "mae_tenth_wsp"),  # a little of MAE (C4)
    ("mae_tenth_wsp", "mae_wsp"),
    ("mae_wsp", "mae_wsp_low_rate"),
    ("mae_wsp", "mae_wsp_layer_decay"),
    ("mae", "mae_wsp_low_rate"),
    ("mae", "mae_wsp_layer_decay"),
)
"""Differences that are reported: the second arm minus the first."""
TRAINED = ("mae_wsp", "wsp", "mae")
"""Arms that are compared with each baseline; the first of them that was run is the one that the report asks about."""


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
        "baselines": [read_output(part_of(arm.name), folder) for arm in arms if arm.stage == "baseline"],
        "arms": [
            {"arm": arm.name, **mean_over_tasks([scores[arm.name, seed] for seed in seeds])}
            for arm in arms
            if tasks_of(scores[arm.name, seeds[0]])
        ],
        "summary": _summary(scores, compare, contrasts=_contrasts(arms), seeds=seeds),
        "dataset_summary": _summary(scores, compare_by_dataset, contrasts=_contrasts(arms), seeds=seeds),
        "tag_summary": _tag_summary(scores, contrasts=_contrasts(arms), seeds=seeds),
        "data": {**data, "remarks": remarks},
        "environment": record.environment(),
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
        if not name or arm.stage in ("none", "baseline"):
            continue
        found.append({"arm": arm.name, "seed": seed, **stage_of(f"{name}-seed{seed}", folder)})
    return found


def _summary(
    scores: dict[tuple[str, int], list[Score]],
    compared: Callable[..., list[dict[str, Any]]],
    *,
    contrasts: Sequence[tuple[str, str]],
    seeds: Sequence[int],
) -> list[dict[str, Any]]:
    """Every contrast, as one of the comparisons has it."""
    summary = []
    for first, second in contrasts:
        sides = [[scores[arm, seed] for seed in seeds] for arm in (first, second)]
        summary += [{"contrast": _name(first, second), **line} for line in compared(*sides)]
    return summary


def _tag_summary(
    scores: dict[tuple[str, int], list[Score]], *, contrasts: Sequence[tuple[str, str]], seeds: Sequence[int]
) -> list[dict[str, Any]]:
    """The contrasts of arms that learned tags, on the tags of held-out images; no task of transfer."""
    summary = []
    for first, second in contrasts:
        sides = [[_tags(scores[arm, seed]) for seed in seeds] for arm in (first, second)]
        for bin in [bin for bin in sides[0][0] if bin in sides[1][0]]:
            pair = [[found[bin] for found in side] for side in sides]
            summary.append({"contrast": _name(first, second), "bin": bin, **summarise(*pair, seed=0)})
    return summary


def _contrasts(arms: Sequence[Arm]) -> list[tuple[str, str]]:
    """The contrasts whose arms were run, and what was trained on these images against every baseline."""
    names = {arm.name for arm in arms}
    against = [
        (arm.name, trained) for arm in arms if arm.stage == "baseline" for trained in TRAINED if trained in names
    ]
    return [*(pair for pair in CONTRASTS if set(pair) <= names), *against]


def _name(first: str, second: str) -> str:
    return f"{second} - {first}"


def _tags(scores: Sequence[Score]) -> dict[str, Score]:
    return {score.split: score for score in scores if score.protocol == "tags"}
