"""Thresholds of labels against scikit-learn, SciPy, permutations, and fresh images."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score

from underpaint.evals.label_thresholds import (
    FEW,
    SEEN,
    UNSEEN,
    chance_precision,
    choose_threshold,
    fewest_named,
    label_thresholds,
    precision_interval,
    wilson,
)


@pytest.mark.parametrize(("hits", "trials"), [(0, 1), (3, 7), (15, 15), (90, 100)])
def test_wilson_is_scipy_s(hits: int, trials: int) -> None:
    theirs = binomtest(hits, trials).proportion_ci(method="wilson")
    assert wilson(hits, trials) == pytest.approx((hits / trials, theirs.low, theirs.high), abs=1e-6)


@pytest.mark.parametrize("images", [2, 5, 7])
def test_chance_is_the_mean_over_all_orders(images: int) -> None:
    for count in range(1, images + 1):
        each = [  # the places of the images with the label, from the best on
            np.mean([(number + 1) / (place + 1) for number, place in enumerate(places)])
            for places in combinations(range(images), count)
        ]
        assert chance_precision(count, images) == pytest.approx(np.mean(each))


def test_the_interval_is_that_of_drawing_images_one_by_one() -> None:
    rng = np.random.default_rng(0)
    truth = np.arange(80) < 12
    score = np.round(rng.normal(size=80) + truth, 1)  # with ties
    quick = precision_interval(score, truth, seed=0)
    drawn = []
    for _ in range(300):
        rows = np.concatenate([rng.choice(np.flatnonzero(truth == kind), (truth == kind).sum()) for kind in (0, 1)])
        drawn.append(average_precision_score(truth[rows], score[rows]))
    assert quick.mean == pytest.approx(average_precision_score(truth, score))
    assert quick[1:] == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.05)


def naive_threshold(score: np.ndarray, truth: np.ndarray, precision: float) -> set[int] | None:
    """The images named by the lowest score whose exact one-sided test by Wilson reaches the precision."""
    best = None
    for level in sorted(set(score.tolist()), reverse=True):
        rows = np.flatnonzero(score >= level)
        low = binomtest(int(truth[rows].sum()), len(rows)).proportion_ci(0.8, method="wilson").low
        best = set(rows.tolist()) if low >= precision else best
    return best


@pytest.mark.parametrize("seed", range(6))
def test_the_threshold_is_the_lowest_that_reaches_the_precision(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.random(60) < 0.5
    score = np.round(rng.normal(size=60) + 2 * truth, 1).astype(np.float32)
    threshold = choose_threshold(score, truth, precision=0.8)
    named = None if threshold is None else set(np.flatnonzero(score >= threshold).tolist())
    assert named == naive_threshold(score, truth, 0.8)


def test_fifteen_right_images_are_the_fewest() -> None:
    score = np.linspace(1, 0, 40)
    assert choose_threshold(score, np.arange(40) < 14, precision=0.9) is None
    assert [fewest_named(each) for each in (0.5, 0.8, 0.9)] == [2, 7, 15]
    assert choose_threshold(score, np.arange(40) < 15, precision=0.9) == pytest.approx((score[14] + score[15]) / 2)


def naive_share(score: np.ndarray, truth: np.ndarray) -> float | None:
    """The lowest score above which nine in ten images have the label."""
    order = np.argsort(-score)
    reached = np.flatnonzero(truth[order].cumsum() / np.arange(1, len(score) + 1) >= 0.9)
    return float(score[order[reached[-1]]]) if len(reached) else None


def test_fresh_images_have_the_precision_and_the_estimate_apart_says_so() -> None:
    rng = np.random.default_rng(1)
    share, shift = rng.choice([0.05, 0.1, 0.3], 150), rng.choice([0.0, 1.0, 2.0, 3.0], 150)

    def drawn(images: int) -> tuple[np.ndarray, np.ndarray]:
        truth = rng.random((images, 150)) < share
        return rng.normal(size=truth.shape) + shift * truth, truth

    known_score, known_truth = drawn(400)
    rows = label_thresholds(known_score, known_truth, [str(number) for number in range(150)], precision=0.9)
    score, truth = drawn(4000)
    written = [(row, score[:, n] >= row.threshold, truth[:, n]) for n, row in enumerate(rows) if row.threshold]
    assert len(written) > 20
    named = sum(chosen.sum() for _, chosen, _ in written)
    right = sum((chosen & has).sum() for _, chosen, has in written)
    assert right / named > 0.9
    by_share = [naive_share(known_score[:, n], known_truth[:, n]) for n in range(150)]
    hits = [truth[score[:, n] >= level, n] for n, level in enumerate(by_share) if level is not None]
    assert np.mean([hit.mean() for hit in hits if len(hit)]) < 0.85, "the share itself does not carry over"
    apart = sum(row.right_apart for row, _, _ in written) / sum(row.named_apart for row, _, _ in written)
    assert apart == pytest.approx(right / named, abs=0.03)
    blind = [row for row, moved in zip(rows, shift, strict=True) if not moved and row.verdict != FEW]
    assert sum(row.verdict == UNSEEN for row in blind) / len(blind) > 0.9
    assert all(row.verdict == SEEN for row, _, _ in written)


def test_few_images_and_labels_on_every_image_are_not_written() -> None:
    score = np.linspace(1, 0, 50)
    truth = np.stack([np.arange(50) < 4, np.arange(50) < 50, np.arange(50) < 0], axis=1)
    rows = label_thresholds(np.stack([score] * 3, axis=1), truth, ["rare", "all", "none"], precision=0.5)
    assert [(row.verdict, row.threshold) for row in rows] == [(FEW, None)] * 3
    assert rows[0].recall == pytest.approx((0, 0, wilson(0, 4).high))
    assert rows[2].recall is rows[2].precision is None
