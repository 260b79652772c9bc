"""Proposals to merge two labels: spellings and inflections of one word, and words of one meaning.

The evidence is added as log odds: letters, the company that both keep, the images that have both, and the rows of a
trained head where there is one. The weights were set on simulated sets whose seeds the measurement does not use.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from underpaint.tag_doctor.contexts import MOST_EVIDENCE, Contexts, Difference
from underpaint.tag_doctor.head import Head
from underpaint.tag_doctor.labelled_set import LabelledSet
from underpaint.tag_doctor.proposal import Kind, Proposal, probability
from underpaint.tag_doctor.spellings import folded, is_inflected, near_spellings
from underpaint.tags.segment import english
from underpaint.tags.wordnet import WordNet, wordnet

LEAST_SCORE = 0.5
LEAST_ODDS = -4.0
"""Log odds below which a candidate is not even a rival."""
MOST_TAGS = 8
"""Tags of a label whose spellings are looked at, the most frequent ones."""
NEIGHBOURS = 5
"""Labels of the most similar context that are compared with each label."""
FEWEST_IMAGES = 8
"""Images with further labels that a label needs to be compared by its context alone."""
BLOCK = 1024
"""Labels that are compared with all others at a time."""
SPELLING_PRIOR = {0: 4.0, 1: 1.0, 2: 0.0}
"""Log odds of one word by the distance of the letters; a longer word gains LETTER for each letter above five."""
LETTER = 0.75
FIRST_LETTER = -1.0
SYNONYM_PRIOR = -4.0
SHARED_EVIDENCE = 0.8
"""Weight of each of two tests that partly see the same."""
NOISE_OF_COSINE = 1.3
"""Deviation of the cosine of one thing's contexts, times the images of the rarer label."""
MOST_RELATED = 0.92
"""Largest cosine that is taken for the usual one of two things."""
LEAST_COSINE = 0.7
SAMPLED_PAIRS = 2_000
SAME = 0.15
"""Difference of two words for one thing, as a share of the usual one between things of similar company."""
KNOWN_WORD = -3.0
"""A word that stands in many books is hardly a misspelling of another."""
FREQUENT_WORD = 30_000
DOUBLED = 0.05
"""Share of the images of a word that have another word for the same thing too."""
BESIDE = -4.0
"""Both on many of the rarer one's images: nobody writes a word and its misspelling."""


class _Pair(NamedTuple):
    rare: int
    frequent: int
    distance: int
    """Distance of the letters; -1 for words that are not spelled alike."""
    letters: tuple[str, str]
    """Letters of the two tags that are spelled alike."""


def merges(labelled: LabelledSet, contexts: Contexts, head: Head | None) -> Iterator[Proposal]:
    """The best merge of each label into a more frequent one, where it is likelier than not."""
    pairs = list(_pairs(labelled, contexts, head))
    rules = _Rules(labelled, contexts, head, pairs)
    candidates: dict[int, list[tuple[float, _Pair]]] = {}
    for pair in pairs:
        if (odds := rules.log_odds(pair)) > LEAST_ODDS:
            candidates.setdefault(pair.rare, []).append((odds, pair))
    for judged in candidates.values():
        odds, pair = max(judged, key=lambda each: (each[0], -each[1].frequent))
        # a label has one target at most, so candidates that are as good make each other doubtful
        rivals = sum(math.exp(min(each, 30.0)) for each, rival in judged if rival != pair)
        score = probability(odds - math.log1p(rivals))
        if score >= LEAST_SCORE:
            yield rules.proposal(pair, score)


def _pairs(labelled: LabelledSet, contexts: Contexts, head: Head | None) -> Iterator[_Pair]:
    """Pairs worth a look, the rarer label first: alike in letters, in company, or to the head."""
    rank = np.empty(len(labelled.names), dtype=np.int64)
    rank[np.argsort(-labelled.count, kind="stable")] = np.arange(len(rank))
    seen: set[tuple[int, int]] = set()
    for (first, second), (far, letters) in _spelled_alike(labelled).items():
        rare, frequent = (first, second) if rank[first] > rank[second] else (second, first)
        seen.add((rare, frequent))
        yield _Pair(rare, frequent, far, letters if rare == first else (letters[1], letters[0]))
    for first, second in (*_neighbours(contexts), *(head.neighbours(NEIGHBOURS) if head else ())):
        rare, frequent = (first, second) if rank[first] > rank[second] else (second, first)
        if (rare, frequent) not in seen:
            seen.add((rare, frequent))
            yield _Pair(rare, frequent, -1, ("", ""))


