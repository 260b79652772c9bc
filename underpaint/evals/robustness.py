"""Robustness of a finished classifier: ImageNet-1k's classes on other images, without training (paper.md 2.2)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from underpaint.data.known_sets.catalog import open_known_set, robustness_sets
from underpaint.data.source import Source
from underpaint.evals.accuracy import Accuracy


@dataclass(frozen=True, kw_only=True)
class Robustness(Accuracy):
    """Top-1 of a finetuned classifier on every robustness set of a folder: ImageNetV2, ReaL, ObjectNet.

    ``dataset`` is the folder, or one whose folders are such sets. Classes are matched by WordNet ids. ReaL: a
    prediction is right if it is among the image's labels; ObjectNet: by two rules, see ``Accuracy``.
    """

    def sources(self) -> list[Source]:
        """The sets that are there, each named with its folder, so that variants of one can be told apart.

        Raises:
            ValueError: if there are none, or one is not complete.
        """
        try:
            names = robustness_sets(Path(self.dataset).expanduser())
        except ValueError as error:
            raise ValueError(
                f"{error}. A folder of your own with test/ and class folders in it, also of fewer classes than the "
                f"model's, is scored by `underpaint eval accuracy RUN dataset={self.dataset}`"
            ) from error
        return [replace(open_known_set(name), name=_name(name)) for name in names]


def _name(name: str) -> str:
    known, _, folder = name.partition(":")
    return f"{known} ({Path(folder).resolve().name})"
