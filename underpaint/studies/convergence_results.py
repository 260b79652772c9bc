"""The finished parts of the study ``convergence`` as ``results.json``: the grid, frontiers, and the worth of MAE."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from underpaint.evals.score import Score
from underpaint.evals.statistics import summarise
from underpaint.results.study import (
    ArmMean,
    BoundedEntry,
    ContrastRow,
    ConvergenceEntry,
    DataEntry,
    EndEntry,
    FrontierEntry,
    ScoreRow,
    StageRow,
    StudyResults,
    WorthEntry,
)
from underpaint.results.study_file import FORMAT
from underpaint.run import record
from underpaint.studies.convergence_designs import ConvergenceDesign, End, arm_name, budget_of
from underpaint.studies.designs import Contrast, arm_entries
from underpaint.studies.pretraining_images import Recipe, StudyImages
from underpaint.studies.remarks import Remarks
from underpaint.studies.results import compare, describe, mean_of, mean_over_tasks, read_scores, stage_of, tasks_of
from underpaint.studies.worth import worth_of

WINDOW = 10.0
"""The frontiers are compared over a range of training FLOPs whose ends differ by this factor, where both reach."""
FRONTIER_POINTS = 7

RULES = (
    "The worth of MAE before WSP is the number of samples of WSP alone that reach the same mean over tasks, less those "
    "of the WSP that follows the MAE. Scores of WSP alone are made non-decreasing in its length (isotonic fit) and "
    "joined by lines over the logarithm of the length; the shortest length that reaches the score counts.",
    "Nothing is extrapolated. If the score lies above that of the longest WSP alone, the worth is only known to be "
    "more than the difference to it; below that of the shortest, to be less. The same holds for both ends of the "
    "interval.",
    "The interval is the middle 95% of draws of other test images (families drawn whole, within their dataset) and, "
    "with several seeds, of other seeds (Student's noise with the covariance of the ends over seeds).",
    "A frontier is read at the same training FLOPs for both, on lines over their logarithm. With MAE it is the budget "
    "of MAE that was best there on the other seeds, so that the choice does not favour it; with one seed it is chosen "
    "on the scores that are compared, which favours it.",
)

ScoresOfSeed = Mapping[str, Score]
"""The mean over tasks of one seed, by arm."""


def part_name(arm: str, seed: int) -> str:
    return f"{arm}-seed{seed}"


def describe_grid(images: StudyImages, design: ConvergenceDesign, *, labels: Sequence[str]) -> DataEntry:
    """The ``data`` entry: that of every study, and what the grid leaves out."""
    data = describe(images, arms=["wsp"], labels=labels)
    missing = [
        "Recipes tuned for each length: rates and warm-up are those of the recipe at every length.",
        "Order and choice of images: the images are the same for all lengths, longer runs see them more often.",
    ]
    if not design.is_finetuned:
        missing.append("Finetuning: the ends are measured on frozen features only.")
    return {**data, "not_measured": [*missing, *data["not_measured"]]}


def score_outputs(arm: str, datasets: Sequence[str], seed: int, *, is_finetuned: bool) -> list[str]:
    """The parts whose outputs are the scores of an arm."""
    kinds = ("transfer", "accuracy") if is_finetuned else ("transfer",)
    return [f"{kind}-{arm}-{dataset}-seed{seed}" for dataset in datasets for kind in kinds]


def collect(
    folder: Path,
    *,
    ends: Sequence[End],
    seeds: Sequence[int],
    datasets: Sequence[str],
    is_finetuned: bool,
    budgets: tuple[Recipe, Recipe],
    data: DataEntry,
) -> StudyResults:
    """The content of ``results.json`` from the outputs of all parts; ``budgets`` are one of MAE and one of WSP."""
    arms, remarks = [end.arm for end in ends], Remarks()
    scores: dict[str, list[list[Score]]] = {}
    for arm in arms:
        names = (score_outputs(arm.name, datasets, seed, is_finetuned=is_finetuned) for seed in seeds)
        scores[arm.name] = [read_scores(of_seed, folder) for of_seed in names]
        for of_seed in scores[arm.name]:
            remarks.add(arm.name, of_seed)
    rows: list[ScoreRow] = [
        {"arm": arm, "seed": seed, **score.row()}
        for arm, by_seed in scores.items()
        for seed, of_seed in zip(seeds, by_seed, strict=True)
        for score in of_seed
    ]
    means: list[ArmMean] = [{"arm": arm, **mean_over_tasks(by_seed)} for arm, by_seed in scores.items()]
    contrasts = contrasts_of(ends)
    summary: list[ContrastRow] = []
    for contrast in contrasts:
        lines = compare(scores[contrast.reference], scores[contrast.tested])
        summary.extend({**line, "contrast": contrast.name} for line in lines)
    by_seed = [
        {arm: mean_of(tasks_of(of_arm[number])) for arm, of_arm in scores.items()} for number in range(len(seeds))
    ]
    return {
        "format": FORMAT,
        "study": "convergence",
        "page": "grid",
        "arms": arm_entries(arms),
        "contrasts": [contrast.entry() for contrast in contrasts],
        "rows": rows,
        "stages": [line for end in ends for seed in seeds for line in _stages(folder, end, seed)],
        "baselines": [],
        "arm_means": means,
        "summary": summary,
        "dataset_summary": [],
        "tag_summary": [],
        "data": {**data, "remarks": remarks.lines()},
        "environment": record.environment(),
        "convergence": converge(ends, by_seed, budgets=budgets),
    }


def contrasts_of(ends: Sequence[End]) -> list[Contrast]:
    """Differences that are reported, as far as their arms are in the grid."""
    after_mae = [end for end in ends if end.mae and end.wsp]
    contrasts = [  # paper.md C1 and C5: at equal steps, at every length
        Contrast(tested=end.arm.name, reference=arm_name(0, end.wsp), equal="steps") for end in after_mae
    ]
    lengths = sorted({end.mae for end in after_mae})
    contrasts += [  # C4: a little of MAE, and more of it
        Contrast(tested=arm_name(more, 1), reference=arm_name(less, 1), equal="steps")
        for less, more in pairwise(lengths)
    ]
    shorter = [end for end in after_mae if end.mae == 1 and end.wsp < 1]
    contrasts += [Contrast(tested=end.arm.name, reference=arm_name(0, 1)) for end in shorter]  # C3: as good sooner
    return [*contrasts, *_against(ends)]


def _against(ends: Sequence[End]) -> list[Contrast]:
    """Contrasts with the untrained encoder and with MAE alone, at one budget."""
    pairs = (((1, 1), (1, 0)), ((0, 1), (1, 0)), ((1, 0), (0, 0)), ((0, 1), (0, 0)))
    there = {end.arm.name for end in ends}
    named = [(arm_name(*tested), arm_name(*reference)) for tested, reference in pairs]
    return [Contrast(tested=a, reference=b) for a, b in named if {a, b} <= there]


def _stages(folder: Path, end: End, seed: int) -> list[StageRow]:
    """The pretraining runs of an arm; the cost of an arm that continues another is the sum of both."""
    runs = [name for name in (end.arm.start, end.arm.name) if name and end.arm.stage != "none"]
    return [{"arm": end.arm.name, "seed": seed, **stage_of(part_name(name, seed), folder)} for name in runs]


@dataclass(frozen=True, kw_only=True)
class _Costs:
    """Samples and training FLOPs of the ends."""

    mae: Recipe
    wsp: Recipe

    def entry(self, end: End) -> EndEntry:
        mae, wsp = (_samples(recipe, share) for recipe, share in ((self.mae, end.mae), (self.wsp, end.wsp)))
        flops = mae * _per_sample(self.mae) + wsp * _per_sample(self.wsp)
        return {
            "arm": end.arm.name,
            "mae": end.mae,
            "wsp": end.wsp,
            "mae_samples": mae,
            "wsp_samples": wsp,
            "train_flops": float(flops),
        }


def _samples(recipe: Recipe, share: float) -> int:
    return budget_of(recipe.run, share).samples if share else 0


def _per_sample(recipe: Recipe) -> int:
    return recipe.run.objective.flops_per_sample(recipe.data_info)


def converge(
    ends: Sequence[End], scores: Sequence[ScoresOfSeed], *, budgets: tuple[Recipe, Recipe]
) -> ConvergenceEntry:
    """The grid, what each MAE is worth, and the frontiers, from the means over tasks of each seed."""
    costs = _Costs(mae=budgets[0], wsp=budgets[1])
    entries = [costs.entry(end) for end in ends]
    asked = next(end.arm.name for end in ends if end.is_asked)
    mae_cost = _per_sample(costs.mae) / _per_sample(costs.wsp)
    return {
        "mae_samples": _samples(costs.mae, 1),
        "wsp_samples": _samples(costs.wsp, 1),
        "ends": entries,
        "asked": asked,
        "worths": [
            _worth(entry, entries, scores, cost=mae_cost * entry["mae_samples"])
            for entry in entries
            if entry["mae"] and entry["wsp"]
        ],
        "frontier": frontier(entries, scores),
        "rules": list(RULES),
    }


def _worth(entry: EndEntry, entries: Sequence[EndEntry], scores: Sequence[ScoresOfSeed], *, cost: float) -> WorthEntry:
    """Worth of the MAE of one end, in samples of WSP."""
    ladder = _alone(entries)
    worth = worth_of(
        [of_seed[entry["arm"]] for of_seed in scores],
        [[of_seed[rung["arm"]] for of_seed in scores] for rung in ladder],
        [rung["wsp_samples"] for rung in ladder],
        seed=0,
    )

    def beyond_own(bound: BoundedEntry) -> BoundedEntry:
        return {"value": bound["value"] - entry["wsp_samples"], "side": bound["side"]}

    return {
        "arm": entry["arm"],
        "equals": worth.length,
        "worth": beyond_own(worth.length),
        "low": beyond_own(worth.low),
        "high": beyond_own(worth.high),
        "cost": cost,
        "n_seeds": len(scores),
    }


def _alone(entries: Sequence[EndEntry]) -> list[EndEntry]:
    """WSP alone, by its length."""
    return sorted((e for e in entries if e["wsp"] and not e["mae"]), key=lambda entry: entry["wsp"])


def frontier(entries: Sequence[EndEntry], scores: Sequence[ScoresOfSeed]) -> list[FrontierEntry]:
    """The best score with and without MAE, at numbers of training FLOPs that both reach; [] where there are none."""
    alone = _alone(entries)
    budgets = sorted({entry["mae"] for entry in entries if entry["mae"] and entry["wsp"]})
    ladders = {
        mae: sorted((e for e in entries if e["mae"] == mae and e["wsp"]), key=lambda entry: entry["wsp"])
        for mae in budgets
    }
    first = max(alone[0]["train_flops"], min(ladder[0]["train_flops"] for ladder in ladders.values()))
    last = min(alone[-1]["train_flops"], max(ladder[-1]["train_flops"] for ladder in ladders.values()), WINDOW * first)
    if last <= first:
        return []
    steps = range(FRONTIER_POINTS)
    return [_at(first * (last / first) ** (step / (FRONTIER_POINTS - 1)), alone, ladders, scores) for step in steps]


def _at(
    flops: float,
    alone: Sequence[EndEntry],
    ladders: Mapping[float, Sequence[EndEntry]],
    scores: Sequence[ScoresOfSeed],
) -> FrontierEntry:
    reached = {mae: ladder for mae, ladder in ladders.items() if _spans(ladder, flops)}
    with_mae = {mae: [between(ladder, flops, of_seed) for of_seed in scores] for mae, ladder in reached.items()}
    chosen: list[float] = []
    for number in range(len(scores)):
        judges = [seed for seed in range(len(scores)) if seed != number] or [number]
        best = max(with_mae, key=lambda mae: statistics.fmean(with_mae[mae][seed].value for seed in judges))
        chosen.append(best)
    tested = [with_mae[mae][number] for number, mae in enumerate(chosen)]
    reference = [between(alone, flops, of_seed) for of_seed in scores]
    datasets = [name.partition("/")[0] for name in tested[0].image]
    return {
        "train_flops": flops,
        "wsp": statistics.fmean(score.value for score in reference),
        "mae_wsp": statistics.fmean(score.value for score in tested),
        "mae": chosen,
        "difference": summarise(reference, tested, seed=0, stratum=datasets),
    }


def _spans(ladder: Sequence[EndEntry], flops: float) -> bool:
    tolerance = 1e-9 * flops
    return ladder[0]["train_flops"] - tolerance <= flops <= ladder[-1]["train_flops"] + tolerance


def between(ladder: Sequence[EndEntry], flops: float, scores: ScoresOfSeed) -> Score:
    """The score of a ladder at a number of FLOPs within it, image by image, on lines over their logarithm."""
    if len(ladder) == 1:
        return scores[ladder[0]["arm"]]
    upper = next((n for n, rung in enumerate(ladder) if n and rung["train_flops"] >= flops), len(ladder) - 1)
    low, high = ladder[upper - 1], ladder[upper]
    share = math.log(flops / low["train_flops"]) / math.log(high["train_flops"] / low["train_flops"])
    share = min(1.0, max(0.0, share))
    pairs = zip(scores[low["arm"]].correct, scores[high["arm"]].correct, strict=True)
    return replace(scores[low["arm"]], correct=tuple((1 - share) * a + share * b for a, b in pairs))
