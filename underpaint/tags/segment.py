"""Segmentation of run-together English words by word counts in books: ``brownbear`` becomes ``brown bear``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path

MAX_LETTERS = 40
MAX_WORDS = 6
MIN_COUNT = 2_000_000
"""Smallest count of a word in a parted run, which leaves about the 16,000 most frequent of ``english.parquet``."""
MIN_LETTERS = 3
"""Smallest number of letters of a word in a parted run, but for those of SHORT."""
SHORT = frozenset(
    {"an", "as", "at", "be", "by", "do", "go", "in", "is", "it", "me", "my", "no", "of", "on", "or", "to"}
)
"""Words of two letters that a parted run may contain; other two-letter words are mostly abbreviations."""
MARGIN = math.log(10)
"""Smallest log ratio of the likelihoods of the best and the second-best parting; below it the run stays whole."""

MAX_COST = 2.6
"""Largest cost of a parting in nats per letter. Random letters cost 2.9, words of other languages (``bandera``) hardly
less."""


@cache
def english() -> Mapping[str, int]:
    """Counts of words in English books; see ``WORDS-LICENSE`` for the source."""
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(Path(__file__).with_name("english.parquet")) as opened:
        table = opened.read(use_threads=False)
    return dict(zip(table.column("word").to_pylist(), table.column("count").to_pylist(), strict=True))


class Segmenter:
    """Parts a run into its likeliest words, each drawn by its own frequency (a unigram model)."""

    def __init__(self, counts: Mapping[str, int]) -> None:
        """``counts`` holds the counts of words in small letters."""
        total = sum(counts.values())
        self._cost = {
            word: math.log(total / count)
            for word, count in counts.items()
            if count >= MIN_COUNT and (len(word) >= MIN_LETTERS or word in SHORT)
        }

    def part(self, run: str) -> tuple[str, ...]:
        """The two or more words of a run; () where it cannot be parted, or no parting is clearly the best."""
        if not 2 * MIN_LETTERS <= len(run) <= MAX_LETTERS or not run.isascii() or not run.isalpha():
            return ()
        # the two cheapest ways to part the letters up to each place, by cost and then by the words themselves
        ways: dict[int, list[tuple[float, tuple[str, ...]]]] = {0: [(0.0, ())]}
        for end in range(MIN_LETTERS - 1, len(run) + 1):
            extended = [
                (cost + self._cost[word], (*words, word))
                for start in ways
                if (word := run[start:end]) in self._cost
                for cost, words in ways[start]
                if len(words) < MAX_WORDS
            ]
            if extended:
                ways[end] = sorted(extended)[:2]
        if len(run) not in ways:
            return ()
        best, *others = ways[len(run)]
        cost, words = best
        clear = not others or others[0][0] - cost >= MARGIN
        likely = cost <= MAX_COST * len(run) and words[-1] not in SHORT
        return words if clear and likely and len(words) > 1 else ()
