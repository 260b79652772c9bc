"""Confidence intervals of arms, and of differences between two: over test images, and over seeds where given."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from underpaint.evals.score import Interval, Score
from underpaint.results.study import Summary

RESAMPLES = 2000
CONFIDENCE = 0.95
POWER = 0.8
NORMAL_CONFIDENCE, NORMAL_POWER = 1.959964, 0.841621
"""Quantiles of the normal distribution for 95% from both sides, and for POWER."""
SAME = 1e-9
"""Difference of two shares below which they are the same but for rounding."""
CHUNK = 1 << 22
"""Draws held at once: 32 MiB of int64."""


def summarise(first: Sequence[Score], second: Sequence[Score], *, seed: int, stratum: Sequence[str] = ()) -> Summary:
    """The accuracy of ``second`` minus that of ``first``, with a 95% interval.

    The two hold one score per seed, in the same order of seeds, of the same task. With two or more seeds the interval
    covers what a new seed and what other test images change; with one it is a paired bootstrap over the test images,
    which says nothing about another training run; ``noise`` and ``method`` tell which. If test images come from
    several datasets, ``stratum`` names that of each: each is drawn by itself.
    """
    assert len(first) == len(second) > 0, (len(first), len(second))
    for a, b in zip(first, second, strict=True):
        assert (task_of(a), a.image) == (task_of(b), b.image), (task_of(a), task_of(b))
    family = first[0].family
    difference = np.mean([np.subtract(b.correct, a.correct) for a, b in zip(first, second, strict=True)], axis=0)
    test = paired_bootstrap(difference.tolist(), family, seed=seed, stratum=stratum)
    families = len(set(family))
    grouped = f" in {families} families" if families < len(family) else ""
    bootstrap = f"paired bootstrap over {len(family)} test images{grouped}, {RESAMPLES} resamples"
    interval, detectable, method = test, None, f"{bootstrap}, one seed"
    if len(first) > 1:
        differences = [b.value - a.value for a, b in zip(first, second, strict=True)]
        interval = with_both_noises(paired_t(differences), test)
        detectable = math.hypot(detectable_effect(differences), _detectable_by_images(test))
        method = f"paired t over {len(first)} seeds and {bootstrap}"
    return {
        "mean": interval.mean,
        "low": interval.low,
        "high": interval.high,
        "n_seeds": len(first),
        "method": method,
        "noise": ["seeds", "test images"] if len(first) > 1 else ["test images"],
        "test_low": test.low,
        "test_high": test.high,
        "detectable": detectable,
    }


def with_both_noises(seeds: Interval, test: Interval) -> Interval:
    """An interval that covers two independent sources of error, from the intervals of each (both of one estimate).

    The distances of the ends from the estimate add up in squares (the method of variance estimates recovery, Zou and
    Donner 2008). If only one of the two varies, the result is its interval.
    """
    mean = seeds.mean
    low = mean - math.hypot(mean - seeds.low, max(0.0, test.mean - test.low))
    return Interval(mean, low, mean + math.hypot(seeds.high - mean, max(0.0, test.high - test.mean)))


def _detectable_by_images(test: Interval) -> float:
    """Smallest difference that the test images alone would show with probability POWER, by normal approximation."""
    error = (test.high - test.low) / 2 / NORMAL_CONFIDENCE
    return (NORMAL_CONFIDENCE + NORMAL_POWER) * error


def estimate(
    scores: Sequence[Score], *, seed: int, stratum: Sequence[str] = (), most: Sequence[float] = ()
) -> Interval:
    """The accuracy of one arm with a 95% interval, which covers the same noise as ``summarise``'s.

    A stratum whose families all have the same share of right answers, such as all or none, has no spread to resample.
    There the interval reaches as far as Wilson's bound on the share of families that may be otherwise. ``most`` holds
    the entries of ``correct`` if every answer were right, where they are not 1.
    """
    assert scores, "no seed, no estimate"
    correct = np.mean([score.correct for score in scores], axis=0)
    test = paired_bootstrap(correct.tolist(), scores[0].family, seed=seed, stratum=stratum)
    if (unseen := _of_families_unlike_all(correct, scores[0].family, stratum, most)) is not None:
        test = with_both_noises(unseen, test)
    return with_both_noises(paired_t([score.value for score in scores]), test) if len(scores) > 1 else test


def _of_families_unlike_all(
    correct: np.ndarray, family: Sequence[str], stratum: Sequence[str], most: Sequence[float]
) -> Interval | None:
    """The interval of the mean for families of which none was seen; None if every stratum has spread.

    If all of n families agree, Wilson's 95% interval of the share that does not goes from 0 to z² / (n + z²).
    """
    families, mean = np.asarray(family), float(np.mean(correct))
    right = np.asarray(most) if len(most) else np.ones(len(correct))
    strata = np.asarray(stratum if len(stratum) else [""] * len(families))
    below, above = list[float](), list[float]()
    for name in np.unique(strata):
        within = strata == name
        total, count = _per_family(correct[within], families[within])
        if np.ptp(total / count) > SAME:
            continue
        share = within.mean() * NORMAL_CONFIDENCE**2 / (len(count) + NORMAL_CONFIDENCE**2)
        value = float(correct[within].mean())
        below.append(share * value)
        above.append(share * (float(right[within].mean()) - value))
    return Interval(mean, mean - math.hypot(*below), mean + math.hypot(*above)) if below else None


def task_of(score: Score) -> tuple[str, str, int, str]:
    """Dataset, protocol, shots and split, which two scores must share to be compared."""
    return score.dataset, score.protocol, score.shots, score.split


def paired_bootstrap(
    difference: Sequence[float],
    family: Sequence[str],
    *,
    seed: int,
    stratum: Sequence[str] = (),
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
) -> Interval:
    """Percentile interval of the mean of per-image differences; families are drawn whole, within their stratum.

    Variants of one drawing are right or wrong together: drawn one by one they would count as independent evidence,
    and the interval would come out too narrow. If all differences are equal, the interval has no width. For two arms
    that answered every image alike this is kept: it decides nothing, since 0 is in it, and how often they would differ
    on further images depends on how alike they are, which these images do not tell. For one arm see ``estimate``.
    """
    values, families = np.asarray(difference, dtype=np.float64), np.asarray(family)
    strata = np.asarray(stratum if len(stratum) else [""] * len(families))
    generator = np.random.default_rng(seed)
    mean, means = 0.0, np.zeros(resamples)
    for name in np.unique(strata):  # weighed by their images
        within = strata == name
        share = within.mean()
        mean += share * values[within].mean()
        means += share * _resampled_means(values[within], families[within], generator, resamples)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(float(mean), float(low), float(high))


def _resampled_means(
    values: np.ndarray, family: np.ndarray, generator: np.random.Generator, resamples: int
) -> np.ndarray:
    """The mean of as many families as there are, drawn with replacement, ``resamples`` times."""
    total, count = _per_family(values, family)
    means = []
    for size in _chunks(resamples, CHUNK // len(total)):
        drawn = generator.integers(len(total), size=(size, len(total)))
        means.append(total[drawn].sum(axis=1) / count[drawn].sum(axis=1))
    return np.concatenate(means)


def _per_family(values: np.ndarray, family: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The sum of the values of each family, and the number of its images."""
    names, group = np.unique(family, return_inverse=True)
    return np.bincount(group, weights=values, minlength=len(names)), np.bincount(group, minlength=len(names))


