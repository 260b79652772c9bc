"""Power law with an offset, ``y = offset + factor * x ** -exponent``, with bands (the paper's Figures 2, 3 and 7).

For a fixed exponent the law is a straight line in ``x ** -exponent``, so the fit searches over the exponent alone. The
band at ``x`` is the profile likelihood interval of the law's value there: all values that some law passes through whose
sum of squares is within Student's limit of the best. Other than the linearised band, it stays honest where the data
hardly determine the exponent, as they do beyond the largest ``x``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from underpaint.evals.statistics import student_quantile

FEWEST_POINTS = 5
"""Different values of ``x`` that a law is fitted to: it has three parameters, and noise must be estimated as well."""
EXPONENTS = (0.01, 4.0)
"""Range that is searched: below it the law is a logarithm to the eye, above it a step."""
STEPS = 400
"""Exponents in the band's search, evenly spaced in their logarithm."""
CONFIDENCE = 0.95


class Band(NamedTuple):
    """The law's value at some ``x`` with the ends of its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class PowerLaw:
    """A fitted law, ``y = offset + factor * x ** -exponent`` with ``x`` in its own unit, and the points behind it."""

    offset: float
    factor: float
    exponent: float
    deviation: float  # of the points from the law: the root of the sum of squares over ``freedom``
    x: tuple[float, ...]
    y: tuple[float, ...]

    @property
    def freedom(self) -> int:
        return len(self.x) - 3

    def __call__(self, x: float) -> float:
        return self.offset + self.factor * x**-self.exponent

    def band(self, x: float, *, confidence: float = CONFIDENCE) -> Band:
        """The interval of the law's value at ``x``: the truth lies in it with this confidence."""
        value, limit = self(x), _student(confidence, self.freedom) ** 2 * self.deviation**2
        best = self.freedom * self.deviation**2
        low, high = _passing(self.x, self.y, at=x, sum_of_squares=best + limit)
        return Band(value, min(value, low), max(value, high))

    def prediction(self, x: float, *, confidence: float = CONFIDENCE) -> Band:
        """The interval of one more point at ``x``, as noisy as those behind the law.

        The distances of the band's ends and the noise of the new point add up in squares.
        """
        value, low, high = self.band(x, confidence=confidence)
        noise = _student(confidence, self.freedom) * self.deviation
        return Band(value, value - math.hypot(value - low, noise), value + math.hypot(high - value, noise))


def fit_power_law(x: Sequence[float], y: Sequence[float]) -> PowerLaw:
    """Fit the law by least squares.

    Raises:
        ValueError: for fewer than five different values of ``x``, an ``x`` that is not positive, or a value that is not
            finite.
    """
    from scipy.optimize import minimize_scalar

    if len(x) != len(y):
        raise ValueError(f"{len(x)} values of x and {len(y)} of y; give one y for each x")
    if not all(math.isfinite(value) for value in (*x, *y)) or min(x, default=1.0) <= 0:
        raise ValueError("a power law needs finite values, and an x above 0")
    if (distinct := len(set(x))) < FEWEST_POINTS:
        raise ValueError(f"{distinct} different values of x are too few for a power law; it needs {FEWEST_POINTS}")
    scaled, values = _scaled(x), np.asarray(y, dtype=np.float64)
    exponents = _exponents()
    best = int(np.argmin(_squares(scaled ** -exponents[:, None], values)))
    around = (math.log(exponents[max(best - 1, 0)]), math.log(exponents[min(best + 1, STEPS - 1)]))
    minimum = minimize_scalar(
        lambda log_exponent: _squares(scaled[None] ** -math.exp(log_exponent), values)[0],
        bounds=around,
        method="bounded",
    )
    exponent = math.exp(minimum.x)
    offset, factor, squares = _line(scaled**-exponent, values)
    return PowerLaw(
        offset=offset,
        factor=factor * _unit(x) ** exponent,
        exponent=exponent,
        deviation=math.sqrt(squares / (len(x) - 3)),
        x=tuple(map(float, x)),
        y=tuple(map(float, y)),
    )


def _passing(x: Sequence[float], y: Sequence[float], *, at: float, sum_of_squares: float) -> tuple[float, float]:
    """The lowest and the highest value at ``at`` of laws with at most this sum of squares; (inf, -inf) for none.

    Given the exponent and the value v at ``at``, the best law is a line through the origin of (z - z_at, y - v) with
    z = x ** -exponent, and its sum of squares is a quadratic in v, ``a v^2 - 2 b v + c``.
    """
    values, exponents = np.asarray(y, dtype=np.float64), _exponents()[:, None]
    z = _scaled(x) ** -exponents - (at / _unit(x)) ** -exponents  # exponents x points
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    total, along = z.sum(axis=1), z @ values
    a, b, c = len(values) - total**2, values.sum() - total * along, values @ values - along**2
    inside = b**2 - a * (c - sum_of_squares)
    usable = (a > 0) & (inside >= 0)
    a, b, root = a[usable], b[usable], np.sqrt(inside[usable])
    return float(np.min((b - root) / a, initial=np.inf)), float(np.max((b + root) / a, initial=-np.inf))


def _squares(z: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Per row of ``z`` (exponents x points), the sum of squares that the best straight line through (z, y) leaves."""
    z, y = z - z.mean(axis=1, keepdims=True), y - y.mean()
    return y @ y - (z @ y) ** 2 / (z * z).sum(axis=1)


def _line(z: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    """Offset, slope and sum of squares of the straight line through the points."""
    centred = z - z.mean()
    slope = float(centred @ (y - y.mean()) / (centred @ centred))
    offset = float(y.mean() - slope * z.mean())
    return offset, slope, float(((y - offset - slope * z) ** 2).sum())


def _exponents() -> np.ndarray:
    return np.geomspace(*EXPONENTS, STEPS)


def _unit(x: Sequence[float]) -> float:
    """The geometric mean of ``x``, in which powers stay near 1."""
    return math.exp(math.fsum(map(math.log, x)) / len(x))


def _scaled(x: Sequence[float]) -> np.ndarray:
    return np.asarray(x, dtype=np.float64) / _unit(x)


def _student(confidence: float, freedom: int) -> float:
    return student_quantile(0.5 + confidence / 2, freedom)
