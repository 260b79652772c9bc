"""Choice among near copies in one set, such as the frames of a burst: the images to keep and those to leave out.

Images come in an order of preference. One is kept unless it is a near copy of one that is kept already; so every image
that is left out is itself near to the image kept for it, and no chain of small changes joins two pictures. Near copies
are decided as for evaluation images: all pairs of near hashes, then their pixels.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int64

from underpaint.data.near_duplicates.candidates import Candidates, Search, alike_in_colour
from underpaint.data.near_duplicates.fingerprints import PerceptualHashes, Views
from underpaint.data.near_duplicates.pixels import DUPLICATE, differences
from underpaint.progress import progress

BLOCK = 256
"""Number of images compared with each other at once: where all are frames of one scene, each pair is a candidate."""
MAX_VIEWS = 8192
"""Largest number of images whose views are cached, with 6 kB each."""

ReadViews = Callable[[list[int]], Views]
"""Function that returns the views of some images, given their rows."""


@dataclass(frozen=True, kw_only=True)
class NearCopy:
    """An image that is left out, and the one that is kept for it, by their rows."""

    row: int
    kept: int
    distance: int
    """Number of differing bits of the hashes."""
    difference: float
    """The difference of the pixels, from 0 for the same to DUPLICATE."""
    mirrored: bool


def near_copies(prints: PerceptualHashes, read_views: ReadViews) -> Iterator[NearCopy]:
    """The images to leave out, each with the first kept image of which it is a near copy.

    Rows come in the order of preference; the first is always kept. Memory grows by some 200 bytes an image that is
    kept, and not with the number of pairs; images without near hashes are not opened.
    """
    kept = _Kept(prints)
    views = _RememberedViews(read_views)
    starts = range(0, len(prints.plain), BLOCK)
    for start in progress(starts, "Comparing images", total=len(starts), unit="blocks"):
        block = np.arange(start, min(start + BLOCK, len(prints.plain)))
        copies = _first_of_each(_confirmed(kept.candidates(block), views))
        yield from copies.values()
        rest = np.setdiff1d(block, np.fromiter(copies, dtype=np.int64))
        among = _candidates(prints, rest, rest, Search(prints.at(rest)))
        copies = _first_of_each(_confirmed([among], views))
        yield from copies.values()
        kept.add(np.setdiff1d(rest, np.fromiter(copies, dtype=np.int64)))


def near_families(prints: PerceptualHashes, read_views: ReadViews) -> Int64[np.ndarray, " n"]:
    """The first image of each image's family: those that a chain of near copies joins.

    For images that all stay, of which no two near ones may stand in different splits. Pixels are compared only where
    the images are not joined already, so n frames of one scene need about n comparisons.
    """
    joined_to = np.arange(len(prints.plain))
    earlier, views = _Kept(prints), _RememberedViews(read_views)
    starts = range(0, len(joined_to), BLOCK)
    for start in progress(starts, "Comparing images", total=len(starts), unit="blocks"):
        block = np.arange(start, min(start + BLOCK, len(joined_to)))
        among = _candidates(prints, block, block, Search(prints.at(block)))
        for candidates in (among, *earlier.candidates(block)):
            _join(candidates, joined_to, views)
        earlier.add(block)
    return _firsts(joined_to, np.arange(len(joined_to)))


def _join(candidates: Candidates, joined_to: Int64[np.ndarray, " n"], views: _RememberedViews) -> None:
    """Join the images of candidates whose pixels are near, one pair of each image at a time, while they are apart."""
    while len(candidates.rows):
        one_family = _firsts(joined_to, candidates.rows[:, 0]) == _firsts(joined_to, candidates.rows[:, 1])
        candidates = candidates.only(~one_family)
        is_next = np.zeros(len(candidates.rows), dtype=bool)
        is_next[np.unique(candidates.rows[:, 0], return_index=True)[1]] = True
        for copy in _confirmed([candidates.only(is_next)], views):
            pair = _firsts(joined_to, np.array([copy.row, copy.kept]))
            joined_to[pair.max()] = pair.min()
        candidates = candidates.only(~is_next)


def _firsts(joined_to: Int64[np.ndarray, " n"], rows: Int64[np.ndarray, " m"]) -> Int64[np.ndarray, " m"]:
    """The first image of the family of each of these rows."""
    while ((further := joined_to[rows]) != rows).any():
        rows = further
    return rows


class _Kept:
    """The images kept so far, in hash tables of growing sizes: an image moves to a larger one log n times."""

    def __init__(self, prints: PerceptualHashes) -> None:
        self._prints = prints
        self._tables: list[tuple[np.ndarray, Search]] = []

    def add(self, rows: Int64[np.ndarray, " n"]) -> None:
        while self._tables and len(self._tables[-1][0]) <= 2 * len(rows):
            rows = np.concatenate([self._tables.pop()[0], rows])
        self._tables.append((rows, Search(self._prints.at(rows))))

    def candidates(self, rows: Int64[np.ndarray, " n"]) -> list[Candidates]:
        return [_candidates(self._prints, rows, searched, search) for searched, search in self._tables]


def _candidates(prints: PerceptualHashes, rows: np.ndarray, searched: np.ndarray, search: Search) -> Candidates:
    """Candidate pairs of one of ``rows`` and an earlier one of ``searched``."""
    near = search.candidates(prints.at(rows))
    pairs = np.stack([rows[near.rows[:, 0]], searched[near.rows[:, 1]]], axis=1)
    return alike_in_colour(replace(near, rows=pairs).only(pairs[:, 1] < pairs[:, 0]), prints, prints)


def _confirmed(candidates: list[Candidates], views: _RememberedViews) -> list[NearCopy]:
    """The candidates whose pixels are near as well, in the order of their rows."""
    copies: list[NearCopy] = []
    for some in candidates:
        if not len(some.rows):
            continue
        rows, places = np.unique(some.rows, return_inverse=True)
        both = views.read(rows.tolist())
        difference = differences(both, both, places.reshape(-1, 2), mirrored=some.mirrored, scale=some.scale)
        for index in np.flatnonzero(difference <= DUPLICATE).tolist():
            row, kept = some.rows[index].tolist()
            distance, mirrored = int(some.distance[index]), bool(some.mirrored[index])
            copies.append(
                NearCopy(row=row, kept=kept, distance=distance, difference=float(difference[index]), mirrored=mirrored)
            )
    return sorted(copies, key=lambda copy: (copy.row, copy.kept))


def _first_of_each(copies: list[NearCopy]) -> dict[int, NearCopy]:
    """The images to leave out, each by its row, with the first near image that is not left out itself."""
    left_out: dict[int, NearCopy] = {}
    for copy in copies:
        if copy.kept not in left_out:
            left_out.setdefault(copy.row, copy)
    return left_out


class _RememberedViews:
    """A cache of the views of the images opened last, since frames of a burst are compared one after the other."""

    def __init__(self, read: ReadViews) -> None:
        self._read = read
        self._views: OrderedDict[int, Views] = OrderedDict()

    def read(self, rows: list[int]) -> Views:
        missing = [row for row in rows if row not in self._views]
        fresh = self._read(missing)
        for place, row in enumerate(missing):
            self._views[row] = fresh.part(place, place + 1)
        for row in rows:
            self._views.move_to_end(row)
        stacked = Views.joined([self._views[row] for row in rows])
        while len(self._views) > MAX_VIEWS:
            self._views.popitem(last=False)
        return stacked
