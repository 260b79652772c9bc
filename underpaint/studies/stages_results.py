"""The finished parts of the study ``stages`` as ``results.json``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from underpaint.evals.score import Score
from underpaint.evals.statistics import summarise
from underpaint.results.study import BaselineEntry, ContrastRow, DataEntry, ScoreRow, StageRow, StudyResults
from underpaint.results.study_file import FORMAT
from underpaint.run import record
from underpaint.studies.baselines import part_of
from underpaint.studies.designs import Arm, Contrast, arm_entries, imported_arm
from underpaint.studies.parts import are_there, read_output
from underpaint.studies.remarks import Remarks
from underpaint.studies.results import (
    compare,
    compare_by_dataset,
    compare_by_protocol,
    mean_over_tasks,
    read_scores,
    stage_of,
    tasks_of,
)

CONTRASTS = (
    Contrast(tested="mae_wsp", reference="wsp", equal="steps"),  # paper.md C1
    Contrast(tested="mae_wsp", reference="wsp_equal_compute", equal="compute"),  # C2
    Contrast(tested="mae_wsp", reference="wsp_equal_time", equal="time"),
    Contrast(tested="mae_wsp", reference="mae"),
    Contrast(tested="wsp", reference="mae"),
    Contrast(tested="mae", reference="random"),
    Contrast(tested="wsp", reference="random"),
    Contrast(tested="mae_wsp", reference="random"),
    Contrast(tested="mae_wsp_half", reference="wsp"),  # convergence: as good after half the steps (C3)
    Contrast(tested="mae_tenth_wsp", reference="wsp", equal="steps"),  # a little of MAE (C4)
    Contrast(tested="mae_wsp", reference="mae_tenth_wsp", equal="steps"),
    Contrast(tested="mae_wsp_low_rate", reference="mae_wsp", equal="compute"),
    Contrast(tested="mae_wsp_layer_decay", reference="mae_wsp", equal="compute"),
    Contrast(tested="mae_wsp_low_rate", reference="mae"),
    Contrast(tested="mae_wsp_layer_decay", reference="mae"),
)
"""Differences that are reported."""
TRAINED = ("mae_wsp", "wsp", "mae")
"""Arms that are compared with each baseline; the first of them that was run is the one that the report asks about."""

Scores = Mapping[str, Mapping[int, Sequence[Score]]]
"""Scores by arm and seed; an arm has the seeds that it was measured with."""
Line = TypeVar("Line", bound=Mapping[str, object])


def collect(
    folder: Path, *, arms: Sequence[Arm], seeds: Sequence[int], datasets: Sequence[str], data: DataEntry
) -> StudyResults:
    """The content of ``results.json`` from the outputs of all parts.

    A baseline that was measured with some of the seeds is compared over those alone.
    """
    scores = {arm.name: _scores_by_seed(folder, arm, datasets, seeds) for arm in arms}
    rows: list[ScoreRow] = [
        {"arm": arm, "seed": seed, **score.row()}
        for arm, by_seed in scores.items()
        for seed, of_seed in by_seed.items()
        for score in of_seed
    ]
    remarks = Remarks()
    for arm, by_seed in scores.items():
        for of_seed in by_seed.values():
            remarks.add(arm, of_seed)
    contrasts = _contrasts(arms)
    return {
        "format": FORMAT,
        "study": "stages",
        "page": "arms",
        "arms": arm_entries(arms),
        "contrasts": [contrast.entry() for contrast in contrasts],
        "rows": rows,
        "stages": [stage for arm in arms for seed in seeds for stage in _stages(folder, arm, seed)],
        "baselines": [_baseline(folder, arm) for arm in arms if arm.role == "baseline"],
        "arm_means": [
            {"arm": arm, **mean_over_tasks(list(by_seed.values()))}
            for arm, by_seed in scores.items()
            if all(map(tasks_of, by_seed.values()))
        ],
        "summary": _summary(scores, compare, contrasts),
        "dataset_summary": _summary(scores, compare_by_dataset, contrasts),
        "tag_summary": _summary(scores, _compare_tags, contrasts),
        "protocol_summary": _summary(scores, compare_by_protocol, contrasts),
        "data": {**data, "remarks": remarks.lines()},
        "environment": record.environment(),
    }


def score_outputs(arm: Arm, datasets: Sequence[str], seed: int) -> list[str]:
    """The parts whose outputs are the scores of an arm."""
    names = [f"{kind}-{arm.name}-{dataset}-seed{seed}" for dataset in datasets for kind in ("transfer", "accuracy")]
    return [*names, f"tags-{arm.name}-seed{seed}"] if arm.stage == "wsp" else names


def _scores_by_seed(folder: Path, arm: Arm, datasets: Sequence[str], seeds: Sequence[int]) -> dict[int, list[Score]]:
    names = {seed: score_outputs(arm, datasets, seed) for seed in seeds}
    if arm.role == "baseline":
        names = {seed: parts for seed, parts in names.items() if are_there(parts, folder)}
    return {seed: read_scores(parts, folder) for seed, parts in names.items()}


def _baseline(folder: Path, arm: Arm) -> BaselineEntry:
    return read_output(part_of(arm.name), folder)


def _stages(folder: Path, arm: Arm, seed: int) -> list[StageRow]:
    """The pretraining runs of an arm; the cost of an arm that continues another is the sum of both."""
    if arm.stage in ("none", "baseline"):
        return []
    runs = [name for name in (arm.start, arm.name) if name]
    return [{"arm": arm.name, "seed": seed, **stage_of(f"{name}-seed{seed}", folder)} for name in runs]


def _summary(
    scores: Scores,
    compared: Callable[[Sequence[Sequence[Score]], Sequence[Sequence[Score]]], list[ContrastRow]],
    contrasts: Sequence[Contrast],
) -> list[ContrastRow]:
    """Every contrast, as one of the comparisons has it, over the seeds that both arms have."""
    summary: list[ContrastRow] = []
    for contrast in contrasts:
        reference, tested = scores[contrast.reference], scores[contrast.tested]
        seeds = [seed for seed in reference if seed in tested]
        lines = compared([reference[seed] for seed in seeds], [tested[seed] for seed in seeds])
        summary.extend({**line, "contrast": contrast.name} for line in lines)
    return summary


def _compare_tags(reference: Sequence[Sequence[Score]], tested: Sequence[Sequence[Score]]) -> list[ContrastRow]:
    """Arms that learned tags, on the tags of held-out images, by their frequency; no task of transfer."""
    sides = [[_tags(scores) for scores in side] for side in (reference, tested)]
    lines: list[ContrastRow] = []
    for bin in [bin for bin in sides[0][0] if bin in sides[1][0]]:
        pair = [[by_bin[bin] for by_bin in side] for side in sides]
        lines.append({"contrast": "", "bin": bin, **summarise(*pair, seed=0)})
    return lines


def _contrasts(arms: Sequence[Arm]) -> list[Contrast]:
    """The contrasts whose arms were run, and what was trained on these images against every baseline."""
    names = {arm.name for arm in arms}
    run = [contrast for contrast in CONTRASTS if {contrast.tested, contrast.reference} <= names]
    baselines = [arm.name for arm in arms if arm.role == "baseline"]
    trained = [name for name in TRAINED if name in names]
    return [*run, *(Contrast(tested=name, reference=baseline) for baseline in baselines for name in trained)]


def _tags(scores: Sequence[Score]) -> dict[str, Score]:
    return {score.split: score for score in scores if score.protocol == "tags"}


def kept_baselines(folder: Path, *, arms: Sequence[Arm], datasets: Sequence[str], seeds: Sequence[int]) -> list[Arm]:
    """Baselines that an earlier run of the study measured and this one leaves out."""
    start = part_of("")
    names = (path.stem.removeprefix(start) for path in sorted((folder / "evals").glob(f"{start}*.json")))
    kept = [imported_arm(name) for name in names if name not in {arm.name for arm in arms}]
    return [arm for arm in kept if any(are_there(score_outputs(arm, datasets, seed), folder) for seed in seeds)]
