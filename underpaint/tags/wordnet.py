"""WordNet 3.0 without its glosses: the synsets of a word, and the more general synsets of a synset.

All 117,659 synsets stand in ``wordnet.parquet`` beside this file, made by ``tools/make_wordnet.py``; the licence is
``WORDNET-LICENSE``. An id is the letter of the file that holds the synset (n noun, v verb, a adjective, r adverb) and
its offset there, in Princeton's edition, in eight digits: n02084071 is the dog. For nouns these are ImageNet's ids.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

Part = Literal["n", "v", "a", "r"]

_PARTS: tuple[str, ...] = get_args(Part)
_OFFSETS = 10**8
"""Factor between the codes of parts of speech; offsets have at most eight digits."""


@dataclass(frozen=True, kw_only=True)
class Synset:
    """A set of words with one meaning, and its links to more general synsets."""

    id: str
    pos: str
    """Part of speech: n, v, a, s or r. A satellite adjective (s), near another in meaning, has an id with ``a``."""
    lemmas: tuple[str, ...]
    """The words that have this meaning, as they are written (``Canis familiaris``), in WordNet's order."""
    hypernyms: tuple[str, ...]
    """The ids of more general synsets; several where it is a kind of several things. None of adjectives and adverbs."""
    instance_hypernyms: tuple[str, ...]
    """The ids of the synsets that a name is an instance of (France: European country); empty for kinds of things."""


@dataclass(frozen=True, kw_only=True)
class Sense:
    """One meaning of one word."""

    synset: str
    number: int
    """Rank within the word's part of speech, from 1, the most frequent meaning, as far as meanings were counted."""
    count: int
    """Number of uses of the word with this meaning in the texts that WordNet's authors tagged; mostly 0."""


@cache
def wordnet() -> WordNet:
    """The WordNet table of this package, read on first use."""
    return WordNet(Path(__file__).with_name("wordnet.parquet"))


