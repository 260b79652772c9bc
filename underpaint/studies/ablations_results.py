"""The finished parts of the study ``pays`` as ``results.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from underpaint.evals.score import Score
from underpaint.run import record
from underpaint.studies.ablations_designs import Axis
from underpaint.studies.parts import read_output
from underpaint.studies.pretraining_images import StudyImages
from underpaint.studies.results import FORMAT, compare, describe, stage_of

ARMS = ("mae", "mae_wsp", "wsp", "wsp_equal_compute")

CONTRASTS = (
    ("wsp_equal_compute", "mae_wsp"),  # equal compute (paper.md C2)
    ("wsp", "mae_wsp"),  # equal WSP steps (C1)
    ("mae", "mae_wsp"),
)
"""Differences that are reported: the second arm minus the first."""

NOT_MEASURED = (
    "Finetuning: the arms are measured on frozen features alone.",
    "Two changes at a time: every axis leaves the same base point, and says nothing about another one.",
    "Recipes tuned for a value: rates and budgets are those of the base point everywhere.",
    "Another draw of the images: a share of them is the same for every seed, and lies within the larger ones.",
)


@dataclass(frozen=True, kw_only=True)
class Point:
    """A value of an axis, and which run stands for each arm there."""

    axis: str
    value: str
    x: float
    runs: Mapping[str, str]  # by arm; two arms may have one

    @property
    def place(self) -> dict[str, Any]:
        """Where a line of results belongs; ``value`` is the name of a score already."""
        return {"axis": self.axis, "at": self.value, "x": self.x}

    @property
    def contrasts(self) -> list[tuple[str, str, str]]:
        """Name, first and second arm of the contrasts between different runs."""
        return [
            (f"{second} - {first}", first, second)
            for first, second in CONTRASTS
            if {first, second} <= self.runs.keys() and self.runs[first] != self.runs[second]
        ]


def describe_points(
    images: StudyImages, *, labels: Sequence[str], axes: Sequence[Axis], left_out: Sequence[str]
) -> dict[str, Any]:
    """The ``data`` entry: that of every study, the axes in words, and the values that could not be run."""
    data = describe(images, arms=ARMS, labels=labels)
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
    folder: Path, *, points: Sequence[Point], seeds: Sequence[int], datasets: Sequence[str], data: dict[str, Any]
) -> dict[str, Any]:
    """The content of ``results.json`` from the outputs of all parts; the base point stands on every axis."""
    runs = dict.fromkeys(run for point in points for run in point.runs.values())
    found = _Found(folder, runs=tuple(runs), seeds=seeds, datasets=datasets)
    rows, stages, summary = [], [], []
    for point in points:
        for arm, run in point.runs.items():
            for seed in seeds:
                rows += [{**point.place, "arm": arm, "seed": seed, **row} for row in found.rows[run, seed]]
        stages += [{**point.place, **line} for line in _stages(folder, point, seeds)]
        for contrast, first, second in point.contrasts:
            compared = found.compare(point.runs[first], point.runs[second])
            summary += [{**point.place, "contrast": contrast, **line} for line in compared]
    return {
        "format": FORMAT,
        "study": "pays",
        "rows": rows,
        "stages": stages,
        "summary": summary,
        "data": {**data, "remarks": sorted(found.remarks)},
        "environment": record.environment(),
    }


class _Found:
    """The scores of all runs. Those of single low-shot splits are kept as rows alone, and lists of test images once:
    a study has hundreds of outputs with the same thousand names.
    """

    def __init__(self, folder: Path, *, runs: Sequence[str], seeds: Sequence[int], datasets: Sequence[str]) -> None:
        self.seeds = seeds
        self.rows: dict[tuple[str, int], list[dict[str, Any]]] = {}
        self.remarks: set[str] = set()
        self._scores: dict[tuple[str, int], list[Score]] = {}
        self._compared: dict[tuple[str, str], list[dict[str, Any]]] = {}
        self._names: dict[tuple[str, ...], tuple[str, ...]] = {}
        for run in runs:
            for seed in seeds:
                names = [transfer_name(run, dataset, seed) for dataset in datasets]
                scores = [Score.from_record(record) for name in names for record in read_output(name, folder)]
                self.rows[run, seed] = [dict(score.row()) for score in scores]
                self.remarks |= {remark for score in scores for remark in score.remarks}
                self._scores[run, seed] = [self._lean(score) for score in scores if score.split in ("test", "mean")]

    def _lean(self, score: Score) -> Score:
        image, family = (self._names.setdefault(names, names) for names in (score.image, score.family))
        return replace(score, image=image, family=family)

    def compare(self, first: str, second: str) -> list[dict[str, Any]]:
        """The second run minus the first, on every task and their mean."""
        if (first, second) not in self._compared:
            sides = [[self._scores[run, seed] for seed in self.seeds] for run in (first, second)]
            self._compared[first, second] = compare(*sides)
        return self._compared[first, second]


def _stages(folder: Path, point: Point, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """The runs of each arm; the cost of an arm that continues another is the sum of both."""
    lines = []
    for arm, run in point.runs.items():
        before = point.runs.get("mae", "") if arm == "mae_wsp" else ""
        for seed in seeds:
            for name in dict.fromkeys(filter(None, (before, run))):
                lines.append({"arm": arm, "seed": seed, **stage_of(f"{name}-seed{seed}", folder)})
    return lines
