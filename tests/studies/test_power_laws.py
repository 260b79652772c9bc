"""The power law with an offset: its parameters on exact curves, the coverage of its bands, and what it refuses."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import curve_fit

from underpaint.studies.power_laws import fit_power_law

COUNTS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)


def truth(x: float, offset: float, factor: float, exponent: float) -> float:
    return offset + factor * x**-exponent


@pytest.mark.parametrize(("offset", "factor", "exponent"), [(0.3, 2.0, 0.5), (0.0, 1.0, 0.05), (0.6, -0.4, 1.3)])
@pytest.mark.parametrize("unit", [1.0, 1e12])
def test_an_exact_curve_gives_its_parameters(offset: float, factor: float, exponent: float, unit: float) -> None:
    law = fit_power_law([unit * x for x in COUNTS], [truth(x, offset, factor, exponent) for x in COUNTS])
    assert law.exponent == pytest.approx(exponent, rel=1e-3)
    assert law.offset == pytest.approx(offset, abs=2e-3)
    assert law.factor / unit**law.exponent == pytest.approx(factor, abs=2e-3)
    assert law.deviation < 1e-6
    assert law(64 * unit) == pytest.approx(truth(64, offset, factor, exponent), abs=1e-5)


def test_the_fit_is_that_of_a_general_least_squares_solver() -> None:
    noise = np.random.default_rng(3).normal(0, 0.004, len(COUNTS))
    y = [truth(x, 0.35, 0.4, 0.6) + e for x, e in zip(COUNTS, noise, strict=True)]
    law = fit_power_law(COUNTS, y)
    parameters, _ = curve_fit(truth, COUNTS, y, p0=(0.3, 0.5, 0.5))
    assert (law.offset, law.factor, law.exponent) == pytest.approx(tuple(parameters), rel=1e-3)
    residuals = [a - truth(x, *parameters) for x, a in zip(COUNTS, y, strict=True)]
    assert law.deviation == pytest.approx(math.sqrt(sum(r**2 for r in residuals) / 3), rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("offset", "factor", "exponent", "noise"), [(0.3, 2.0, 0.5, 0.01), (0.2, 1.5, 0.8, 0.02), (0.5, 0.3, 0.15, 0.005)]
)
@pytest.mark.parametrize("points", [5, 6])
def test_bands_of_95_per_cent_cover_90_to_99_of_100(
    offset: float, factor: float, exponent: float, noise: float, points: int
) -> None:
    """Inside the points, twice beyond the last, and for one more measurement there."""
    counts = COUNTS[:points]
    beyond = 2 * counts[-1]
    covered = {"inside": 0, "beyond": 0, "measured": 0}
    for seed in range(100):
        rng = np.random.default_rng(seed)
        y = [truth(x, offset, factor, exponent) + rng.normal(0, noise) for x in counts]
        law = fit_power_law(counts, y)
        inside, outside, measured = law.band(3.0), law.band(beyond), law.prediction(beyond)
        covered["inside"] += inside.low <= truth(3.0, offset, factor, exponent) <= inside.high
        there = truth(beyond, offset, factor, exponent)
        covered["beyond"] += outside.low <= there <= outside.high
        covered["measured"] += measured.low <= there + rng.normal(0, noise) <= measured.high
    assert all(90 <= count <= 99 for count in covered.values()), covered


def test_a_flat_curve_has_a_band_around_its_level() -> None:
    rng = np.random.default_rng(0)
    law = fit_power_law(COUNTS, [0.5 + rng.normal(0, 0.01) for _ in COUNTS])
    band = law.band(16.0)
    assert band.low < 0.5 < band.high
    assert band.high - band.low < 0.1


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        ((1, 2, 3, 4), (1, 2, 3, 4), "4 different values of x are too few"),
        ((1, 1, 2, 3, 4), (1, 2, 3, 4, 5), "4 different values of x are too few"),
        ((1, 2, 3, 4, 5), (1, 2, 3, 4), "5 values of x and 4 of y"),
        ((0, 1, 2, 3, 4), (1, 2, 3, 4, 5), "an x above 0"),
        ((1, 2, 3, 4, 5), (1, 2, math.nan, 4, 5), "finite"),
    ],
)
def test_points_that_determine_no_law_are_refused(x: tuple[float, ...], y: tuple[float, ...], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        fit_power_law(x, y)
