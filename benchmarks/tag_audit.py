"""Coverage and width of the intervals of ``tags audit`` on simulated labels whose truth is known.

    python benchmarks/tag_audit.py --seeds 0 1 2

A label stands in a set of 5,000 images, 1 to 15% of which show its thing; 5 to 70% of these lack the tag, and 2 to 35%
of the tags are wrong (all uniform, the prevalence in its logarithm). A head scores the images with normal noise. The
answers are the truth. Heads: ``good`` (the means of images with and without the thing are 2.5 deviations apart),
``weak`` (1.5), ``boastful`` (0.7, and its probabilities claim 4), ``backward`` (-1.5) and none. The last rows show
for comparison another estimate of the good head's samples, by Jeffreys' prior for each part. Exits with 1 if an
interval of 90% of the audit covers less than 85% of the labels, for any head and number of images.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from underpaint.tag_doctor.audit.design import drawing_order, parts_of
from underpaint.tag_doctor.audit.estimate import DRAWS, TAIL, Estimate, Stratum, estimate_shares

IMAGES = 5_000


class Population(NamedTuple):
    """Images of one label: whether each shows the thing and has the tag, and normal noise for its score."""

    shows: np.ndarray
    tagged: np.ndarray
    noise: np.ndarray

    @property
    def wrong(self) -> float:
        return float((~self.shows[self.tagged]).mean())

    @property
    def missing(self) -> float:
        return float((~self.tagged[self.shows]).mean())


class Judged(NamedTuple):
    """True shares of a label, and the estimates."""

    truth: tuple[float, float]
    estimates: tuple[Estimate, Estimate]


def simulate(random: np.random.Generator) -> Population:
    """A label with wrong and missing tags."""
    shows = random.random(IMAGES) < math.exp(random.uniform(math.log(0.01), math.log(0.15)))
    tagged = shows & (random.random(IMAGES) > random.uniform(0.05, 0.7))
    tagged[np.flatnonzero(shows)[0]] = True
    share = random.uniform(0.02, 0.35)
    extra = round(int(tagged.sum()) * share / (1 - share))
    tagged[random.permutation(np.flatnonzero(~shows))[:extra]] = True
    return Population(shows, tagged, random.standard_normal(IMAGES))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def calibrated(population: Population, apart: float) -> np.ndarray:
    """The probabilities of a head that knows how good it is."""
    prevalence = population.shows.mean()
    seen = population.noise + apart * population.shows
    return sigmoid(apart * seen - apart**2 / 2 + np.log(prevalence / (1 - prevalence)))


HEADS: dict[str, Callable[[Population], np.ndarray | None]] = {
    "good": lambda population: calibrated(population, 2.5),
    "weak": lambda population: calibrated(population, 1.5),
    "boastful": lambda population: sigmoid(4 * (population.noise + 0.7 * population.shows) - 10),
    "backward": lambda population: sigmoid(2 * (population.noise - 1.5 * population.shows) - 4),
    "none": lambda population: None,
}


class Estimator(Protocol):
    """The shares of wrong and of missing tags from judged parts."""

    def __call__(
        self, wrong: Sequence[Stratum], missing: Sequence[Stratum], *, seed: int
    ) -> tuple[Estimate, Estimate]: ...


def by_jeffreys(wrong: Sequence[Stratum], missing: Sequence[Stratum], *, seed: int) -> tuple[Estimate, Estimate]:
    """The shares if the rate of every part has Jeffreys' prior by itself."""
    random, counts = np.random.default_rng(seed), []
    for parts in (wrong, missing):
        count = np.zeros(DRAWS)
        for part in parts:
            rate = random.beta(part.positive + 0.5, part.judged - part.positive + 0.5, size=DRAWS)
            count += part.positive + random.binomial(part.images - part.judged, rate)
        counts.append(count)
    carriers = sum(part.images for part in wrong)
    shares = counts[0] / carriers, counts[1] / np.maximum(carriers - counts[0] + counts[1], 1)
    first, second = (np.quantile(share, [0.5, TAIL, 1 - TAIL]).tolist() for share in shares)
    return Estimate(*first), Estimate(*second)


def audit(
    population: Population, score: np.ndarray | None, images: int, *, seed: int, estimator: Estimator = estimate_shares
) -> Judged:
    """The estimates if a person answers with the truth."""
    carriers, others = np.flatnonzero(population.tagged), np.flatnonzero(~population.tagged)
    strata: dict[str, list[Stratum]] = {"wrong": [], "missing": []}
    for part in parts_of(carriers, others, score, images):
        shows = population.shows[drawing_order(part, seed=seed, label="label")[: part.drawn]]
        found = int((~shows if part.side == "wrong" else shows).sum())
        strata[part.side].append(Stratum(len(part.rows), len(shows), found))
    truth = (population.wrong, population.missing)
    return Judged(truth, estimator(strata["wrong"], strata["missing"], seed=seed))


def judge_labels(
    labels: int, head: str, images: int, *, seed: int, estimator: Estimator = estimate_shares
) -> list[Judged]:
    """Audits of simulated labels, each with ``images`` to judge."""
    random = np.random.default_rng(seed)
    judged: list[Judged] = []
    for label in range(labels):
        population = simulate(random)
        score = HEADS[head](population)
        judged.append(audit(population, score, images, seed=1000 * seed + label, estimator=estimator))
    return judged


def coverage(judged: list[Judged], side: int) -> float:
    """Share of the labels whose true share lies in its interval."""
    inside = [each.estimates[side].low <= each.truth[side] <= each.estimates[side].high for each in judged]
    return sum(inside) / len(inside)


def median_width(judged: list[Judged], side: int) -> float:
    return float(np.median([each.estimates[side].high - each.estimates[side].low for each in judged]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds of the labels")
    parser.add_argument("--labels", type=int, default=100, help="labels of a seed (default: 100)")
    parser.add_argument("--images", type=int, nargs="+", default=[50, 66, 200], help="images to judge of a label")
    options = parser.parse_args()
    lowest = 1.0
    print("head       images  wrong: coverage (by seed)       width  missing: coverage (by seed)     width")
    rows = [(head, head, estimate_shares) for head in HEADS] + [("Jeffreys", "good", by_jeffreys)]
    for name, head, estimator in rows:
        for images in options.images:
            of_seed = [
                judge_labels(options.labels, head, images, seed=seed, estimator=estimator) for seed in options.seeds
            ]
            everything = [each for judged in of_seed for each in judged]
            columns = [f"{name:10} {images:6}"]
            for side in (0, 1):
                covered = coverage(everything, side)
                if estimator is estimate_shares:
                    lowest = min(lowest, covered)
                seeds = " ".join(f"{coverage(judged, side):.2f}" for judged in of_seed)
                columns.append(f"{covered:.3f} ({seeds}){'':8} {median_width(everything, side):.3f}")
            print("  ".join(columns), flush=True)
    print(f"lowest coverage: {lowest:.3f}")
    return int(lowest < 0.85)


if __name__ == "__main__":
    sys.exit(main())
