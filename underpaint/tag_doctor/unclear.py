"""Proposals about labels that are unclear: words with two meanings, and words that say nothing about an image."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from underpaint.tag_doctor.contexts import LEAST_SQUARE, Contexts
from underpaint.tag_doctor.labelled_set import LabelledSet
from underpaint.tag_doctor.proposal import Proposal, probability
from underpaint.tags.normalise import plain
from underpaint.tags.wordnet import wordnet

FEWEST_IMAGES = 40
MOST_COMPANIONS = 24
"""Companions of a label that are grouped, those that are on the most of its images beyond chance."""
LEAST_LIFT = 2.0
LEAST_TIMES = 3
SMALLER_SIDE = 0.15
"""Smallest share of a label's images that the rarer meaning has."""
WITHIN, BETWEEN = 0.4, 0.25
"""Smallest mean cosine of companions of one meaning, and largest one of companions of different meanings."""
DEAD_SQUARE = 0.15
"""Largest squared length of a dead label's context, its noise included, as a share of the usual one."""
EVERYWHERE = 0.5
"""Share of the images from which on a label tells none of them apart."""
SHOWN = 5


class _Sides(NamedTuple):
    """Two groups of companions."""

    first: list[int]
    second: list[int]
    separation: float
    """1 where no image has companions of both groups, 0 where as many have as by chance."""
    share: float
    """Share of the images of the smaller group."""


def splits(labelled: LabelledSet, contexts: Contexts) -> Iterator[Proposal]:
    """Labels whose companions fall into two groups that neither look alike nor meet."""
    for label in np.flatnonzero(contexts.images >= FEWEST_IMAGES).tolist():
        sides = _sides(labelled, contexts, label)
        if sides is None:
            continue
        senses = max((len(wordnet().synsets_of(plain(tag), "n")) for tag in labelled.tags[label][:1]), default=0)
        odds = 6 * (sides.separation - 0.6) + (0.7 if senses > 1 else -0.7)
        groups = (", ".join(labelled.shown(each) for each in side[:SHOWN]) for side in (sides.first, sides.second))
        if odds > 0:
            yield Proposal(
                kind="split",
                score=round(probability(odds), 4),
                source=label,
                target=-1,
                label="",
                reason="two meanings: {}; or {}".format(*groups),
                evidence={
                    "count": float(labelled.count[label]),
                    "separation": round(sides.separation, 3),
                    "smaller_share": round(sides.share, 3),
                    "senses": float(senses),
                },
            )


def _sides(labelled: LabelledSet, contexts: Contexts, label: int) -> _Sides | None:
    """The two groups of companions; None where they are not clearly two."""
    beside, times, _ = contexts.companions(label)
    lift = contexts.lifts(label)[1]
    usable = (lift >= LEAST_LIFT) & (times >= LEAST_TIMES) & (contexts.square[beside] > LEAST_SQUARE)
    beside, times = beside[usable], times[usable]
    best = np.argsort(-times, kind="stable")[:MOST_COMPANIONS]
    beside, times = beside[best], times[best]
    if len(beside) < 4:
        return None
    mean = contexts.mean[beside]
    unit = mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-9)
    side = two_means(unit, times)
    cosine = unit @ unit.T
    same = side[:, None] == side[None, :]
    np.fill_diagonal(same, False)
    across = side[:, None] != side[None, :]
    if min(side.sum(), (~side).sum()) < 2 or cosine[same].mean() < WITHIN or cosine[across].mean() > BETWEEN:
        return None
    labels, lengths = contexts.labels_beside(label)
    image = np.repeat(np.arange(len(lengths)), lengths)
    counts = [np.bincount(image[np.isin(labels, beside[of])], minlength=len(lengths)) for of in (side, ~side)]
    several = counts[0] + counts[1] >= 2
    total = counts[0][several] + counts[1][several]
    share = float(counts[0].sum() / max(counts[0].sum() + counts[1].sum(), 1))
    by_chance = float((1 - share**total - (1 - share) ** total).sum())
    if min(share, 1 - share) < SMALLER_SIDE or by_chance < 5:
        return None
    crossed = int(((counts[0] > 0) & (counts[1] > 0)).sum())
    groups = sorted(([int(each) for each in beside[of]] for of in (side, ~side)), key=len, reverse=True)
    return _Sides(groups[0], groups[1], 1 - crossed / by_chance, min(share, 1 - share))


def two_means(unit: Float[np.ndarray, "n d"], weight: np.ndarray) -> np.ndarray:
    """Two groups of vectors by spherical k-means, from the two that are the least alike; true for the first group."""
    first, second = np.unravel_index(np.argmin(unit @ unit.T), (len(unit), len(unit)))
    centres = unit[[first, second]]
    side = np.zeros(len(unit), dtype=bool)
    for _ in range(20):
        before, side = side, unit @ centres[0] > unit @ centres[1]
        if (side == before).all() or side.all() or not side.any():
            break
        totals = np.stack([(unit[of] * weight[of, None]).sum(axis=0) for of in (side, ~side)])
        centres = totals / np.maximum(np.linalg.norm(totals, axis=1, keepdims=True), 1e-9)
    return side


def dead_labels(labelled: LabelledSet, contexts: Contexts) -> Iterator[Proposal]:
    """Labels that are on most images, or whose company is that of any image."""
    enough = contexts.images >= FEWEST_IMAGES
    usual = float(np.median(contexts.square[enough])) if enough.any() else 0.0
    for label in range(len(labelled.names)):
        share = labelled.count[label] / labelled.images
        evidence = {"count": float(labelled.count[label]), "share": round(float(share), 4)}
        if share > EVERYWHERE and labelled.images >= FEWEST_IMAGES:
            yield _dropped(label, 0.6, f"on {share:.0%} of all images", evidence)
        elif enough[label] and usual > 0:
            square, noise = float(contexts.square[label]), _noise(contexts.vectors(label))
            if square + 2 * noise < DEAD_SQUARE * usual:
                evidence["company"] = round(square / usual, 3)
                score = 0.6 if labelled.synsets[label] else 0.85
                yield _dropped(label, score, "on images of any kind: its company is that of all images", evidence)


def _noise(vectors: Float[np.ndarray, "n d"]) -> float:
    """Deviation of the estimate of the squared length of a mean without a true one."""
    n = len(vectors)
    some = vectors[:: max(n // 100, 1)]
    products = (some @ some.T)[~np.eye(len(some), dtype=bool)]
    return float(np.sqrt(2 * (products**2).mean() / (n * (n - 1))))


def _dropped(label: int, score: float, reason: str, evidence: dict[str, float]) -> Proposal:
    return Proposal(kind="dead", score=score, source=label, target=-1, label="", reason=reason, evidence=evidence)
