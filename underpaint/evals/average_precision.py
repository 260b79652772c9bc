"""Mean average precision of the tags of images, by a model trained on tags or by the names of tags."""

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

MOST_SCORES = 1 << 28
"""Scores held at once: 1 GiB of float32."""


@dataclass(frozen=True, kw_only=True)
class TagPrecision:
    """Average precision of each tag over held-out images, and its mean over tags (mAP)."""

    needs: ClassVar[type] = FinishedClassifier
    draws: ClassVar[bool] = False

    dataset: str  # folder, prepared set or collection; its images of the split "heldout" count
    min_images: int = 1  # held-out images that a tag must have to be counted
    view: ViewSetting = "encoder"  # resize and crop of each image (docs/reference/evaluations.md)
    batch_size: int = 64  # images per forward pass

    def __post_init__(self) -> None:
        require_view(self.view)
        for name in ("min_images", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be 1 or more")

    def __call__(
        self, classifier: FinishedClassifier, *, source: Source, device: torch.device, seed: int
    ) -> list[Score]:
        """One score, whose entries are tags; the classifier stands on ``device`` already, and nothing is drawn.

        Raises:
            ValueError: if no held-out image can be read or has a tag of the classifier, or there are too many scores.
        """
        return self.measure(classifier, source=source, engine=Engine(device=device), seed=seed)

    def measure(self, classifier: FinishedClassifier, *, source: Source, engine: Engine, seed: int) -> list[Score]:
        """The same by an engine."""
        rows = [row for row in source.rows("heldout") if source.tags[row]]
        tags = frequent_tags(source, rows, known=set(classifier.labels), min_images=self.min_images)
        number = {label: column for column, label in enumerate(classifier.labels)}
        columns = torch.tensor([number[tag] for tag in tags])
        format = classifier_input(classifier.image_input, self.view)
        parts, kept = [], []
        for scores, readable in engine.scores(classifier, source, rows, format=format, batch_size=self.batch_size):
            parts.append(scores[readable][:, columns].numpy())
            kept += readable.tolist()
        return [precision_score(source, rows, kept, tags, np.concatenate(parts), view=view_name(format))]


def frequent_tags(source: Source, rows: list[int], *, known: set[str] | None, min_images: int) -> list[str]:
    """Tags of these images that stand on enough of them, sorted.

    Raises:
        ValueError: if there are none, or they and the images make too many scores.
    """
    counts: dict[str, int] = {}
    for row in rows:
        for tag in dict.fromkeys(source.tags[row]):
            if known is None or tag in known:
                counts[tag] = counts.get(tag, 0) + 1
    tags = sorted(tag for tag, count in counts.items() if count >= min_images)
    if not tags:
        raise ValueError(
            f"no tag that the model knows stands on {min_images} or more held-out images of '{source.name}'; give tags "
            f"with --tags FILE, or a smaller min_images"
        )
    if len(tags) * len(rows) > MOST_SCORES:
        raise ValueError(f"{len(rows):,} images and {len(tags):,} tags are too many; add min_images=N for fewer tags")
    return tags


def precision_score(
    source: Source, rows: list[int], kept: list[bool], tags: list[str], scores: np.ndarray, *, view: str
) -> Score:
    """The mean over tags of average precision, from the scores (readable images, tags).

    Raises:
        ValueError: if no image could be read.
    """
    readable = [row for row, good in zip(rows, kept, strict=True) if good]
    if not readable:
        raise ValueError(f"none of the {len(rows)} images of '{source.name}' could be read; check its files")
    unread = [source.path[row] for row, good in zip(rows, kept, strict=True) if not good]
    precisions: dict[str, float] = {}
    shares: list[float] = []
    for column, tag in enumerate(tags):
        positive = np.array([tag in source.tags[row] for row in readable])
        if positive.any():
            precisions[tag] = average_precision(scores[:, column], positive)
            shares.append(float(positive.mean()))
    return Score(
        dataset=source.name,
        protocol="map",
        split="heldout",
        metric="map",
        view=view,
        correct=tuple(precisions.values()),
        image=tuple(precisions),
        family=tuple(precisions),
        settings={"images": float(len(readable))},
        remarks=(
            f"mean over {len(precisions)} tags of {len(readable)} images; the interval is over tags",
            *unreadable_images(unread, total=len(rows), what="held-out"),
        ),
        chance=float(np.mean(shares)),
    )


def average_precision(scores: np.ndarray, positive: np.ndarray) -> float:
    """Sum over distinct scores of precision times the gain in recall; images with equal scores enter together."""
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], np.cumsum(positive[order])
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)  # of each group of equal scores
    precision = hits[last] / (last + 1)
    return float((precision * np.diff(hits[last], prepend=0)).sum() / hits[-1])
