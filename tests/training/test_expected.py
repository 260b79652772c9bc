"""Expected curves: bands against SciPy's prediction intervals, and alarms on planted curves."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from underpaint.training.expected import (
    FLOOR,
    PART,
    WIDTH,
    WINDOWS,
    ExpectedCurve,
    bands,
    pooled_deviation,
    window_means,
)

BUDGET = 32_000
STEP = 100


def planted(
    seed: int, *, noise: float = 0.03, factor: float = 1.0, power: float = 0.3, start: int = 0
) -> list[tuple[int, float]]:
    """A power law of the samples with noise, times ``factor`` from ``start`` samples on."""
    generator = np.random.default_rng(seed)
    return [
        (samples, (factor if samples > start else 1.0) * samples**-power * math.exp(noise * generator.normal()))
        for samples in range(STEP, BUDGET + 1, STEP)
    ]


def alarms(earlier: Sequence[Sequence[tuple[int, float]]], curve: Sequence[tuple[int, float]]) -> list[int]:
    """Samples at which the run raised an alarm."""
    expected = ExpectedCurve(earlier, BUDGET)
    return [samples for samples, loss in curve if expected.add(samples, loss)]


EARLIER = [planted(seed) for seed in range(5)]


def test_the_mean_of_each_window_by_hand() -> None:
    curve = [(samples, float(samples)) for samples in range(STEP, BUDGET + 1, STEP)]
    width = int(BUDGET * PART / WINDOWS)
    assert width % STEP == 0
    for window, mean in enumerate(window_means(curve, BUDGET)):
        inside = [samples for samples, _ in curve if window * width < samples <= (window + 1) * width]
        assert mean == pytest.approx(np.log(inside).mean())
    assert window_means([(BUDGET, 1.0)], BUDGET) == [None] * WINDOWS


def test_the_band_is_a_prediction_interval() -> None:
    means = np.array([window_means(curve, BUDGET) for curve in EARLIER], dtype=float)
    deviation = np.sqrt(means.var(axis=0, ddof=1).mean())
    assert pooled_deviation(EARLIER, BUDGET) == pytest.approx(max(deviation, FLOOR))
    for window, band in enumerate(bands(EARLIER, BUDGET, deviation=pooled_deviation(EARLIER, BUDGET))):
        assert band is not None
        of_window = max(means[:, window].std(ddof=1), deviation, FLOOR)
        assert math.log(band.upper) - math.log(band.lower) == pytest.approx(2 * WIDTH * of_window * math.sqrt(1.2))
        assert (math.log(band.upper) + math.log(band.lower)) / 2 == pytest.approx(means[:, window].mean())


def test_clean_runs_raise_no_alarm_whatever_the_noise() -> None:
    for noise in (0.0, 0.03, 0.3):
        earlier = [planted(seed, noise=noise) for seed in range(5)]
        assert not [seed for seed in range(100, 120) if alarms(earlier, planted(seed, noise=noise))]


@pytest.mark.parametrize("factor", [1.3, 0.7, 100.0, 1e-12, 0.0])
def test_a_run_outside_of_the_band_raises_one_alarm_in_the_first_window(factor: float) -> None:
    for seed in range(100, 110):
        assert alarms(EARLIER, planted(seed, factor=factor)) == [BUDGET * PART / WINDOWS]


def test_the_remark_says_when_on_which_side_and_how_far() -> None:
    expected = ExpectedCurve(EARLIER, BUDGET)
    (remark,) = [text for samples, loss in planted(100, factor=2, start=3_000) if (text := expected.add(samples, loss))]
    assert "up to 4,000 images is above the" in remark
    assert "expected from 5 earlier runs" in remark


def test_after_a_quarter_nothing_is_compared() -> None:
    assert not alarms(EARLIER, planted(100, factor=5, start=BUDGET // 4))
    assert alarms(EARLIER, planted(100, factor=5, start=BUDGET // 4 * 7 // 8)) == [BUDGET // 4]


def test_two_earlier_runs_give_no_band() -> None:
    assert not alarms(EARLIER[:2], planted(100, factor=9))
    assert alarms(EARLIER[:3], planted(100, factor=9))
    assert bands([], BUDGET, deviation=1.0) == [None] * WINDOWS


def test_equal_earlier_runs_give_the_band_of_the_floor() -> None:
    curve = planted(0, noise=0.0)
    inside, outside = math.exp(0.9 * WIDTH * FLOOR), math.exp(1.3 * WIDTH * FLOOR)
    assert not alarms([curve] * 4, planted(0, noise=0.0, factor=inside))
    assert alarms([curve] * 4, planted(0, noise=0.0, factor=outside))


def test_losses_that_are_not_finite_and_gaps_are_passed_over() -> None:
    curve = [(samples, math.nan if samples % 1_000 else loss) for samples, loss in planted(100)]
    assert not alarms(EARLIER, curve)
    assert not alarms(EARLIER, [(BUDGET, 9.0)])


def test_a_resumed_run_neither_forgets_nor_repeats() -> None:
    curve = planted(100, factor=2, start=3_000)
    whole = alarms(EARLIER, curve)
    for cut in (5, 20, 35, 38, 45, 70):
        expected = ExpectedCurve(EARLIER, BUDGET, curve=curve[:cut])
        after = [samples for samples, loss in curve[cut:] if expected.add(samples, loss)]
        assert after == [samples for samples in whole if samples > curve[cut - 1][0]]
