"""Shares of wrong and of missing tags with 90% intervals, from few judged images of each part of a label's images.

The missing share is that of the images that show a thing and lack its tag. A part of ten thousand images with a rare
thing decides it, and forty judged ones without the thing do not tell 0 from 200 such images. A usual prior of each
part's rate (Jeffreys) assumes then that there are some 120, and its intervals mostly miss the truth
(docs/results/tag_doctor.md); intervals of weighted means have width 0 there. The prior used here is one of the whole
count instead: the count X of a side is to the number of carriers R as two exponential variables to each other, so that
X / (X + R), which is the missing share if all tags are right, is uniform between 0 and 1. X is divided among the parts
at random (a Dirichlet distribution of sum 1, equal for all parts, which the design makes of equal weight). With no
evidence the interval is that of a uniform share, and its tail is heavy, so that a head that is wrong widens it.

Given the prior, the rate of a part is that of a binomial sample, and the images that were not judged are predicted by
it, so that a part which was judged completely adds no error. The same prior serves the wrong share, X / R. Shares are
drawn from the posterior by inversion on grids, with a seed; the estimate is their median, and the interval has 5% of
them at either side. It begins at 0 where the thing was never found, and ends at 1 where it always was, as is usual for
such intervals (Brown, Cai and DasGupta 2001).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

DRAWS = 4_000
TAIL = 0.05
LEAST_RATE = 1e-12
RATES = 600
SCALES = 80
"""Points of the grids of a part's rate, and of the variable that all parts of a side share."""


class Stratum(NamedTuple):
    """A part after it was judged."""

    images: int
    judged: int
    """Images of which a person could tell."""
    positive: int
    """Those that have what is counted: a wrong tag, or a missing one."""


class Estimate(NamedTuple):
    """A share with its 90% interval, all between 0 and 1."""

    value: float
    low: float
    high: float


def estimate_shares(wrong: Sequence[Stratum], missing: Sequence[Stratum], *, seed: int) -> tuple[Estimate, Estimate]:
    """The share of tags that are wrong, and that of the images showing the thing which lack the tag.

    ``wrong`` are the parts of the images with the label, at least one image, and ``missing`` those of the others.
    """
    random = np.random.default_rng(seed)
    carriers = sum(part.images for part in wrong)
    wrong_tags, missing_tags = (draw_counts(parts, carriers, random) for parts in (wrong, missing))
    showing = missing_tags + carriers - wrong_tags
    return (
        _estimate(wrong_tags / carriers, wrong),
        _estimate(missing_tags / np.maximum(showing, 1), missing),
    )


def _estimate(share: Float[np.ndarray, " draws"], parts: Sequence[Stratum]) -> Estimate:
    low, value, high = (float(each) for each in np.quantile(share, [TAIL, 0.5, 1 - TAIL]))
    images, judged, positive = (sum(numbers) for numbers in zip(*parts, strict=True)) if parts else (0, 0, 0)
    if judged < images:
        low = low if positive else 0.0
        high = high if positive < judged or not judged else 1.0
    return Estimate(value, low, high)


def draw_counts(
    parts: Sequence[Stratum], carriers: int, random: np.random.Generator, draws: int = DRAWS
) -> Float[np.ndarray, " draws"]:
    """Draws of the number of images with what is counted, in all parts together.

    The prior in full: the rate of part h is ``carriers * G_h / (G_0 * images_h)``, if all rates are at most 1, where
    the G_h have gamma distributions of shape 1 / len(parts), and G_0 an exponential one. Given G_0, which is drawn
    first, the parts are independent.
    """
    edges = np.linspace(math.log(LEAST_RATE), 0, RATES + 1)
    middle = (edges[:-1] + edges[1:]) / 2
    rate = np.exp(middle)
    scale = np.exp(np.linspace(math.log(1e-6), math.log(15), SCALES))  # values of G_0
    evidence = np.log(scale) - scale
    cumulated: list[np.ndarray] = []
    shape = 1 / max(len(parts), 1)
    for part in parts:
        unit = carriers / (part.images * scale)[:, None]
        density = (part.positive + shape) * middle + (part.judged - part.positive) * np.log1p(-rate)
        density = density - rate / unit - shape * np.log(unit)
        largest = density.max(axis=1, keepdims=True)
        sums = np.exp(density - largest).cumsum(axis=1)
        evidence = evidence + largest[:, 0] + np.log(sums[:, -1])
        cumulated.append(sums / sums[:, -1:])
    chance = np.exp(evidence - evidence.max())
    drawn = np.sort(random.choice(SCALES, size=draws, p=chance / chance.sum()))
    starts = np.searchsorted(drawn, np.arange(SCALES + 1))
    count = np.zeros(draws)
    for part, sums in zip(parts, cumulated, strict=True):
        uniform, place = random.random(draws), np.empty(draws, dtype=np.int64)
        for row in np.flatnonzero(np.diff(starts)).tolist():
            these = slice(starts[row], starts[row + 1])
            place[these] = np.searchsorted(sums[row], uniform[these])
        count += part.positive + random.binomial(part.images - part.judged, rate[np.minimum(place, RATES - 1)])
    return count
