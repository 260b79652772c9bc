"""The finished parts of the study ``ablations`` as ``results.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict

from underpaint.evals.score import Score
from underpaint.results.study import (
    COMPARED_SPLITS,
    ContrastRow,
    DataEntry,
    ScoreEntry,
    ScoreRow,
    StageRow,
    StudyResults,
)
from underpaint.results.study_file import FORMAT
from underpaint.run import record
from underpaint.studies.ablations_designs import Axis
from underpaint.studies.designs import EQUAL_COMPUTE, MAE, MAE_WSP, WSP, Contrast, arm_entries
from underpaint.studies.pretraining_images import StudyImages
from underpaint.studies.remarks import Remarks
from underpaint.studies.results import compare, describe, read_scores, stage_of

ARMS = (MAE, MAE_WSP, WSP, EQUAL_COMPUTE)

CONTRASTS = (
    Contrast(tested="mae_wsp", reference="wsp_equal_compute", equal="compute"),  # paper.md C2
    Contrast(tested="mae_wsp", reference="wsp", equal="steps"),  # C1
    Contrast(tested="mae_wsp", reference="mae"),
)
"""Differences that are reported."""

NOT_MEASURED = (
    "Finetuning: the arms are measured on frozen features only.",
    "Two changes at a time: every axis starts at the same base point, and says nothing about other points.",
    "Recipes tuned for each value: rates and budgets are those of the base point everywhere.",
    "Another sample of the images: a smaller share is the same for every seed, and part of every larger share.",
)


class Place(TypedDict):
    """Place of a line of results: its axis and value."""

    axis: str
    at: str  # ``value`` is the name of a score already
    x: float


@dataclass(frozen=True, kw_only=True)
class Point:
    """A value of an axis, and which run stands for each arm there."""

    axis: str
    value: str
    x: float
    runs: Mapping[str, str]  # by arm; two arms may have one

    @property
    def place(self) -> Place:
        return {"axis": self.axis, "at": self.value, "x": self.x}

    @property
    def contrasts(self) -> list[Contrast]:
        """Those between different runs."""
        there = [contrast for contrast in CONTRASTS if {contrast.tested, contrast.reference} <= self.runs.keys()]
        return [contrast for contrast in there if self.runs[contrast.tested] != self.runs[contrast.reference]]


def describe_points(
    images: StudyImages, *, labels: Sequence[str], axes: Sequence[Axis], left_out: Sequence[str]
) -> DataEntry:
    """The ``data`` entry: that of every study, the axes in words, and the values that could not be run."""
    data = describe(images, arms=[arm.name for arm in ARMS], labels=labels)
    missing = [f"{reason}." for reason in left_out]
    return {
        **data,
        "not_measured": [*missing, *NOT_MEASURED, *data["not_measured"]],
        "axes": [
            {"axis": axis.name, "title": axis.title, "label": axis.label, "note": axis.note, "base": axis.base.name}
            for axis in axes
        ],
    }


def transfer_name(run: str, dataset: str, seed: int) -> str:
    return f"transfer-{run}-{dataset}-seed{seed}"


def collect(
    folder: Path, *, points: Sequence[Point], seeds: Sequence[int], datasets: Sequence[str], data: DataEntry
) -> StudyResults:
    """The content of ``results.json`` from the outputs of all parts; the base point stands on every axis."""
    runs = dict.fromkeys(run for point in points for run in point.runs.values())
    outputs = _Outputs(folder, runs=tuple(runs), seeds=seeds, datasets=datasets)
    rows: list[ScoreRow] = []
    stages: list[StageRow] = []
    summary: list[ContrastRow] = []
    for point in points:
        for arm, run in point.runs.items():
            for seed in seeds:
                rows.extend({**point.place, "arm": arm, "seed": seed, **row} for row in outputs.rows[run, seed])
        stages.extend({**line, **point.place} for line in _stages(folder, point, seeds))
        for contrast in point.contrasts:
            compared = outputs.compare(point.runs[contrast.reference], point.runs[contrast.tested])
            summary.extend({**line, **point.place, "contrast": contrast.name} for line in compared)
    return {
        "format": FORMAT,
        "study": "ablations",
        "page": "axes",
        "arms": arm_entries(ARMS),
        "contrasts": [contrast.entry() for contrast in CONTRASTS],
        "rows": rows,
        "stages": stages,
        "baselines": [],
        "arm_means": [],
        "summary": summary,
        "dataset_summary": [],
        "tag_summary": [],
        "data": {**data, "remarks": outputs.remarks.lines()},
        "environment": record.environment(),
    }


class _Outputs:
    """The scores of all runs. Those of single low-shot splits are kept as rows alone, and lists of test images once:
    a study has hundreds of outputs with the same thousand names.
    """

    def __init__(self, folder: Path, *, runs: Sequence[str], seeds: Sequence[int], datasets: Sequence[str]) -> None:
        self.seeds = seeds
        self.rows: dict[tuple[str, int], list[ScoreEntry]] = {}
        self.remarks = Remarks()
        self._scores: dict[tuple[str, int], list[Score]] = {}
        self._compared: dict[tuple[str, str], list[ContrastRow]] = {}
        self._names: dict[tuple[str, ...], tuple[str, ...]] = {}
        for run in runs:
            for seed in seeds:
                names = [transfer_name(run, dataset, seed) for dataset in datasets]
                scores = read_scores(names, folder)
                self.rows[run, seed] = [score.row() for score in scores]
                self.remarks.add(run, scores)
                self._scores[run, seed] = [self._lean(score) for score in scores if score.split in COMPARED_SPLITS]

    def _lean(self, score: Score) -> Score:
        image, family = (self._names.setdefault(names, names) for names in (score.image, score.family))
        return replace(score, image=image, family=family)

    def compare(self, reference: str, tested: str) -> list[ContrastRow]:
        """The tested run minus the reference, on every task and their mean."""
        if (reference, tested) not in self._compared:
            sides = [[self._scores[run, seed] for seed in self.seeds] for run in (reference, tested)]
            self._compared[reference, tested] = compare(*sides)
        return self._compared[reference, tested]


def _stages(folder: Path, point: Point, seeds: Sequence[int]) -> list[StageRow]:
    """The runs of each arm; the cost of an arm that continues another is the sum of both."""
    lines: list[StageRow] = []
    for arm, run in point.runs.items():
        before = point.runs.get("mae", "") if arm == "mae_wsp" else ""
        for seed in seeds:
            for name in dict.fromkeys(filter(None, (before, run))):
                lines.append({"arm": arm, "seed": seed, **stage_of(f"{name}-seed{seed}", folder)})
    return lines