def paired_t(difference: Sequence[float], *, confidence: float = CONFIDENCE) -> Interval:
    """Student's interval of the mean of two or more differences."""
    mean, error = _mean_and_error(difference)
    half = student_quantile(0.5 + confidence / 2, len(difference) - 1) * error
    return Interval(mean, mean - half, mean + half)


def detectable_effect(difference: Sequence[float], *, confidence: float = CONFIDENCE, power: float = POWER) -> float:
    """The true mean whose interval excludes zero with probability ``power``, if differences spread as these do.

    The usual approximation, two quantiles of Student's t in standard errors; the exact answer needs the noncentral
    distribution and differs by less than 6% from three seeds on.
    """
    _, error = _mean_and_error(difference)
    freedom = len(difference) - 1
    return (student_quantile(0.5 + confidence / 2, freedom) + student_quantile(power, freedom)) * error


def _mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """The mean of two or more values and its standard error."""
    n = len(values)
    assert n > 1, "one seed has no deviation"
    mean = math.fsum(values) / n
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1) / n)


def student_quantile(probability: float, freedom: int) -> float:
    """The value that Student's t with ``freedom`` degrees falls below with a probability of 0.5 or more, under 1."""
    from scipy.special import stdtrit

    assert 0.5 <= probability < 1, probability
    assert freedom >= 1, freedom
    return float(stdtrit(freedom, probability))


def _chunks(total: int, size: int) -> list[int]:
    size = max(1, size)
    return [min(size, total - start) for start in range(0, total, size)]
