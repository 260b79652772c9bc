"""Choice of the WordNet meaning of a word that tags an image, also where it is inflected or run together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cache
from typing import Literal

from underpaint.tags.inflection import bases
from underpaint.tags.normalise import Form, squeeze
from underpaint.tags.segment import english
from underpaint.tags.wordnet import Part, WordNet

Parts = Literal["nouns", "all"]

PARTS: tuple[Part, ...] = ("n", "v", "a", "r")

THING, PERSON, PLACE = "n00001930", "n00007846", "n00027167"
THING_WEIGHT = 3
"""Weight of meanings that are visible things (below physical entity, but not a person); all others weigh 1."""
PART_WEIGHT: dict[Part, int] = {"n": 6, "a": 4, "v": 1, "r": 1}
"""Weight of each part of speech: tags name things, then properties, but WordNet's counted texts have more verbs."""
INFLECTED = 1 / 8
"""Weight of a meaning of the base where the inflected form is itself a word: ``glasses`` are spectacles."""
PRESENT = 1 / 8
"""Weight of a verb whose form ends in s, since that is mostly the plural of a noun: ``leaves``, ``plays``."""
FREQUENT, RARE = 2_000_000, 30_000
"""Smallest counts in English books of a well-known word and of an English word; 16,000 and 52,000 words reach them."""
ALIKE = 0.8
"""Smallest similarity (difflib's ratio) of two spellings of one word: ``theater``, ``theatre``."""
MIN_RUN = 6
"""Smallest number of letters of a run that may stand for a compound with a blank."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """A synset, and the reason for choosing it."""

    synset: str
    reason: str


_Candidate = tuple[float, int, int, str, str]
"""Score, part of speech, number of the sense, synset and lemma: the smallest is the best. Scores are negative."""


class Meanings:
    """Finds the meaning of a form by the rules that ``docs/tags.md`` states."""

    def __init__(self, known: WordNet, parts: Parts, *, multilingual: bool) -> None:
        """Set ``multilingual`` where words that are rare in English may belong to other languages."""
        self._known = known
        self._multilingual = multilingual
        self._parts = PARTS[:1] if parts == "nouns" else PARTS
        self._things, self._places = _kinds(known)
        self._compounds = _compounds(known)
        self._cache: dict[str, list[_Candidate]] = {}

    def find(self, form: Form) -> Meaning | None:
        """The meaning of the form; None where WordNet lacks it, or the word is hardly English."""
        for words in dict.fromkeys((form.whole, form.words)):
            for spellings in (self._spelled(words), self._respelled(words)):
                if meaning := self._best(spellings):
                    return meaning
        return None

    def is_well_known(self, word: str) -> bool:
        """Whether every reader of English knows the word: not the German ``das``, which WordNet has."""
        if len(word) < 3 or word not in self._known:
            return False
        if self._counted(word) or english().get(word, 0) >= FREQUENT:
            return True
        return self._known.is_name(word) and not self._places.isdisjoint(self._known.synsets_of(word))

    def choose(self, synsets: Iterable[str]) -> str:
        """The synset whose English words are the most frequent, weighted as above, for a word of another language."""
        return min((*self._weight(id_), id_) for id_ in synsets)[-1]

    def _weight(self, id_: str) -> tuple[float, int]:
        place = "".join(PARTS).index(id_[0])
        counts = [
            sense.count
            for lemma in self._known.lemmas(id_)
            for sense in self._known.senses_of(lemma)
            if sense.synset == id_
        ]
        weight = (THING_WEIGHT if id_ in self._things else 1) * PART_WEIGHT[PARTS[place]]
        return -(sum(counts) + 1) * weight, place

    def _spelled(self, words: Sequence[str]) -> Iterator[str]:
        """The words as they stand, with blanks or hyphens."""
        if len(words) > 1:
            yield from (" ".join(words), "-".join(words))
        elif not self._multilingual or self._is_english(words[0]):
            yield words[0]

    def _respelled(self, words: Sequence[str]) -> Iterator[str]:
        """Compounds of the same letters, and the one word that is written here as several."""
        squeezed = squeeze("".join(words))
        if len(words) > 1 and self._is_english(squeezed):
            yield squeezed
        for letters in (squeezed, *(base for part, base in bases(squeezed) if part == "n")):
            for compound in self._compounds.get(letters, ()):
                as_run = " " not in compound or (len(letters) >= MIN_RUN and self._is_named(compound))
                if len(words) > 1 or as_run:
                    yield compound

    def _best(self, lemmas: Iterable[str]) -> Meaning | None:
        candidates = [candidate for lemma in dict.fromkeys(lemmas) for candidate in self._candidates(lemma)]
        if not candidates:
            return None
        best = min(candidates)
        others = len({candidate[3] for candidate in candidates}) - 1
        return Meaning(best[3], f"WordNet: {best[4]}" + (f", before {others} other meanings" if others else ""))

    def _candidates(self, lemma: str) -> Iterator[_Candidate]:
        is_lemma = lemma in self._known
        if is_lemma:
            yield from self._senses(lemma)
        for part, base in bases(lemma):
            if part not in self._parts or (part != "n" and not lemma.isalpha()):
                continue  # only nouns end their compounds
            place = PARTS.index(part)
            weight = (INFLECTED if is_lemma else 1) * (PRESENT if part == "v" and lemma[-1] == "s" else 1)
            for score, of, number, synset, _ in self._senses(base) if base in self._known else ():
                if of == place:
                    yield score * weight, of, number, synset, base

    def _senses(self, lemma: str) -> list[_Candidate]:
        if lemma not in self._cache:
            self._cache[lemma] = [
                (
                    -(sense.count + 1) * (THING_WEIGHT if sense.synset in self._things else 1) * PART_WEIGHT[part],
                    self._parts.index(part),
                    sense.number,
                    sense.synset,
                    lemma,
                )
                for part in self._parts
                for sense in self._known.senses_of(lemma, part)
            ]
        return self._cache[lemma]

    def _is_english(self, word: str) -> bool:
        """Whether a single word, or a base of it, is English and not just spelled like a rare word of WordNet's.

        It is a name, or one that WordNet's authors found in their texts, or it stands in books, or is spelled nearly
        like a word that does and means the same. Two letters are mostly abbreviations of something else.
        """
        if len(word) == 2:
            meanings = len(self._known.synsets_of(word))
            return meanings == 1 or (meanings > 0 and (self._counted(word) or english().get(word, 0) >= FREQUENT))
        known = [each for each in (word, *(base for _, base in bases(word))) if each in self._known]
        return any(
            self._known.is_name(each) or self._counted(each) or english().get(each, 0) >= RARE or self._is_variant(each)
            for each in known
        )

    def _is_named(self, compound: str) -> bool:
        """Whether a compound is more than a verb, which is not written in one word: callout is not to call out."""
        return any(id_[0] != "v" for id_ in self._known.synsets_of(compound))

    def _counted(self, word: str) -> bool:
        return any(sense.count for sense in self._known.senses_of(word))

    def _is_variant(self, word: str) -> bool:
        """Whether another word for one of its meanings is in books and has nearly the same letters."""
        others = {lemma.lower() for id_ in self._known.synsets_of(word) for lemma in self._known.lemmas(id_)}
        counts = english()
        return any(
            squeeze(variant) == word
            or (
                counts.get(variant, 0) >= RARE and SequenceMatcher(None, word, variant, autojunk=False).ratio() >= ALIKE
            )
            for variant in others - {word}
        )


@cache
def _kinds(known: WordNet) -> tuple[frozenset[str], frozenset[str]]:
    """The synsets of things one can see, and of places."""
    return known.below(THING) - known.below(PERSON), known.below(PLACE)


@cache
def _compounds(known: WordNet) -> dict[str, list[str]]:
    """Words with blanks, hyphens and the like, by their letters alone."""
    compounds: dict[str, list[str]] = {}
    for word in known.words():
        if not word.isalnum():
            compounds.setdefault(squeeze(word), []).append(word)
    return compounds
