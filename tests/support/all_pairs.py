"""Near copies by the definition: every image against every one that is kept, one pair at a time."""

from __future__ import annotations

import numpy as np

from underpaint.data.near_duplicates.candidates import FIELD_LIMIT
from underpaint.data.near_duplicates.fingerprints import BOX, FULL, INNER, INNER_EDGE, Fingerprints, Views
from underpaint.data.near_duplicates.hash_search import RADIUS
from underpaint.data.near_duplicates.pixels import DUPLICATE, differences
from underpaint.data.near_duplicates.within_set import NearCopy

SCALES = {(BOX, BOX): 1.0, (FULL, FULL): 1.0, (BOX, INNER): 1 - 2 * INNER_EDGE, (INNER, BOX): 1 + 2 * INNER_EDGE}


def some_views(views: Views, rows: list[int]) -> Views:
    return Views(pixels=views.pixels[rows], ratio=views.ratio[rows], flat=views.flat[rows])


def near_pair(pictures: Fingerprints, row: int, kept: int) -> NearCopy | None:
    """The nearest of the hashes, then the fields, then the pixels."""
    prints = pictures.prints
    near = [
        ((int(prints.plain[row, here]) ^ int(hashes[kept, there])).bit_count(), mirrored, scale)
        for (here, there), scale in SCALES.items()
        if not prints.flat[row, here] and not prints.flat[kept, there]
        for mirrored, hashes in ((False, prints.plain), (True, prints.mirrored))
    ]
    distance, mirrored, scale = min(near, default=(RADIUS + 1, False, 1.0), key=lambda one: one[:2])
    first, second = prints.fields[row].astype(int), prints.fields[kept].astype(int)
    second = second[:, :, ::-1] if mirrored else second
    if distance > RADIUS or np.abs(first - second).mean(axis=(1, 2, 3)).min() / 255 > FIELD_LIMIT:
        return None
    both = some_views(pictures.views, [row, kept])
    known = {"mirrored": np.array([mirrored]), "scale": np.array([scale])}
    difference = differences(both, both, np.array([[0, 1]]), **known)[0]
    if difference > DUPLICATE:
        return None
    return NearCopy(row=row, kept=kept, distance=distance, difference=float(difference), mirrored=mirrored)


def all_near_copies(pictures: Fingerprints) -> list[NearCopy]:
    """The images to leave out, where earlier ones are preferred."""
    kept: list[int] = []
    copies: list[NearCopy] = []
    for row in range(len(pictures.problems)):
        pairs = (near_pair(pictures, row, one) for one in kept)
        copy = next((pair for pair in pairs if pair), None)
        if copy:
            copies.append(copy)
        else:
            kept.append(row)
    return copies
