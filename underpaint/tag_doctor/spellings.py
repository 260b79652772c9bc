"""Words of nearly the same letters: found by the words that a deleted letter leaves, without comparing all pairs."""

from __future__ import annotations

import unicodedata
from array import array
from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise

import numpy as np

from underpaint.tags.normalise import squeeze

LEAST_LETTERS = 4
"""Fewest letters of words that may differ in one."""
LETTERS_OF_TWO = 9
"""Fewest letters of words that may differ in two."""
MOST_LETTERS = 40
MOST_IN_BLOCK = 60
"""Words that one remainder may have in common; more have an ending in common rather than a spelling."""
ENDINGS = ("s", "es", "n", "en", "e", "er", "i", "a", "ed", "ing", "os", "as", "x")
"""Endings by which inflected words differ, in the languages that use Latin letters."""
_LETTERS = str.maketrans({"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ı": "i"})


def folded(name: str) -> str:
    """The letters of a name in lower case, without accents, blanks and hyphens."""
    letters = unicodedata.normalize("NFKD", squeeze(name.lower()).translate(_LETTERS))
    return "".join(mark for mark in letters if not unicodedata.combining(mark) or ord(mark) > 0x36F)


def near_spellings(words: Sequence[str]) -> Iterator[tuple[int, int, int]]:
    """Pairs of places of words that differ in at most one letter, long ones in two, with their distance.

    Words that differ by one of ENDINGS alone have the distance 1. Words with different numbers are left apart: ``boeing
    737`` is another thing than ``boeing 747``, and ``session 3`` than ``session 8``.
    """
    hashes, owners = array("q"), array("i")
    for place, word in enumerate(words):
        rests = _remainders(word)
        hashes.extend(map(hash, rests))
        owners.extend([place] * len(rests))
    hashed, owner = np.asarray(hashes, dtype=np.int64), np.asarray(owners, dtype=np.int32)
    order = np.lexsort((owner, hashed))
    hashed, owner = hashed[order], owner[order]
    bounds = np.flatnonzero(np.diff(hashed, prepend=hashed[:1] - 1, append=hashed[-1:] + 1))
    digits = ["".join(filter(str.isdigit, word)) for word in words]
    pairs: set[tuple[int, int]] = {
        pair
        for start, end in pairwise(bounds.tolist())
        if 1 < end - start <= MOST_IN_BLOCK
        for pair in combinations(owner[start:end].tolist(), 2)
    }
    for first, second in sorted(pairs):
        if first == second or digits[first] != digits[second]:
            continue
        if words[first] == words[second]:
            yield first, second, 0
            continue
        far = 1 if is_inflected(words[first], words[second]) else distance(words[first], words[second])
        if far <= allowed(words[first], words[second]):
            yield first, second, far


def allowed(first: str, second: str) -> int:
    """Largest distance of two words that may be spellings of one."""
    letters = min(len(first), len(second))
    return 0 if letters < LEAST_LETTERS else 1 if letters < LETTERS_OF_TWO else 2


def is_inflected(first: str, second: str) -> bool:
    """Whether one word is the other with one of ENDINGS."""
    longer, shorter = (first, second) if len(first) > len(second) else (second, first)
    return len(shorter) >= LEAST_LETTERS and longer.startswith(shorter) and longer.removeprefix(shorter) in ENDINGS


def _remainders(word: str) -> set[str]:
    """The word itself, without any one letter, or two of a long word, and without its ending."""
    deleted = {word}
    deleted |= {word.removesuffix(ending) for ending in ENDINGS if len(word) >= LEAST_LETTERS + len(ending)}
    if LEAST_LETTERS <= len(word) <= MOST_LETTERS:
        once = {word[:place] + word[place + 1 :] for place in range(len(word))}
        deleted |= once
        if len(word) >= LETTERS_OF_TWO:
            deleted |= {rest[:place] + rest[place + 1 :] for rest in once for place in range(len(rest))}
    return deleted


def distance(first: str, second: str) -> int:
    """Letters to insert, delete, replace or swap with the next (optimal string alignment)."""
    before: list[int] = []
    row = list(range(len(second) + 1))
    for i, letter in enumerate(first, 1):
        above, before, row = before, row, [i]
        for j, own_letter in enumerate(second, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != own_letter))
            if i > 1 and j > 1 and letter == second[j - 2] and first[i - 2] == own_letter:
                cost = min(cost, above[j - 2] + 1)
            row.append(cost)
    return row[-1]
