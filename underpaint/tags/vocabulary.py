"""The label space: which tags become classes, and the ids of an image's labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """Labels in the order of their ids, with the number of training images that carry each."""

    labels: tuple[str, ...]
    count: tuple[int, ...]

    def ids(self, tags: Iterable[str]) -> tuple[int, ...]:
        """Distinct ids of the in-vocabulary tags of one image, sorted (the k labels of the 1/k target)."""
        return tuple(sorted({self._index[tag] for tag in tags if tag in self._index}))

    @cached_property
    def _index(self) -> dict[str, int]:
        return {label: index for index, label in enumerate(self.labels)}


def count_vocabulary(tags: Sequence[Sequence[str]], *, min_count: int, size: int) -> Vocabulary:
    """The ``size`` most frequent tags that at least ``min_count`` images have, most frequent first.

    Raises:
        ValueError: if fewer than two tags are frequent enough to classify by.
    """
    count = Counter(tag for row in tags for tag in set(row))
    ranked = sorted(count.items(), key=lambda item: (-item[1], item[0]))
    kept = [(tag, n) for tag, n in ranked if n >= min_count][:size]
    if len(kept) < 2:
        most = f"the most frequent is {ranked[0][0]!r} on {ranked[0][1]}" if ranked else "there are no tags at all"
        raise ValueError(f"fewer than two tags stand on at least min_count={min_count} training images; {most}")
    return Vocabulary(labels=tuple(tag for tag, _ in kept), count=tuple(n for _, n in kept))
