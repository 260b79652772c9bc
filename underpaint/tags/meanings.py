"""Which of WordNet's meanings a word has when it stands on an image, inflected or run together as it may be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from underpaint.tags.normalise import Form, squeeze
from underpaint.tags.segment import english
from underpaint.tags.wordnet import Part, WordNet

Parts = Literal["nouns", "all"]

ENDINGS: dict[Part, tuple[tuple[str, str], ...]] = {
    "n": (
        *(("s", ""), ("ses", "s"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh"), ("men", "man")),
        ("ies", "y"),
    ),
    "v": (("s", ""), ("ies", "y"), ("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""), ("ing", "e"), ("ing", "")),
    "a": (("er", ""), ("est", ""), ("er", "e"), ("est", "e")),
    "r": (),
}
"""WordNet's own rules (morphy): an ending, and what stands for it in the word's base."""

THING, PERSON = "n00001930", "n00007846"
THING_WEIGHT = 3
"""Of meanings that are things one can see (below physical entity, and no person), against all others."""
INFLECTED = 1 / 8
"""Of a meaning of the base where the inflected form is a word of its own: ``glasses`` are spectacles."""
EVERYDAY = 1_000_000
"""How often a word must stand in books to be taken for English; about the 22,000 most frequent do."""
MIN_RUN = 6
"""Letters of a run that may stand for a compound with a blank."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """A synset, and why it is this one."""

    synset: str
    reason: str


@dataclass(frozen=True, slots=True)
class _Candidate:
    score: float
    part: int
    number: int
    synset: str
    lemma: str

    def rank(self) -> tuple[float, int, int, str]:
        return (-self.score, self.part, self.number, self.synset)


class Meanings:
    """Finds the meaning of a form by the rules that ``docs/tags.md`` states."""

    def __init__(self, known: WordNet, parts: Parts) -> None:
        """Build the index of compounds."""
        self._known = known
        self._parts: tuple[Part, ...] = ("n",) if parts == "nouns" else ("n", "v", "a", "r")
        self._things = known.below(THING) - known.below(PERSON)
        self._compounds: dict[str, list[str]] = {}
        """Words with blanks, hyphens and the like, by their letters alone."""
        for word in known.words():
            if not word.isalnum():
                self._compounds.setdefault(squeeze(word), []).append(word)

    def find(self, form: Form) -> Meaning | None:
        """What the form means; None where WordNet does not tell, or the word is hardly English."""
        for words in dict.fromkeys((form.whole, form.words)):
            if found := self._best(self._spellings(words)):
                return found
        return None

    def _spellings(self, words: Sequence[str]) -> Iterator[str]:
        """The words as WordNet may write them."""
        if len(words) > 1:
            yield from (" ".join(words), "-".join(words))
        elif self._is_everyday(words[0]):
            yield words[0]
        squeezed = squeeze("".join(words))
        if len(words) > 1 and self._known.is_name(squeezed) | (english().get(squeezed, 0) >= EVERYDAY):
            yield squeezed
        for compound in self._compounds.get(squeezed, ()):
            if len(words) > 1 or " " not in compound or len(squeezed) >= MIN_RUN:
                yield compound

    def _best(self, lemmas: Iterable[str]) -> Meaning | None:
        found = [candidate for lemma in dict.fromkeys(lemmas) for candidate in self._candidates(lemma)]
        if not found:
            return None
        best = min(found, key=_Candidate.rank)
        others = len({candidate.synset for candidate in found}) - 1
        return Meaning(best.synset, f"WordNet: {best.lemma}" + (f", before {others} other meanings" if others else ""))

    def _candidates(self, lemma: str) -> Iterator[_Candidate]:
        own = lemma in self._known
        for part in self._parts:
            for base in dict.fromkeys([lemma, *self._bases(lemma, part)]):
                for sense in self._known.senses_of(base, part):
                    score = (sense.count + 1) * (THING_WEIGHT if sense.synset in self._things else 1)
                    score *= INFLECTED if own and base != lemma else 1
                    yield _Candidate(score, self._parts.index(part), sense.number, sense.synset, base)

    def _bases(self, lemma: str, part: Part) -> Iterator[str]:
        """Words of which this one is an inflection."""
        yield from irregular().get((lemma, part), ())
        if lemma.endswith("ss"):
            return
        for ending, base in ENDINGS[part]:
            if lemma.endswith(ending) and len(lemma) > len(ending) + 1:
                yield lemma.removesuffix(ending) + base

    def _is_everyday(self, word: str) -> bool:
        """Whether a single word is English to most people: a name of WordNet, or frequent in books."""
        if self._known.is_name(word):
            return True
        counts = english()
        bases = (base for part in self._parts for base in self._bases(word, part))
        return any(counts.get(each, 0) >= EVERYDAY for each in (word, *bases))


@cache
def irregular() -> dict[tuple[str, str], tuple[str, ...]]:
    """WordNet's exceptions: the bases of a form, by form and part of speech."""
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(Path(__file__).with_name("irregular.parquet")) as opened:
        table = opened.read(use_threads=False)
    found: dict[tuple[str, str], tuple[str, ...]] = {}
    columns = (table.column(name).to_pylist() for name in ("form", "part", "base"))
    for form, part, base in zip(*columns, strict=True):
        found[form, part] = (*found.get((form, part), ()), base)
    return found
