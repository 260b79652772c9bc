"""Near duplicates of held-out icons among those to train on, compared in black on white whatever their colours."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int64
from PIL import Image

from underpaint.data.collections.icon_drawing import colours, in_black, small_png
from underpaint.data.near_duplicates.candidates import Search, alike_in_colour
from underpaint.data.near_duplicates.fingerprints import PerceptualHashes, Views, read_views
from underpaint.data.near_duplicates.pixels import DUPLICATE, differences
from underpaint.progress import progress

FIELD_LIMIT = 0.065
"""Largest mean difference of the 4 x 4 fields of a pair whose views are read."""
UNMOVED_LIMIT = 0.085
"""Largest mean difference of the views of a pair whose pixels are laid over each other, which takes 3 ms a pair.

Without these limits, 54 of 29,780 candidate pairs of icons were near duplicates; the limits keep 53 of them and 3% of
the pairs."""
_AT_ONCE = 4096


@dataclass(frozen=True, kw_only=True)
class Leaks:
    """The images to train on that are near duplicates of held-out images."""

    trained: tuple[int, ...]
    """Their rows, ascending."""
    heldout: int
    """Number of held-out images that have such a near duplicate."""
    compared: int
    """Number of pairs whose pixels were compared."""


def find_leaks(
    prints: PerceptualHashes, trained: Sequence[int], heldout: Sequence[int], read: Callable[[int], bytes]
) -> Leaks:
    """The near duplicates of the rows ``heldout`` among the rows ``trained``.

    ``prints`` are the hashes of all rows, and ``read`` returns the image of a row as a file.
    """
    here, there = np.array(trained, dtype=np.int64), np.array(heldout, dtype=np.int64)
    tested = prints.at(there)
    search = Search(tested)
    leaked: set[int] = set()
    met: set[int] = set()
    compared = 0
    starts = range(0, len(here), _AT_ONCE)
    for start in progress(starts, "Comparing icons with the held-out ones", total=len(starts), unit="parts"):
        rows = here[start : start + _AT_ONCE]
        part = prints.at(rows)
        pairs = alike_in_colour(search.candidates(part), part, tested, limit=FIELD_LIMIT)
        first, i = np.unique(pairs.rows[:, 0], return_inverse=True)
        second, j = np.unique(pairs.rows[:, 1], return_inverse=True)
        here_views, there_views = _views(rows[first], read), _views(there[second], read)
        places = np.stack([i, j], axis=1)
        alike = _laid_unmoved(here_views, there_views, places, pairs.mirrored) <= UNMOVED_LIMIT
        pairs, places = pairs.only(alike), places[alike]
        difference = differences(here_views, there_views, places, mirrored=pairs.mirrored, scale=pairs.scale)
        near = pairs.rows[difference <= DUPLICATE]
        leaked.update(rows[near[:, 0]].tolist())
        met.update(there[near[:, 1]].tolist())
        compared += len(pairs.rows)
    return Leaks(trained=tuple(sorted(leaked)), heldout=len(met), compared=compared)


def compared_png(file: Path, path: str, *, coloured: bool) -> bytes:
    """The small PNG by which an icon is compared, in black on white, from the one that the collection holds."""
    with Image.open(file) as opened:
        image = opened.convert("RGB")
    if not coloured:
        image = Image.fromarray(in_black(np.asarray(image), *colours(path))).convert("RGB")
    return small_png(image)


def _laid_unmoved(
    first: Views, second: Views, pairs: Int64[np.ndarray, "n 2"], mirrored: Bool[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """The mean difference, in [0, 1], of the views of each pair as they lie, of the better of the two views."""
    smallest = np.ones(len(pairs))
    for start in range(0, len(pairs), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        here, there = first.pixels[pairs[some, 0]], second.pixels[pairs[some, 1]]
        there = np.where(mirrored[some, None, None, None, None], there[:, :, :, ::-1], there)
        smallest[some] = np.abs(here.astype(np.int16) - there).mean(axis=(2, 3, 4)).min(axis=1) / 255
    return smallest


def _views(rows: np.ndarray, read: Callable[[int], bytes]) -> Views:
    return read_views([functools.partial(read, row) for row in rows.tolist()])