def _spelled_alike(labelled: LabelledSet) -> dict[tuple[int, int], tuple[int, tuple[str, str]]]:
    """Pairs of labels with nearly the same letters: the smallest distance of their tags, and the letters of these."""
    spellings = sorted({(folded(tag), label) for label, tags in enumerate(labelled.tags) for tag in tags[:MOST_TAGS]})
    alike: dict[tuple[int, int], tuple[int, tuple[str, str]]] = {}
    for first, second, far in near_spellings([letters for letters, _ in spellings]):
        (one_word, one_label), (next_word, next_label) = spellings[first], spellings[second]
        if one_label == next_label:
            continue
        if one_label > next_label:
            one_word, one_label, next_word, next_label = next_word, next_label, one_word, one_label
        entry = (far, (one_word, next_word))
        alike[one_label, next_label] = min(entry, alike.get((one_label, next_label), entry))
    return alike


def _neighbours(contexts: Contexts) -> Iterator[tuple[int, int]]:
    """Pairs of labels of which one is among the NEIGHBOURS of most similar context of the other."""
    labels = np.flatnonzero(contexts.images >= FEWEST_IMAGES)
    mean = contexts.mean[labels]
    mean = mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-9)
    best = min(NEIGHBOURS, len(labels) - 1)
    for start in range(0, len(labels) if best > 0 else 0, BLOCK):
        cosine = mean[start : start + BLOCK] @ mean.T
        cosine[np.arange(len(cosine)), start + np.arange(len(cosine))] = -2
        for row, near in enumerate(np.argpartition(-cosine, best - 1, axis=1)[:, :best].tolist()):
            for other_label in near:
                yield int(labels[start + row]), int(labels[other_label])


