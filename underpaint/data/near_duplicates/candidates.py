"""Search for all pairs of images with near perceptual hashes, without comparing each image with each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64

from underpaint.data.near_duplicates.fingerprints import BOX, FULL, INNER, INNER_EDGE, PerceptualHashes
from underpaint.data.near_duplicates.hash_search import HashTable

FIELD_LIMIT = 0.1
"""Largest mean difference of the 4 x 4 fields, in the better view, of a pair whose pixels are compared."""

_WHOLE, _SHRUNK, _GROWN = 1.0, 1 - 2 * INNER_EDGE, 1 + 2 * INNER_EDGE
_COMPARED = ((BOX, BOX, _WHOLE), (FULL, FULL, _WHOLE), (BOX, INNER, _SHRUNK), (INNER, BOX, _GROWN))
"""Compared views of the first and second image, with the part of the second that the first then shows."""


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """Sorted pairs that may be near duplicates, each once, in the pair of views with the smallest distance."""

    rows: Int64[np.ndarray, "n 2"]
    distance: Int64[np.ndarray, " n"]
    """Number of differing bits of the hashes."""
    mirrored: Bool[np.ndarray, " n"]
    """Whether the second image has to be mirrored."""
    scale: Float[np.ndarray, " n"]
    """Approximate part of the second image's width and height that the first one shows."""

    def only(self, kept: Bool[np.ndarray, " n"]) -> Candidates:
        return Candidates(
            rows=self.rows[kept], distance=self.distance[kept], mirrored=self.mirrored[kept], scale=self.scale[kept]
        )


class Search:
    """Hash tables of some images, in which the near hashes of other images are found."""

    def __init__(self, images: PerceptualHashes) -> None:
        self._tables: dict[int, tuple[HashTable, np.ndarray]] = {}
        for view in (BOX, FULL, INNER):
            rows = np.flatnonzero(~images.flat[:, view])
            hashes = np.concatenate([images.plain[rows, view], images.mirrored[rows, view]])
            self._tables[view] = HashTable(hashes), rows

    def candidates(self, images: PerceptualHashes) -> Candidates:
        """All pairs of one of ``images`` and one of the searched within RADIUS in any of the views, mirrored or not."""
        pairs_by_view = [np.zeros((0, 5), dtype=np.int64)]
        for kind, (here, there, _) in enumerate(_COMPARED):
            table, rows = self._tables[there]
            asked = np.flatnonzero(~images.flat[:, here])
            query, place, distance = table.near(images.plain[asked, here]).T
            mirrored, row = np.divmod(place, max(len(rows), 1))
            pairs_by_view.append(
                np.stack([asked[query], rows[row], distance, mirrored, np.full_like(row, kind)], axis=1)
            )
        table = np.concatenate(pairs_by_view)
        table = table[np.lexsort(table.T[::-1])]
        first_of_pair = np.ones(len(table), dtype=bool)
        first_of_pair[1:] = (table[1:, :2] != table[:-1, :2]).any(axis=1)
        table = table[first_of_pair]
        scale = np.array([scale for _, _, scale in _COMPARED])
        return Candidates(rows=table[:, :2], distance=table[:, 2], mirrored=table[:, 3] == 1, scale=scale[table[:, 4]])


def alike_in_colour(
    candidates: Candidates, first: PerceptualHashes, second: PerceptualHashes, *, limit: float = FIELD_LIMIT
) -> Candidates:
    """The pairs whose 4 x 4 fields of colour differ by at most ``limit`` in the better view; most others go here."""
    nearest = np.full(len(candidates.rows), np.inf)
    for view in (BOX, FULL):
        first_fields = first.fields[candidates.rows[:, 0], view].astype(np.int16)
        second_fields = second.fields[candidates.rows[:, 1], view].astype(np.int16)
        second_fields = np.where(candidates.mirrored[:, None, None, None], second_fields[:, :, ::-1], second_fields)
        nearest = np.minimum(nearest, np.abs(first_fields - second_fields).mean(axis=(1, 2, 3)) / 255)
    return candidates.only(nearest <= limit)