class WordNet:
    """Lookups by word and by id. Words are found in any case and with ``_`` for a blank, but not inflected."""

    def __init__(self, file: Path) -> None:
        """Read a table as ``tools/make_wordnet.py`` writes it."""
        import pyarrow
        import pyarrow.compute
        import pyarrow.parquet

        with pyarrow.parquet.ParquetFile(file) as opened:
            self._table: Any = opened.read(use_threads=False).combine_chunks()
        ids, lemmas = self._column("id"), self._column("lemmas")
        compute: Any = pyarrow.compute  # its functions are made when it is imported
        self._codes = _codes(ids)
        """Code of each row's id (``_code``); ascending, as the table is written."""
        encoded = compute.dictionary_encode(compute.ascii_lower(lemmas.flatten()))
        word = encoded.indices.to_numpy()
        order = np.argsort(word, kind="stable")
        self._first = np.concatenate([[0], np.cumsum(np.bincount(word))])
        """Start of each word's senses in the three arrays below, and the end of the last."""
        self._row = np.repeat(np.arange(len(ids), dtype=np.int32), np.diff(lemmas.offsets.to_numpy()))[order]
        self._number = self._column("senses").flatten().to_numpy()[order]
        self._count = self._column("counts").flatten().to_numpy()[order]
        self._word = {text: number for number, text in enumerate(encoded.dictionary.to_pylist())}
        pyarrow.default_memory_pool().release_unused()  # 30 MiB of what reading took

    def __contains__(self, lemma: str) -> bool:
        return _plain(lemma) in self._word

    def senses_of(self, lemma: str, pos: Part | None = None) -> tuple[Sense, ...]:
        """The meanings of a word; () for one that WordNet lacks.

        Those of one part of speech stand in the order of their numbers. Without ``pos`` they stand by falling count,
        and where counts are equal, as they mostly are at 0, nouns before verbs, adjectives and adverbs, then by number.
        """
        word = self._word.get(_plain(lemma))
        places = () if word is None else range(self._first[word], self._first[word + 1])
        senses = {
            Sense(
                synset=_id(int(self._codes[self._row[place]])),
                number=int(self._number[place]),
                count=int(self._count[place]),
            )
            for place in places
        }  # a set, since a few synsets have a word twice, in two cases
        if pos is not None:
            return tuple(sorted((sense for sense in senses if sense.synset[0] == pos), key=lambda sense: sense.number))
        return tuple(sorted(senses, key=lambda sense: (-sense.count, _PARTS.index(sense.synset[0]), sense.number)))

    def synsets_of(self, lemma: str, pos: Part | None = None) -> tuple[str, ...]:
        """The ids of the meanings of a word, in the order of ``senses_of``."""
        return tuple(sense.synset for sense in self.senses_of(lemma, pos))

    def synset(self, id_: str) -> Synset:
        """The synset of an id.

        Raises:
            ValueError: for an id that WordNet 3.0 does not have.
        """
        row = self._row_of(id_)
        fields = {name: self._column(name)[row].as_py() for name in self._table.column_names}
        return Synset(
            id=fields["id"],
            pos=fields["pos"],
            lemmas=tuple(fields["lemmas"]),
            hypernyms=tuple(fields["hypernyms"]),
            instance_hypernyms=tuple(fields["instance_hypernyms"]),
        )

    def lemmas(self, id_: str) -> tuple[str, ...]:
        """The words of a synset, as in ``Synset.lemmas``.

        Raises:
            ValueError: for an id that WordNet 3.0 does not have.
        """
        return tuple(self._column("lemmas")[self._row_of(id_)].as_py())

    def has_synset(self, id_: str) -> bool:
        """Whether WordNet 3.0 has this id."""
        return bool(np.isin(_code(id_), self._codes))

    def hypernyms(self, id_: str) -> tuple[str, ...]:
        """The ids of the synsets one step more general, including those that a name is an instance of; () at the top.

        Raises:
            ValueError: for an id that WordNet 3.0 does not have.
        """
        row = self._row_of(id_)
        return tuple(self._column("hypernyms")[row].as_py() + self._column("instance_hypernyms")[row].as_py())

    def words(self) -> tuple[str, ...]:
        """All words in small letters, compounds with blanks, in the order in which the table first has them."""
        return tuple(self._word)

    def is_name(self, lemma: str) -> bool:
        """Whether a word that WordNet has is only ever written with a capital: France, DNA."""
        return _plain(lemma) in self._word and _plain(lemma) not in self._written_small

    def below(self, id_: str) -> frozenset[str]:
        """The ids of a synset and of all its kinds and instances, in any number of steps.

        Raises:
            ValueError: for an id that WordNet 3.0 does not have.
        """
        children, parents = self._links
        reached = np.zeros(len(self._codes), dtype=bool)
        reached[self._row_of(id_)] = True
        frontier = reached.copy()
        while frontier.any():
            lower = np.zeros_like(reached)
            lower[children[frontier[parents]]] = True
            frontier = lower & ~reached
            reached |= frontier
        return frozenset(self._column("id").filter(reached).to_pylist())

    @cached_property
    def _written_small(self) -> frozenset[str]:
        lemmas = self._column("lemmas").flatten().to_pylist()
        return frozenset(lemma.lower() for lemma in lemmas if not lemma[0].isupper())

    @cached_property
    def _links(self) -> tuple[np.ndarray, np.ndarray]:
        """The rows of the lower and of the upper end of every link to something more general."""
        ends: list[np.ndarray] = []
        rows = np.arange(len(self._codes))
        for name in ("hypernyms", "instance_hypernyms"):
            column = self._column(name)
            lower = np.repeat(rows, np.diff(column.offsets.to_numpy()))
            ends.append(np.stack([lower, np.searchsorted(self._codes, _codes(column.flatten()))]))
        lower, upper = np.concatenate(ends, axis=1)
        return lower, upper

    def _row_of(self, id_: str) -> int:
        code = _code(id_)
        row = int(np.searchsorted(self._codes, code))
        if row == len(self._codes) or self._codes[row] != code:
            raise ValueError(f"WordNet 3.0 has no synset {id_!r}; an id looks like n02084071")
        return row

    def _column(self, name: str) -> Any:
        return self._table.column(name).chunk(0)


def _plain(lemma: str) -> str:
    return lemma.lower().replace("_", " ")


def _code(id_: str) -> int:
    """A number for an id; -1 for a text that is not an id."""
    letter, digits = id_[:1], id_[1:]
    good = letter in _PARTS and len(digits) == 8 and digits.isascii() and digits.isdigit()
    return _PARTS.index(letter) * _OFFSETS + int(digits) if good else -1


def _codes(ids: Any) -> np.ndarray:
    """The numbers for an array of ids."""
    import pyarrow
    import pyarrow.compute

    compute: Any = pyarrow.compute
    part = compute.index_in(compute.utf8_slice_codeunits(ids, 0, 1), value_set=pyarrow.array(_PARTS))
    offset = compute.utf8_slice_codeunits(ids, 1).cast(pyarrow.int64())
    return part.to_numpy().astype(np.int64) * _OFFSETS + offset.to_numpy()


def _id(code: int) -> str:
    part, offset = divmod(code, _OFFSETS)
    return f"{_PARTS[part]}{offset:08d}"