class _Rules:
    """The judgement of single pairs."""

    def __init__(self, labelled: LabelledSet, contexts: Contexts, head: Head | None, pairs: Sequence[_Pair]) -> None:
        self._set, self._contexts, self._head = labelled, contexts, head
        self._known = wordnet()
        compared = [pair for pair in pairs if pair.distance < 0 and self._is_compared(pair)]
        some = compared[:: max(len(compared) // SAMPLED_PAIRS, 1)]
        apart = [contexts.difference(pair.rare, pair.frequent).per_image for pair in some]
        self._usual = max(float(np.median(apart)), 1e-3) if apart else math.inf
        """Difference per image of labels of similar company, nearly all of which are different things."""
        cosines = [contexts.cosine(pair.rare, pair.frequent) for pair in some]
        self._usual_cosine = min(float(np.median(cosines)), MOST_RELATED) if cosines else MOST_RELATED

    def _is_compared(self, pair: _Pair) -> bool:
        """Whether two labels have images enough, and company alike enough, to be compared companion by companion."""
        enough = min(self._contexts.images[[pair.rare, pair.frequent]]) >= FEWEST_IMAGES
        return bool(enough) and self._contexts.cosine(pair.rare, pair.frequent) >= LEAST_COSINE

    def log_odds(self, pair: _Pair) -> float:
        """The log odds that a person would merge the pair."""
        rare, frequent = pair.rare, pair.frequent
        if _are_related(self._known, self._set.synsets[rare], self._set.synsets[frequent]):
            return -math.inf
        together = self._set.images_with_both(rare, frequent)
        if self._by_letters(pair):
            odds = self._spelling(pair, together) + self._contexts.likeness(rare, frequent).log_odds
        else:
            if not self._is_compared(pair):
                return -math.inf
            odds = SYNONYM_PRIOR + SHARED_EVIDENCE * self._sameness(self._contexts.difference(rare, frequent))
            odds += SHARED_EVIDENCE * self._closeness(rare, frequent)
            odds += _absence(together, self._contexts.expected_together(rare, frequent), int(self._set.count[rare]))
        cosine = self._head and self._head.cosine(rare, frequent)
        return odds + (self._head.log_odds(cosine) if self._head and cosine is not None else 0.0)

    def proposal(self, pair: _Pair, score: float) -> Proposal:
        rare, frequent, far, _ = pair
        kind, reason = self._told(pair)
        cosine = self._head and self._head.cosine(rare, frequent)
        evidence: dict[str, float] = {
            "count": float(self._set.count[rare]),
            "target_count": float(self._set.count[frequent]),
            "together": float(self._set.images_with_both(rare, frequent)),
            "expected_together": round(self._contexts.expected_together(rare, frequent), 1),
            "likeness": round(self._contexts.likeness(rare, frequent).value, 3),
            **({"distance": float(far)} if far >= 0 else {}),
            **({"head": round(cosine, 3)} if cosine is not None else {}),
        }
        return Proposal(
            kind=kind,
            score=round(score, 4),
            source=rare,
            target=frequent,
            label=self._set.target(frequent),
            reason=reason,
            evidence=evidence,
        )

    def _by_letters(self, pair: _Pair) -> bool:
        """Whether letters are evidence."""
        return pair.distance >= 0

    def _spelling(self, pair: _Pair, together: int) -> float:
        rare, frequent, far, (first, second) = pair
        odds = SPELLING_PRIOR[far]
        if far:
            odds += LETTER * min(len(first) - 5 * far, 5)
            odds += FIRST_LETTER if first[0] != second[0] else 0.0
            is_word = self._set.synsets[rare] or english().get(first, 0) >= FREQUENT_WORD
            odds += KNOWN_WORD if is_word else 0.0
            odds += float(np.clip(0.7 * math.log(self._set.count[frequent] / (4 * self._set.count[rare])), -2, 1.5))
            odds += BESIDE if together > 0.2 * self._set.count[rare] else 0.0
        return odds

    def _sameness(self, difference: Difference) -> float:
        """Log odds of one thing against two of similar company, whose usual difference the set itself shows."""
        noise = 2 * difference.freedom
        usual = difference.size * self._usual
        same, apart = SAME * usual, usual
        beyond = difference.square - difference.freedom
        of_same = -(max(beyond - same, 0.0) ** 2) / (2 * (noise + same**2))
        of_apart = -((beyond - apart) ** 2) / (2 * (noise + (apart / 2) ** 2))
        spread = 0.5 * math.log((noise + (apart / 2) ** 2 + 1e-9) / (noise + same**2 + 1e-9))
        return float(np.clip(of_same - of_apart + spread, -2 * MOST_EVIDENCE, 1.5 * MOST_EVIDENCE))

    def _closeness(self, rare: int, frequent: int) -> float:
        """Log odds of one thing by the cosine of the contexts: near 1, where two things have the set's usual one."""
        noise = NOISE_OF_COSINE / int(self._contexts.images[rare])
        cosine = min(self._contexts.cosine(rare, frequent), 1.0)
        same, apart = math.hypot(0.02, noise), math.hypot(0.07, noise)
        of_same, of_apart = ((cosine - 1) / same) ** 2, ((cosine - self._usual_cosine) / apart) ** 2
        return float(np.clip((of_apart - of_same) / 2 + math.log(apart / same), -2 * MOST_EVIDENCE, MOST_EVIDENCE))

    def _told(self, pair: _Pair) -> tuple[Kind, str]:
        if not self._by_letters(pair):
            return "synonym", "the same company, and hardly ever on one image"
        first, second = pair.letters
        if first == second:
            return "spelling", "the same letters without accents, blanks and hyphens"
        if is_inflected(first, second):
            return "inflection", "one word with another ending"
        return "spelling", "nearly the same letters, and the same company"


def _absence(together: int, expected: float, count: int) -> float:
    """Log odds of words for one thing, which few people write side by side, by the images that have both.

    They are on DOUBLED of the rarer one's images; two things of the same surroundings would be on ``expected`` ones.
    """
    usual = DOUBLED * count
    evidence = expected - usual + together * math.log((usual + 0.1) / (expected + 0.1)) if expected > usual else 0.0
    return float(np.clip(evidence, -2 * MOST_EVIDENCE, MOST_EVIDENCE))


def _are_related(known: WordNet, first: str, second: str) -> bool:
    """Whether WordNet says that two synsets are different things: one a kind of the other, or both of a third."""
    if not first or not second:
        return False
    above_first, above_second = set(known.hypernyms(first)), set(known.hypernyms(second))
    return bool(above_first & above_second) or first in _above(known, second) or second in _above(known, first)


def _above(known: WordNet, synset: str) -> set[str]:
    """The synsets above one, in any number of steps."""
    reached: set[str] = set()
    frontier = [synset]
    while frontier:
        frontier = [id_ for lower in frontier for id_ in known.hypernyms(lower) if id_ not in reached]
        reached.update(frontier)
    return reached
