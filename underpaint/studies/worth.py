"""How many samples of WSP are worth as much as MAE: the length at which WSP alone reaches a score, with its noise.

WSP alone was measured at a few lengths. Its curve is the isotonic fit of these scores (longer training never counts as
worse), joined by straight lines over the logarithm of the length; the length that a score is worth is the shortest at
which the curve reaches it. Beyond the measured lengths nothing is extrapolated: there the answer is a bound.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from underpaint.evals.score import Score
from underpaint.evals.statistics import CONFIDENCE, RESAMPLES
from underpaint.results.study import BoundedEntry, Side

Array = np.ndarray


@dataclass(frozen=True, kw_only=True)
class Worth:
    """The length of WSP alone that a score is worth, with the ends of its 95% interval, in the unit of the lengths."""

    length: BoundedEntry
    low: BoundedEntry
    high: BoundedEntry


def worth_of(
    score: Sequence[Score], ladder: Sequence[Sequence[Score]], lengths: Sequence[float], *, seed: int
) -> Worth:
    """The length of WSP alone with the score of another network; ``ladder`` holds WSP alone at each of the lengths.

    Every entry has one score per seed, in the same order of seeds, over the same test images. The interval covers other
    test images and, with several seeds, other seeds.
    """
    points = [*ladder, score]
    observed = np.array([[np.mean([each.value for each in point]) for point in points]])
    drawn = replicates(points, seed=seed)
    length = lengths_to_reach(observed[:, :-1], lengths, observed[:, -1])[0]
    ordered = np.sort(lengths_to_reach(drawn[:, :-1], lengths, drawn[:, -1]))
    tail = (1 - CONFIDENCE) / 2
    low, high = (ordered[round(share * (len(ordered) - 1))] for share in (tail, 1 - tail))
    return Worth(length=_bounded(length, lengths), low=_bounded(low, lengths), high=_bounded(high, lengths))


def replicates(
    points: Sequence[Sequence[Score]], *, seed: int, resamples: int = RESAMPLES
) -> Float[Array, "resamples points"]:
    """The mean over seeds of each point, as other test images and other seeds could have given it.

    Families of test images are drawn with replacement within their dataset, the same for all points. The noise of the
    seeds is Student's: normal draws with the covariance that the points have over seeds, divided by the root of a
    chi-square. The intervals of a bootstrap over three seeds are little more than a third as wide.
    """
    generator = np.random.default_rng(seed)
    correct = np.stack([np.mean([score.correct for score in point], axis=0) for point in points])
    first = points[0][0]
    drawn = _resampled_means(correct, first, generator, resamples)
    values = np.array([[score.value for score in point] for point in points])  # points, seeds
    seeds = values.shape[1]
    if seeds > 1:
        deviations = values - values.mean(axis=1, keepdims=True)
        normal = generator.standard_normal((resamples, seeds)) @ deviations.T / math.sqrt(seeds * (seeds - 1))
        chi_square = generator.chisquare(seeds - 1, size=(resamples, 1)) / (seeds - 1)
        drawn += normal / np.sqrt(chi_square)
    return drawn


def lengths_to_reach(
    curves: Float[Array, "n lengths"], lengths: Sequence[float], scores: Float[Array, " n"]
) -> Float[Array, " n"]:
    """The shortest length at which each curve reaches a score; -inf below the first length, inf beyond the last."""
    fitted, places = isotonic(curves), np.log2(lengths)
    reached = np.where(scores > fitted[:, -1], np.inf, places[-1])
    for left in reversed(range(len(places) - 1)):
        low, high = fitted[:, left], fitted[:, left + 1]
        rise = np.where(high > low, high - low, 1.0)
        inside = places[left] + (places[left + 1] - places[left]) * np.clip((scores - low) / rise, 0.0, 1.0)
        reached = np.where(scores <= high, inside, reached)
    reached = np.where(scores < fitted[:, 0], -np.inf, reached)
    return np.where(np.isneginf(reached), -np.inf, np.exp2(reached))


def isotonic(values: Float[Array, "n points"]) -> Float[Array, "n points"]:
    """The non-decreasing sequence nearest to each row in squares: the largest, over the starts up to a point, of the
    smallest mean, over the ends from it on.
    """
    count = values.shape[1]
    sums = np.concatenate([np.zeros((len(values), 1)), np.cumsum(values, axis=1)], axis=1)
    columns = []
    for point in range(count):
        smallest = [
            np.min([(sums[:, end] - sums[:, start]) / (end - start) for end in range(point + 1, count + 1)], axis=0)
            for start in range(point + 1)
        ]
        columns.append(np.max(smallest, axis=0))
    return np.stack(columns, axis=1)


def _resampled_means(
    correct: Float[Array, "points images"], first: Score, generator: np.random.Generator, resamples: int
) -> Float[Array, "resamples points"]:
    """The mean of each point over families drawn with replacement, dataset by dataset, weighed by their images."""
    family = np.asarray(first.family)
    dataset = np.asarray([name.partition("/")[0] for name in first.image])
    drawn = np.zeros((resamples, len(correct)))
    for name in np.unique(dataset):
        within = dataset == name
        names, group = np.unique(family[within], return_inverse=True)
        count = np.bincount(group)
        totals = np.stack([np.bincount(group, weights=row, minlength=len(names)) for row in correct[:, within]])
        times = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
        drawn += within.mean() * (times @ totals.T) / (times @ count)[:, None]
    return drawn


def _bounded(length: float, lengths: Sequence[float]) -> BoundedEntry:
    side: Side = "within" if math.isfinite(length) else "above" if length > 0 else "below"
    edge = {"within": length, "above": lengths[-1], "below": lengths[0]}[side]
    return {"value": float(edge), "side": side}
