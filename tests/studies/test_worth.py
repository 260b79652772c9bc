"""The worth of MAE in samples of WSP: against scikit-learn, cases by hand, and results with a planted worth."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from underpaint.evals.score import Score
from underpaint.studies.worth import isotonic, lengths_to_reach, replicates, worth_of

LENGTHS = (0.25, 0.5, 1.0, 2.0, 4.0)
DATASETS = ("drawings", "digits")


def test_isotonic_is_scikit_learns() -> None:
    values = np.random.default_rng(0).normal(size=(50, 5)) + np.arange(5) * np.linspace(-1, 1, 50)[:, None]
    expected = [IsotonicRegression().fit_transform(np.arange(5), row) for row in values]
    np.testing.assert_allclose(isotonic(values), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("curve", "score", "expected"),
    [
        ((1, 2, 3, 4, 5), 3.0, 1.0),
        ((1, 2, 3, 4, 5), 3.5, math.sqrt(2)),  # half way in the logarithm
        ((1, 2, 3, 4, 5), 1.0, 0.25),
        ((1, 2, 3, 4, 5), 0.9, -math.inf),
        ((1, 2, 3, 4, 5), 5.0, 4.0),
        ((1, 2, 3, 4, 5), 5.1, math.inf),
        ((1, 3, 3, 3, 5), 3.0, 0.5),  # the shortest of a plateau
        ((1, 3, 2, 3, 5), 2.4, 0.25 * 2 ** (1.4 / 1.5)),  # 3 and 2 count as 2.5 each
        ((2, 2, 2, 2, 2), 2.0, 0.25),
    ],
)
def test_the_shortest_length_that_reaches_a_score(curve: Sequence[float], score: float, expected: float) -> None:
    got = lengths_to_reach(np.array([curve], dtype=float), LENGTHS, np.array([score]))
    assert got[0] == pytest.approx(expected)


def measured(rng: np.random.Generator, accuracy: float, ease: np.ndarray, family: Sequence[str]) -> Score:
    """One network: images that are easy enough are right, but for a tenth, where chance decides."""
    luck = np.where(rng.random(len(ease)) < 0.1, rng.random(len(ease)), ease)
    return Score(
        dataset="all",
        protocol="mean",
        correct=tuple((luck < accuracy).astype(float)),
        image=tuple(f"{DATASETS[index % 2]}/{index}" for index in range(len(ease))),
        family=tuple(family),
        settings={},
        remarks=(),
    )


def planted(
    rng: np.random.Generator, equals: float, *, seeds: int = 3, images: int = 400
) -> tuple[list[list[Score]], list[Score]]:
    """WSP alone gains 4 points with each doubling; the network in question is as good as WSP alone of that length.

    Seeds move every network by 0.6 points.
    """
    family = [f"{DATASETS[index % 2]}/{index // 4}" for index in range(images)]
    easiness = {name: rng.random() for name in dict.fromkeys(family)}
    ease = np.array([(easiness[name] + rng.normal(0, 0.05)) % 1 for name in family])
    points = [[] for _ in range(len(LENGTHS) + 1)]
    for _ in range(seeds):
        for point, length in zip(points, (*LENGTHS, equals), strict=True):
            accuracy = 0.4 + 0.04 * math.log2(length) + rng.normal(0, 0.006)
            point.append(measured(rng, accuracy, ease, family))
    return points[:-1], points[-1]


def test_a_planted_worth_is_found() -> None:
    ladder, score = planted(np.random.default_rng(4), 1.5, seeds=5, images=1_200)
    worth = worth_of(score, ladder, LENGTHS, seed=0)
    assert worth.low["value"] < 1.5 < worth.high["value"]
    assert worth.length["value"] == pytest.approx(1.5, rel=0.15)
    assert {worth.low["side"], worth.length["side"], worth.high["side"]} == {"within"}


@pytest.mark.slow
def test_a_planted_worth_is_within_its_interval_about_as_often_as_promised() -> None:
    rng, studies, covered, lengths = np.random.default_rng(5), 100, 0, []
    for number in range(studies):
        ladder, score = planted(rng, 1.5, images=1_200)
        worth = worth_of(score, ladder, LENGTHS, seed=number)
        lengths.append(worth.length["value"])
        above = worth.low["side"] == "below" or worth.low["value"] <= 1.5
        below = worth.high["side"] == "above" or worth.high["value"] >= 1.5
        covered += above and below
    assert np.median(lengths) == pytest.approx(1.5, rel=0.1)
    assert 90 <= covered <= 99, "95 are promised"


def test_beyond_the_measured_lengths_there_are_bounds() -> None:
    rng = np.random.default_rng(6)
    ladder, _ = planted(rng, 1.0)
    _, better = planted(np.random.default_rng(6), 64.0)
    worth = worth_of(better, ladder, LENGTHS, seed=0)
    assert worth.length == worth.high == {"value": 4.0, "side": "above"}
    worse = worth_of(planted(np.random.default_rng(6), 0.01)[1], ladder, LENGTHS, seed=0)
    assert worse.length == worse.low == {"value": 0.25, "side": "below"}


def test_the_noise_of_seeds_is_students() -> None:
    """Each point spreads like its t interval, and what all seeds have in common cancels in a difference."""
    rng = np.random.default_rng(7)
    ladder, score = planted(rng, 2.0)
    drawn = replicates([*ladder, score], seed=1, resamples=4_000)
    frozen = replicates([[one.copy_of_first] * 3 for one in map(_First, ladder)], seed=1, resamples=4_000)
    values = np.array([[each.value for each in point] for point in ladder])
    for column, of_seeds in enumerate(values):
        assert drawn[:, column].mean() == pytest.approx(of_seeds.mean(), abs=2e-3)
        half = 4.302653 * of_seeds.std(ddof=1) / math.sqrt(3)
        images = frozen[:, column] - frozen[:, column].mean()
        both = np.quantile(np.abs(drawn[:, column] - of_seeds.mean()), 0.95)
        assert max(half, np.quantile(np.abs(images), 0.95)) * 0.93 <= both
        assert both <= 1.07 * (half + np.quantile(np.abs(images), 0.95))


class _First:
    """The first seed of a point, which alone has the noise of the test images and nothing else."""

    def __init__(self, point: Sequence[Score]) -> None:
        self.copy_of_first = point[0]
