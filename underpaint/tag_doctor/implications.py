"""Proposals that one label implies another: every heron is also a bird, by WordNet or by the tags themselves."""

from __future__ import annotations

import math
from collections.abc import Container, Iterator
from functools import cache

import numpy as np

from underpaint.tag_doctor.contexts import Contexts
from underpaint.tag_doctor.labelled_set import LabelledSet
from underpaint.tag_doctor.proposal import Proposal, probability
from underpaint.tags.wordnet import WordNet, wordnet

LEAST_SHARE = 0.8
"""Smallest lower bound of the share of a label's images with another one that implies it without WordNet."""
LEAST_LIFT = 3.0
LEAST_DEPTH = 5
WIDER = 2.0
"""An implied label is on so many times more images."""
Z = 1.645
WORDNET_ODDS = 1.0
"""Log odds of an implication of WordNet's where both labels meet as often as by chance."""


def implications(labelled: LabelledSet, contexts: Contexts, merged: Container[tuple[int, int]]) -> Iterator[Proposal]:
    """Implications of the labels, but for pairs that are to be ``merged``."""
    known, label_of = wordnet(), {synset: label for label, synset in enumerate(labelled.synsets) if synset}
    for label in range(len(labelled.names)):
        kinds = nearest_above(known, labelled.synsets[label], label_of) if labelled.synsets[label] else []
        for wider in kinds:
            if (label, wider) not in merged:
                yield _by_wordnet(labelled, label, wider)
        for proposal in _by_company(labelled, contexts, label):
            below = known.below(labelled.synsets[label]) if labelled.synsets[label] else frozenset[str]()
            is_merged = (label, proposal.target) in merged
            if proposal.target not in kinds and labelled.synsets[proposal.target] not in below and not is_merged:
                yield proposal


def nearest_above(known: WordNet, synset: str, label_of: dict[str, int]) -> list[int]:
    """The labels that WordNet has above a synset, without those above another one of them and vague ones."""
    nearest: dict[int, None] = {}
    seen: set[str] = set()
    frontier = [synset]
    while frontier:
        above = [id_ for lower in frontier for id_ in known.hypernyms(lower) if id_ not in seen]
        seen.update(above)
        nearest |= {label_of[id_]: None for id_ in above if id_ in label_of and not _is_vague(known, id_)}
        frontier = [id_ for id_ in dict.fromkeys(above) if id_ not in label_of]
    return list(nearest)


@cache
def _is_vague(known: WordNet, synset: str) -> bool:
    """Whether a synset is at most LEAST_DEPTH steps below WordNet's top, as objects, persons and materials are."""
    frontier = {synset}
    for _ in range(LEAST_DEPTH):
        if any(not known.hypernyms(id_) for id_ in frontier):
            return True
        frontier = {above for id_ in frontier for above in known.hypernyms(id_)}
    return False


def _by_wordnet(labelled: LabelledSet, label: int, wider: int) -> Proposal:
    together = labelled.images_with_both(label, wider)
    chance = labelled.count[label] * labelled.count[wider] / labelled.images
    lift = (together + 1) / (chance + 1)
    odds = WORDNET_ODDS + float(np.clip(math.log2(lift), -3, 3))
    reason = f"in WordNet, {labelled.shown(wider)} stands above {labelled.shown(label)}"
    return _implied(labelled, label, wider, score=probability(odds), reason=reason)


def _by_company(labelled: LabelledSet, contexts: Contexts, label: int) -> Iterator[Proposal]:
    beside, times, images = contexts.companions(label)
    share = wilson_lower(times, images)
    lift = times / images * labelled.images / labelled.count[beside]
    wide = labelled.count[beside] >= WIDER * labelled.count[label]
    for place in np.flatnonzero((share >= LEAST_SHARE) & (lift >= LEAST_LIFT) & wide).tolist():
        reason = f"{times[place]} of {images} images have both"
        yield _implied(labelled, label, int(beside[place]), score=float(share[place]), reason=reason)


def wilson_lower(times: np.ndarray, total: int) -> np.ndarray:
    """Lower bound of a share, with 95% confidence (Wilson)."""
    share = times / total
    middle = share + Z**2 / (2 * total)
    half = Z * np.sqrt(share * (1 - share) / total + Z**2 / (4 * total**2))
    return (middle - half) / (1 + Z**2 / total)


def _implied(labelled: LabelledSet, label: int, wider: int, *, score: float, reason: str) -> Proposal:
    return Proposal(
        kind="implication",
        score=round(score, 4),
        source=label,
        target=wider,
        label=labelled.target(label),
        also=labelled.target(wider),
        reason=reason,
        evidence={
            "count": float(labelled.count[label]),
            "target_count": float(labelled.count[wider]),
            "together": float(labelled.images_with_both(label, wider)),
        },
    )
