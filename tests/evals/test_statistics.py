"""Intervals of differences, against scipy and by the coverage they promise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.stats

from underpaint.evals import statistics
from underpaint.evals.score import Score
from underpaint.evals.statistics import paired_bootstrap, paired_t, student_quantile, summarise
from underpaint.studies.results import estimate_mean


def score(correct: list[float], *, family: list[str] | None = None, dataset: str = "toy") -> Score:
    names = tuple(f"{i}.png" for i in range(len(correct)))
    return Score(
        dataset=dataset,
        protocol="knn",
        correct=tuple(correct),
        image=names,
        family=tuple(family) if family else names,
        settings={},
        remarks=(),
    )


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 9, 30, 101])
@pytest.mark.parametrize("probability", [0.5, 0.6, 0.9, 0.975, 0.9995])
def test_student_quantile_equals_scipy(probability: float, freedom: int) -> None:
    expected = scipy.stats.t.ppf(probability, freedom)
    assert student_quantile(probability, freedom) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_paired_t_equals_scipy() -> None:
    a, b = np.array([0.61, 0.64, 0.58, 0.66]), np.array([0.66, 0.65, 0.67, 0.69])
    oracle = scipy.stats.ttest_rel(b, a).confidence_interval(0.95)
    interval = paired_t((b - a).tolist())
    assert interval == pytest.approx(((b - a).mean(), oracle.low, oracle.high), rel=1e-9)


@pytest.mark.parametrize("seeds", [3, 5, 20])
def test_the_detectable_effect_is_detected_in_eight_of_ten_studies(seeds: int) -> None:
    difference = np.random.default_rng(seeds).normal(size=seeds)
    effect = statistics.detectable_effect(difference.tolist())
    noncentrality = effect / (difference.std(ddof=1) / np.sqrt(seeds))
    critical = scipy.stats.t.ppf(0.975, seeds - 1)
    power = 1 - scipy.stats.nct.cdf(critical, seeds - 1, noncentrality)
    assert 0.76 < power < 0.82


def test_one_arm_is_estimated_over_seeds_or_over_its_images() -> None:
    draw = np.random.default_rng(4)
    seeds = [score(draw.integers(0, 2, size=200).astype(float).tolist()) for _ in range(4)]
    means = [float(np.mean(one.correct)) for one in seeds]
    oracle = scipy.stats.ttest_1samp(means, 0.0).confidence_interval(0.95)
    both = statistics.estimate(seeds, seed=0)
    error = np.std(np.mean([one.correct for one in seeds], axis=0)) / np.sqrt(200)
    half = np.hypot(oracle.high - np.mean(means), 1.96 * error)
    assert both == pytest.approx((np.mean(means), np.mean(means) - half, np.mean(means) + half), abs=0.006)
    one = statistics.estimate(seeds[:1], seed=0)
    half = 1.96 * np.std(seeds[0].correct) / np.sqrt(200)
    assert (one.low, one.high) == pytest.approx((means[0] - half, means[0] + half), abs=0.01)


@pytest.mark.parametrize(("right", "images", "copies"), [(12, 12, 1), (0, 15, 1), (1, 1, 1), (0, 7, 3), (400, 400, 2)])
def test_an_arm_with_all_or_no_images_right_has_wilsons_interval(right: int, images: int, copies: int) -> None:
    correct = [float(right > 0)] * (images * copies)
    alike = score(correct, family=[str(i // copies) for i in range(images * copies)])
    oracle = scipy.stats.binomtest(right, images).proportion_ci(0.95, method="wilson")
    for seeds in ([alike], [alike] * 3):
        interval = statistics.estimate(seeds, seed=0)
        assert interval == pytest.approx((float(right > 0), oracle.low, oracle.high), abs=1e-6)
    assert interval == statistics.estimate(seeds, seed=0)
    difference = summarise([alike], [alike], seed=0)
    assert (difference["mean"], difference["low"], difference["high"]) == (0.0, 0.0, 0.0)


def test_a_mean_over_datasets_is_not_certain_where_one_of_them_is_all_right() -> None:
    """The distances of independent parts add up in squares, by their weights: one task of each dataset."""
    chance = np.random.default_rng(2)
    easy, hard = score([1.0] * 12, dataset="easy"), score(chance.integers(0, 2, 40).tolist(), dataset="hard")
    wilson = scipy.stats.binomtest(12, 12).proportion_ci(0.95, method="wilson")
    alone = statistics.estimate([hard], seed=0)
    both = estimate_mean([{"easy knn": easy, "hard knn": hard}])
    assert both.mean == pytest.approx((1 + alone.mean) / 2)
    assert both.low == pytest.approx(both.mean - np.hypot(1 - wilson.low, alone.mean - alone.low) / 2, abs=0.02)
    assert both.high == pytest.approx(both.mean + (alone.high - alone.mean) / 2, abs=0.02)
    every = estimate_mean([{"easy knn": easy, "easy linear": easy}])
    assert every == pytest.approx((1.0, wilson.low, 1.0), abs=1e-6)


def test_bootstrap_equals_scipy_up_to_resampling() -> None:
    difference = np.random.default_rng(0).choice([-1.0, 0.0, 1.0], size=300, p=[0.1, 0.6, 0.3])
    oracle = scipy.stats.bootstrap(
        (difference,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    interval = paired_bootstrap(difference.tolist(), [str(i) for i in range(300)], seed=0, resamples=20_000)
    assert interval.mean == pytest.approx(difference.mean())
    assert (interval.low, interval.high) == pytest.approx((oracle.low, oracle.high), abs=0.005)


def test_bootstrap_is_seeded_and_does_not_depend_on_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    difference, family = [1.0, 0.0, -1.0, 1.0, 0.0, 1.0], list("abcdef")
    first = paired_bootstrap(difference, family, seed=0)
    assert first == paired_bootstrap(difference, family, seed=0)
    monkeypatch.setattr(statistics, "CHUNK", 60)
    assert first == paired_bootstrap(difference, family, seed=0)


@pytest.mark.parametrize(("variants", "families"), [(1, 120), (6, 60)])
def test_bootstrap_covers_the_truth(variants: int, families: int) -> None:
    """The 95% interval holds the true difference in about 95% of 300 worlds, also where families vary as one."""
    generator = np.random.default_rng(3)
    family = [str(i // variants) for i in range(variants * families)]
    covered = 0
    for world in range(300):
        per_family = generator.choice([-1.0, 0.0, 1.0], size=families, p=[0.15, 0.55, 0.3])
        interval = paired_bootstrap(per_family.repeat(variants).tolist(), family, seed=world, resamples=400)
        covered += interval.low <= 0.15 <= interval.high
    assert 0.91 <= covered / 300 <= 0.985


def test_families_are_drawn_whole() -> None:
    """Twenty copies of each image must not make the interval narrower than the images themselves do."""
    generator = np.random.default_rng(0)
    difference = generator.choice([-1.0, 0.0, 1.0], size=80)
    alone = paired_bootstrap(difference.tolist(), [str(i) for i in range(80)], seed=0)
    copied = paired_bootstrap(difference.repeat(20).tolist(), [str(i // 20) for i in range(1600)], seed=0)
    assert (copied.high - copied.low) == pytest.approx(alone.high - alone.low, rel=0.1)


def test_summary_of_one_seed_is_a_bootstrap_and_says_so() -> None:
    a, b = score([0.0, 1.0, 0.0, 1.0] * 20), score([1.0, 1.0, 0.0, 1.0] * 20)
    summary = summarise([a], [b], seed=0)
    assert summary["mean"] == pytest.approx(0.25)
    assert summary["n_seeds"] == 1
    assert 0 < summary["low"] < 0.25 < summary["high"] < 0.5
    assert summary["method"] == "paired bootstrap over 80 test images, 2000 resamples, one seed"
    grouped = [score(list(s.correct), family=[str(i // 4) for i in range(80)]) for s in (a, b)]
    method = summarise(grouped[:1], grouped[1:], seed=0)["method"]
    assert method == "paired bootstrap over 80 test images in 20 families, 2000 resamples, one seed"


def test_summary_of_several_seeds_adds_both_noises_and_says_so() -> None:
    first = [score([0.0, 1.0, 0.0, 0.0]), score([0.0, 1.0, 0.0, 1.0]), score([1.0, 0.0, 0.0, 0.0])]
    second = [score([1.0, 1.0, 0.0, 0.0]), score([1.0, 1.0, 0.0, 1.0]), score([1.0, 1.0, 0.0, 1.0])]
    summary = summarise(first, second, seed=0)
    oracle = scipy.stats.ttest_rel([0.5, 0.75, 0.75], [0.25, 0.5, 0.25]).confidence_interval(0.95)
    mean = summary["mean"]
    low = mean - np.hypot(mean - oracle.low, mean - summary["test_low"])
    high = mean + np.hypot(oracle.high - mean, summary["test_high"] - mean)
    assert (summary["low"], summary["high"]) == pytest.approx((low, high))
    assert summary["low"] < oracle.low < oracle.high < summary["high"]
    method = "paired t over 3 seeds and paired bootstrap over 4 test images, 2000 resamples"
    assert (summary["n_seeds"], summary["method"]) == (3, method)
    assert summary["noise"] == ["seeds", "test images"]


def test_arms_of_different_tasks_are_not_compared() -> None:
    with pytest.raises(AssertionError):
        summarise([score([1.0])], [score([1.0], dataset="other")], seed=0)
    with pytest.raises(AssertionError):
        summarise([score([1.0])], [score([1.0, 0.0])], seed=0)


def test_strata_are_drawn_by_themselves() -> None:
    """The variance of a stratified mean is that of its strata alone: what lies between them adds nothing."""
    generator = np.random.default_rng(0)
    values = np.concatenate([generator.normal(5, 1, size=200), generator.normal(-5, 1, size=300)])
    names = [str(i) for i in range(500)]
    stratum = ["a"] * 200 + ["b"] * 300
    apart = paired_bootstrap(values.tolist(), names, seed=0, stratum=stratum, resamples=4000)
    together = paired_bootstrap(values.tolist(), names, seed=0, resamples=4000)
    assert apart.mean == pytest.approx(values.mean())
    expected = 1.96 * np.sqrt(200 * values[:200].var() + 300 * values[200:].var()) / 500
    assert (apart.high - apart.low) / 2 == pytest.approx(expected, rel=0.06)
    assert together.high - together.low > 3 * (apart.high - apart.low)


def test_several_seeds_show_both_noises() -> None:
    """The interval over seeds, and apart from it that of the test images for the networks as trained."""
    generator = np.random.default_rng(1)
    image = tuple(f"{i}.png" for i in range(400))

    def score(probability: float) -> Score:
        correct = tuple((generator.random(400) < probability).astype(float).tolist())
        return Score(
            dataset="d", protocol="linear", correct=correct, image=image, family=image, settings={}, remarks=()
        )

    first, second = [score(0.5) for _ in range(4)], [score(0.6) for _ in range(4)]
    found: Any = summarise(first, second, seed=0)
    per_seed = [b.value - a.value for a, b in zip(first, second, strict=True)]
    expected = scipy.stats.t.interval(0.95, 3, loc=np.mean(per_seed), scale=scipy.stats.sem(per_seed))
    centre = float(np.mean(per_seed))
    assert found["high"] - centre == pytest.approx(np.hypot(expected[1] - centre, found["test_high"] - centre))
    mean = np.mean([np.subtract(b.correct, a.correct) for a, b in zip(first, second, strict=True)], axis=0)
    half = 1.96 * mean.std() / 20
    assert found["test_high"] - found["test_low"] == pytest.approx(2 * half, rel=0.1)


def world(generator: np.random.Generator, *, images: int, seeds: int, spread: float) -> tuple[list[Score], list[Score]]:
    """Two arms that are equally good on all images there are: per image by chance one is better, per seed as well."""
    by_image, by_seed = generator.normal(0, 0.45, size=images), generator.normal(0, spread, size=seeds)
    first = [score([0.5] * images) for _ in range(seeds)]
    second = [score((0.5 + by_image + shift).tolist()) for shift in by_seed]
    return first, second


@pytest.mark.parametrize(
    ("seeds", "spread"),
    [
        (2, 0.0005),
        (5, 0.03),
        pytest.param(2, 0.02, marks=pytest.mark.slow),
        pytest.param(5, 0.0, marks=pytest.mark.slow),
    ],
)
def test_arms_that_are_equally_good_are_told_apart_in_one_study_of_twenty(seeds: int, spread: float) -> None:
    """Seeds that agree with each other share their test images: what these favour is no gain."""
    generator = np.random.default_rng(8)
    wrong = 0
    for _ in range(500):
        summary = summarise(*world(generator, images=150, seeds=seeds, spread=spread), seed=0)
        low, high = summary["low"], summary["high"]
        assert low is not None
        assert high is not None
        wrong += low > 0 or high < 0
    assert wrong / 500 <= 0.08
