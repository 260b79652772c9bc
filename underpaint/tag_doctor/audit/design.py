"""The sample of an audit: images of a label in parts, by the score of a trained head, and how many of each are judged.

Images that carry a label show the share of wrong tags, the others that of missing ones. Each of the two sides is
ordered by suspicion (a high score without the tag, a low one with it) and cut into parts of equal weight, where the
weight of an image is half its share of all suspicion and half its share of all images. As many images are drawn from
each part, so an image is drawn with a known probability that is nearly proportional to its weight: never below half of
a uniform one, however wrong the head is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from underpaint.keyed_random import key, mix

Side = Literal["wrong", "missing"]
PARTS: dict[Side, int] = {"wrong": 3, "missing": 4}
"""Parts of a side where there is a head; one part else."""
OF_WRONG = 1 / 3
"""Share of a label's images for the wrong tags: the missing ones are harder to find, among many more images."""


class Part(NamedTuple):
    """Some images of one side of a label, and the number of them to be judged."""

    side: Side
    rows: np.ndarray
    """Rows of the set, int64."""
    drawn: int


def parts_of(
    carriers: np.ndarray, others: np.ndarray, score: Float[np.ndarray, " images"] | None, images: int
) -> list[Part]:
    """The parts of a label with ``images`` to be judged, or all images if the set has fewer.

    ``carriers`` are the rows with the label and ``others`` those without; ``score`` is the head's probability of it for
    every row, None without a head.
    """
    wrong = min(len(carriers), max(round(images * OF_WRONG), images - len(others)))
    sides: list[tuple[Side, np.ndarray, int]] = [("wrong", carriers, wrong), ("missing", others, images - wrong)]
    parts: list[Part] = []
    for side, rows, count in sides:
        pieces = [rows] if score is None else _cut(rows, score[rows] if side == "missing" else 1 - score[rows], side)
        pieces = [piece for piece in pieces if len(piece)]
        drawn = shared(count, [len(piece) for piece in pieces])
        parts += [Part(side, piece, number) for piece, number in zip(pieces, drawn, strict=True)]
    return parts


def _cut(rows: np.ndarray, suspicion: Float[np.ndarray, " n"], side: Side) -> list[np.ndarray]:
    """The rows in parts of equal weight, the most suspicious first."""
    order = np.argsort(-suspicion, kind="stable")
    total = float(suspicion.sum(dtype=np.float64))
    weight = np.full(len(rows), 1 / max(len(rows), 1))
    if total > 0:
        weight = (weight + suspicion[order] / total) / 2
    ends = np.arange(1, PARTS[side]) / PARTS[side]
    return np.split(rows[order], np.searchsorted(np.cumsum(weight), ends))


def shared(total: int, most: Sequence[int]) -> list[int]:
    """``total`` in shares as equal as the largest allowed ones let them be; all of these where they are fewer."""
    shares = [0] * len(most)
    for done, place in enumerate(sorted(range(len(most)), key=lambda place: most[place])):
        shares[place] = min(most[place], total // (len(most) - done))
        total -= shares[place]
    return shares


def drawing_order(part: Part, *, seed: int, label: str) -> list[int]:
    """The rows of a part in the order in which they are drawn: by a hash of seed, label and position."""
    of_label = key(seed, "tag audit", label)
    return sorted(part.rows.tolist(), key=lambda row: mix(of_label, row))
