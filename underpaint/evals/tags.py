"""Recall of the tags of held-out images by a model trained on tags, by the frequency of a tag.

Tags are long-tailed: an average over tags as they come says how the head of their distribution fares and little else.
The vocabulary is cut in three by the training count of its labels, so that each part holds about a third of all
training occurrences: ``head`` has few labels of many images, ``tail`` many labels of few.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from underpaint.data.source import Source
from underpaint.evals.accuracy import FinishedClassifier
from underpaint.evals.engine import Engine
from underpaint.evals.score import Score
from underpaint.evals.unreadable import unreadable_images
from underpaint.evals.view import ViewSetting, classifier_input, require_view, view_name

BINS = ("head", "middle", "tail")


@dataclass(frozen=True, kw_only=True)
class TagRecall:
    """Share of the tags of held-out images that are among the model's ``top`` highest-scored labels."""

    needs: ClassVar[type] = FinishedClassifier
    draws: ClassVar[bool] = False

    dataset: str  # folder, prepared set or collection; its images of the split "heldout" count
    top: int = 10
    view: ViewSetting = "encoder"  # of each image: a setting, preset or view in full (evals/view.py)
    batch_size: int = 64  # images per forward pass

    def __post_init__(self) -> None:
        require_view(self.view)
        for name in ("top", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be 1 or more")

    def __call__(
        self, classifier: FinishedClassifier, *, source: Source, device: torch.device, seed: int
    ) -> list[Score]:
        """One score per bin, whose entries are pairs of a held-out image and one of its tags in the vocabulary.

        The classifier stands on ``device`` already. The tags of an image that cannot be read count as missed. Raises
        ValueError if no held-out image that can be read has a tag of it.
        """
        return self.measure(classifier, source=source, engine=Engine(device=device), seed=seed)

    def measure(self, classifier: FinishedClassifier, *, source: Source, engine: Engine, seed: int) -> list[Score]:
        """The same by an engine."""
        number = {label: index for index, label in enumerate(classifier.labels)}
        bin_of = frequency_bins(label_counts(source, number))
        pairs: dict[str, list[tuple[int, float]]] = {name: [] for name in BINS}
        rows = [row for row in source.rows("heldout") if any(tag in number for tag in source.tags[row])]
        predicted = self._best(classifier, source, rows, engine)
        unread = [source.path[row] for row, best in zip(rows, predicted, strict=True) if best is None]
        remarks = tuple(unreadable_images(unread, total=len(rows), what="held-out", wrong=True))
        if self.top >= len(number):
            remarks += (f"top={self.top} covers all {len(number)} labels: every tag is found, whatever the model",)
        for row, best in zip(rows, predicted, strict=True):
            for tag in source.tags[row]:
                if tag in number:
                    hit = best is not None and number[tag] in best
                    pairs[BINS[bin_of[number[tag]]]].append((row, float(hit)))
        if all(best is None for best in predicted):
            raise ValueError(f"no readable held-out image of '{source.name}' has a tag that the model knows")
        return [
            Score(
                dataset=source.name,
                protocol="tags",
                split=name,
                metric=f"recall@{self.top}",
                view=view_name(classifier_input(classifier.image_input, self.view)),
                correct=tuple(hit for _, hit in hits),
                image=tuple(source.path[row] for row, _ in hits),
                family=tuple(source.family[row] for row, _ in hits),
                settings={"labels": float((bin_of == BINS.index(name)).sum())},
                remarks=remarks,
            )
            for name, hits in pairs.items()
            if hits
        ]

    def _best(
        self, classifier: FinishedClassifier, source: Source, rows: list[int], engine: Engine
    ) -> list[set[int] | None]:
        """The highest-scored labels of each image; None where it cannot be read."""
        best: list[set[int] | None] = []
        format = classifier_input(classifier.image_input, self.view)
        for scores, kept in engine.scores(classifier, source, rows, format=format, batch_size=self.batch_size):
            top = scores.topk(min(self.top, scores.shape[1]), dim=1).indices.tolist()
            best += [set(ids) if readable else None for ids, readable in zip(top, kept.tolist(), strict=True)]
        return best


def label_counts(source: Source, number: dict[str, int]) -> np.ndarray:
    """Training images of each label."""
    count = np.zeros(len(number), dtype=np.int64)
    for row in source.rows("pretrain"):
        for tag in set(source.tags[row]) & number.keys():
            count[number[tag]] += 1
    return count


def frequency_bins(count: np.ndarray) -> np.ndarray:
    """0, 1 or 2 for each label, from the most frequent on, a third of the occurrences each."""
    order = np.argsort(-count, kind="stable")
    before = np.cumsum(count[order]) - count[order]  # occurrences of more frequent labels
    bins = np.empty(len(count), dtype=np.int64)
    bins[order] = np.minimum(before * len(BINS) // max(int(count.sum()), 1), len(BINS) - 1)
    return bins
