"""A threshold for each label at a stated precision, chosen on held-out images, and how well the label is seen there.

A threshold is the lowest score above which the precision is the stated one by the lower end of its one-sided 90% Wilson
interval, so a label that named few held-out images is not accepted by luck: at a precision of 0.9 it must have named
15, all of them right. Without the interval the share would be far lower on other images than on those that chose it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from underpaint.evals.average_precision import average_precision
from underpaint.evals.score import Interval
from underpaint.evals.statistics import NORMAL_CONFIDENCE

FEWEST_POSITIVE = 5
"""Held-out images of a label below which its average precision says nothing."""
FOLDS = 5
RESAMPLES = 1000
ONE_SIDED = 1.281552
"""Quantile of the normal distribution for 90% from one side."""

SEEN, UNSEEN, FEW = "seen", "not visible in pixels", "too few held-out images"


@dataclass(frozen=True, kw_only=True)
class LabelThreshold:
    """One label on the held-out images."""

    label: str
    images: int
    """Held-out images with the label."""
    average_precision: Interval
    """With a 95% interval by a stratified bootstrap of images; from 0 to 1 where the images are too few."""
    chance: float
    """Expected average precision of images in random order."""
    verdict: str
    """SEEN, UNSEEN where the interval covers chance, or FEW."""
    threshold: float | None
    """None for a label that is not written: it does not reach the precision, or is not seen."""
    reachable: float = 0.0
    """The highest precision that a label which is seen has a threshold for."""
    named: int = 0
    """Held-out images whose score is at least the threshold."""
    right: int = 0
    """Those of them that have the label."""
    named_apart: int = 0
    """The same by thresholds chosen without the image's fold: the honest estimate of the precision."""
    right_apart: int = 0

    @property
    def precision(self) -> Interval | None:
        """The precision of what is written, with a Wilson interval; too high, since the threshold was chosen here."""
        return wilson(self.right, self.named) if self.named else None

    @property
    def recall(self) -> Interval | None:
        """Share of the label's images that are named."""
        return wilson(self.right, self.images) if self.images else None


def label_thresholds(
    scores: np.ndarray, positive: np.ndarray, labels: Sequence[str], *, precision: float, seed: int = 0
) -> list[LabelThreshold]:
    """The threshold of each label, from the scores and truths (images, labels) of held-out images.

    Images are independent: no two of them are copies. ``seed`` draws the folds and the resamples.
    """
    assert scores.shape == positive.shape == (len(scores), len(labels)), (scores.shape, positive.shape, len(labels))
    fold = np.random.default_rng(seed).permutation(len(scores)) % FOLDS
    return [
        _of_label(label, scores[:, column], positive[:, column], fold, precision=precision, seed=seed)
        for column, label in enumerate(labels)
    ]


def _of_label(
    label: str, score: np.ndarray, positive: np.ndarray, fold: np.ndarray, *, precision: float, seed: int
) -> LabelThreshold:
    images = int(positive.sum())
    chance = chance_precision(images, len(score))
    measured, verdict = Interval(average_precision(score, positive) if images else 0.0, 0.0, 1.0), FEW
    if FEWEST_POSITIVE <= images < len(score):
        measured = precision_interval(score, positive, seed=seed)
        verdict = SEEN if measured.low > chance else UNSEEN
    row = LabelThreshold(
        label=label, images=images, average_precision=measured, chance=chance, verdict=verdict, threshold=None
    )
    if verdict != SEEN:
        return row
    row = replace(row, reachable=float(_sure_precision(score, positive)[1].max()))
    if (threshold := choose_threshold(score, positive, precision=precision)) is None:
        return row
    named = score >= threshold
    apart = np.zeros(len(score), dtype=bool)
    for number in range(FOLDS):
        chosen = choose_threshold(score[fold != number], positive[fold != number], precision=precision)
        apart |= (fold == number) & (score >= (np.inf if chosen is None else chosen))
    return replace(
        row,
        threshold=threshold,
        named=int(named.sum()),
        right=int((named & positive).sum()),
        named_apart=int(apart.sum()),
        right_apart=int((apart & positive).sum()),
    )


def choose_threshold(score: np.ndarray, positive: np.ndarray, *, precision: float) -> float | None:
    """The lowest threshold with the precision, halfway to the next lower score; None where there is none."""
    ranked, sure = _sure_precision(score, positive)
    reached = np.flatnonzero(sure >= precision)
    if not len(reached):
        return None
    last = int(reached[-1])
    return float(ranked[last] if last + 1 == len(ranked) else (ranked[last] + ranked[last + 1]) / 2)


def fewest_named(precision: float) -> int:
    """Fewest images that a label must have named, all of them right, to reach a precision."""
    return math.ceil(precision * ONE_SIDED**2 / (1 - precision))


def _sure_precision(score: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The scores, falling, and the lower end of the precision down to each; 0 within images of equal scores."""
    order = np.argsort(-score, kind="stable")
    ranked, right = score[order].astype(np.float64), np.cumsum(positive[order])
    low, _ = _wilson_ends(right, np.arange(1, len(ranked) + 1), ONE_SIDED)
    is_last = np.append(np.diff(ranked) != 0, True)  # images of equal scores are named together
    return ranked, np.where(is_last, low, 0.0)


def wilson(hits: int, trials: int) -> Interval:
    """Wilson's 95% interval of a share."""
    low, high = _wilson_ends(np.array([hits]), np.array([trials]), NORMAL_CONFIDENCE)
    return Interval(hits / trials, float(low[0]), float(high[0]))


def _wilson_ends(hits: np.ndarray, trials: np.ndarray, quantile: float) -> tuple[np.ndarray, np.ndarray]:
    share, square = hits / trials, quantile**2
    middle, half = share + square / (2 * trials), np.sqrt(share * (1 - share) / trials + square / (4 * trials**2))
    ends = [(middle + side * quantile * half) / (1 + square / trials) for side in (-1, 1)]
    return ends[0], ends[1]


def precision_interval(score: np.ndarray, positive: np.ndarray, *, seed: int) -> Interval:
    """Average precision with a 95% interval: images with and without the label are drawn again, each among themselves.

    Average precision depends on how many images without the label stand above each with it. So these are drawn as
    numbers between neighbouring scores, which has the distribution of drawing them one by one.
    """
    levels, group = np.unique(-score[positive], return_inverse=True)
    with_label = np.bincount(group)
    negative = np.sort(-score[~positive])
    above = np.searchsorted(negative, levels, side="right")  # equal scores enter together
    without = np.diff([0, *above, len(negative)])
    generator = np.random.default_rng(seed)
    drawn = generator.multinomial(with_label.sum(), with_label / with_label.sum(), size=RESAMPLES)
    others = generator.multinomial(len(negative), without / len(negative), size=RESAMPLES)[:, :-1]
    right = drawn.cumsum(axis=1)
    values = (drawn * right / np.maximum(right + others.cumsum(axis=1), 1)).sum(axis=1) / with_label.sum()
    low, high = np.quantile(values, [0.025, 0.975])
    return Interval(average_precision(score, positive), float(low), float(high))


def chance_precision(positive: int, images: int) -> float:
    """Expected average precision of ``images`` in random order, of which ``positive`` have the label."""
    if positive == 0 or images == positive:
        return float(positive > 0)
    harmonic = math.fsum(1 / place for place in range(1, images + 1)) / images
    return harmonic + (positive - 1) / (images - 1) * (1 - harmonic)
