"""The head of a run that was trained on the labels of a set: labels with similar rows look alike to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

if TYPE_CHECKING:
    from underpaint.objectives.classify import Classify

FLOOR_OF_PAIRS = 4.0
"""Deviations above random pairs from which on rows are evidence for one meaning."""
MOST_OF_HEAD = 2.0
"""Largest log odds by the head: things that are seen together look alike to it too."""
RANDOM_PAIRS = 20_000
BLOCK = 1024


class Head:
    """Rows of a head for the labels of a set, each of length 1; labels that the run does not know have none."""

    def __init__(self, names: Sequence[str], known: Sequence[str], rows: Float[np.ndarray, "k d"]) -> None:
        """``names`` are the labels of the set, ``known`` those of the run, one for each of ``rows``.

        Raises:
            ValueError: if fewer than two labels of the set are known to the run.
        """
        place = {name: row for row, name in enumerate(known)}
        self._place = np.array([place.get(name, -1) for name in names])
        self._labels = np.flatnonzero(self._place >= 0)
        if len(self._labels) < 2:
            raise ValueError(
                f"the run knows {len(self._labels)} of the {len(names)} labels of this set; name a run trained on it"
            )
        centred = rows - rows.mean(axis=0)
        self._rows = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
        pairs = np.random.default_rng(0).integers(0, len(self._labels), size=(RANDOM_PAIRS, 2))
        first, second = self._place[self._labels[pairs[pairs[:, 0] != pairs[:, 1]]]].T
        cosines = (self._rows[first] * self._rows[second]).sum(axis=1)
        self._mean, self._deviation = float(cosines.mean()), max(float(cosines.std()), 1e-6)

    def cosine(self, first: int, second: int) -> float | None:
        """Cosine of the rows of two labels; None where the run lacks one."""
        rows = self._place[[first, second]]
        return None if (rows < 0).any() else float(self._rows[rows[0]] @ self._rows[rows[1]])

    def log_odds(self, cosine: float) -> float:
        """Evidence of rows of this cosine for one meaning."""
        above = (cosine - self._mean) / self._deviation - FLOOR_OF_PAIRS
        return float(np.clip(above / 2, -MOST_OF_HEAD, MOST_OF_HEAD))

    def neighbours(self, most: int) -> Iterator[tuple[int, int]]:
        """Pairs of labels of which one is among those of most similar rows to the other."""
        rows = self._rows[self._place[self._labels]]
        most = min(most, len(rows) - 1)
        for start in range(0, len(rows), BLOCK):
            cosine = rows[start : start + BLOCK] @ rows.T
            cosine[np.arange(len(cosine)), start + np.arange(len(cosine))] = -2
            for row, near in enumerate(np.argpartition(-cosine, most - 1, axis=1)[:, :most].tolist()):
                yield from ((int(self._labels[start + row]), int(self._labels[label])) for label in near)


def read_head(run: Path, names: Sequence[str]) -> Head:
    """The head of a finished run for these labels.

    Raises:
        ValueError: if the run is not a classifier with a linear head, or knows too few of the labels.
    """
    model = read_classifier(run)
    return Head(names, model.labels, model.head.weight.detach().float().cpu().numpy())


def read_classifier(run: Path) -> Classify:
    """The classifier of a finished run, in evaluation mode.

    Raises:
        ValueError: if the run has another objective.
    """
    from underpaint.objectives.classify import Classify
    from underpaint.run.outputs import load_model

    model = load_model(run)
    if not isinstance(model, Classify):
        raise ValueError(f"{run} holds a {type(model).__name__}; --run needs a run of WSP or finetuning")
    return model
