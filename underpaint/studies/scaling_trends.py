"""Weighted sums of scores over several points of the study ``scaling``, with intervals over seeds and test images.

A slope along the size of the model, for example, is a weighted sum of the gains at its points. The sum is formed image
by image, so its interval covers what a new seed and what other test images change, as those of all contrasts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from underpaint.evals.score import Score
from underpaint.evals.statistics import summarise
from underpaint.results.scaling import ModelEntry
from underpaint.results.study import Summary, TrendRow
from underpaint.studies.results import mean_of, strata_of, tasks_by, tasks_of
from underpaint.studies.scaling_designs import Point
from underpaint.studies.scaling_laws import PROTOCOLS

ALL = ""
"""The mean over all tasks, in the place of a protocol."""
PER_DOUBLING = "per factor of two in parameters"

Scores = Mapping[Point, Mapping[str, Sequence[Sequence[Score]]]]
"""Scores by point, arm and seed."""


@dataclass(frozen=True, kw_only=True)
class Term:
    weight: float
    point: Point
    arm: str


@dataclass(frozen=True, kw_only=True)
class Trend:
    """A weighted sum of scores."""

    name: str
    title: str
    terms: tuple[Term, ...]
    unit: str = ""
    protocols: tuple[str, ...] = (*PROTOCOLS, ALL)


def trend_rows(scores: Scores, models: Sequence[ModelEntry]) -> list[TrendRow]:
    """All trends, where the grid has two models or more and two shares or more."""
    if len(models) < 2:
        return []
    return [
        {"trend": trend.name, "title": trend.title, "unit": trend.unit, "protocol": protocol, **line}
        for trend in _trends(models, min(point.share for point in scores))
        for protocol in trend.protocols
        for line in [weighted_sum(scores, trend.terms, protocol)]
    ]


def _trends(models: Sequence[ModelEntry], smallest: float) -> Iterator[Trend]:
    slope = slope_weights([math.log2(model["parameters"]) for model in models])
    widths = [model["width"] for model in models]
    whole = [Point(width=width, share=1.0) for width in widths]
    yield Trend(
        name="gain_by_size",
        title="Slope of MAE then WSP − WSP alone along parameters, on all images",
        unit=PER_DOUBLING,
        terms=tuple(
            Term(weight=sign * weight, point=point, arm=arm)
            for weight, point in zip(slope, whole, strict=True)
            for sign, arm in ((1.0, "mae_wsp"), (-1.0, "wsp"))
        ),
    )
    for smaller, larger in pairwise(models):
        ratio = larger["parameters"] / smaller["parameters"]
        yield Trend(
            name="smaller_after_mae",
            title=f"MAE then WSP at {smaller['model']} − WSP alone at {larger['model']}, {ratio:.1f} times as large",
            terms=(
                Term(weight=1.0, point=Point(width=smaller["width"], share=1.0), arm="mae_wsp"),
                Term(weight=-1.0, point=Point(width=larger["width"], share=1.0), arm="wsp"),
            ),
        )
    if smallest == 1:
        return
    gain = f"MAE on all images − MAE on {smallest:.3g} of them"
    for name, title, unit, weights in (
        ("mae_data", f"{gain}, mean over models", "", [1 / len(widths)] * len(widths)),
        ("mae_data_by_size", f"Slope of {gain} along parameters", PER_DOUBLING, slope),
    ):
        yield Trend(
            name=name,
            title=title,
            unit=unit,
            protocols=("finetune",),
            terms=tuple(
                Term(weight=sign * weight, point=Point(width=width, share=share), arm="mae")
                for weight, width in zip(weights, widths, strict=True)
                for sign, share in ((1.0, 1.0), (-1.0, smallest))
            ),
        )


def slope_weights(x: Sequence[float]) -> list[float]:
    """The weights of y in the least-squares slope of y over x."""
    mean = math.fsum(x) / len(x)
    squares = math.fsum((value - mean) ** 2 for value in x)
    return [(value - mean) / squares for value in x]


def weighted_sum(scores: Scores, terms: Sequence[Term], protocol: str) -> Summary:
    """The weighted sum of the means over tasks, those of one protocol where it is given, with its interval."""
    sides = [(term.weight, [tasks_of(of_seed) for of_seed in scores[term.point][term.arm]]) for term in terms]
    sums: list[Score] = []
    for seed in range(len(sides[0][1])):
        tasks = [(weight, by_seed[seed]) for weight, by_seed in sides]
        names = [name for name in tasks[0][1] if all(name in known for _, known in tasks)]
        summed = {name: _sum([(weight, known[name]) for weight, known in tasks]) for name in names}
        sums.append(mean_of(tasks_by(protocol, summed) if protocol else summed))
    zero = [replace(score, correct=(0.0,) * len(score.correct)) for score in sums]
    return summarise(zero, sums, seed=0, stratum=strata_of(sums[0]))


def _sum(terms: Sequence[tuple[float, Score]]) -> Score:
    """The weighted sum of scores of the same images, image by image."""
    first = terms[0][1]
    assert all(score.image == first.image for _, score in terms)
    weighted = sum(weight * np.asarray(score.correct) for weight, score in terms)
    return replace(first, correct=tuple(np.asarray(weighted).tolist()))
