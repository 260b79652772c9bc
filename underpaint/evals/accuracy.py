"""Top-1 accuracy of a finished classifier, such as a finetuned model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from underpaint.core import ImageInput
from underpaint.data.source import Source
from underpaint.evals.features import (
    image_batches,
    labelled_rows,
    transfer_classes,
    unseen_classes,
)
from underpaint.evals.mode import evaluation_mode
from underpaint.evals.score import Score
from underpaint.evals.unreadable import unreadable_images
from underpaint.evals.view import ViewSetting, classifier_input, require_view, view_name


@runtime_checkable
class FinishedClassifier(Protocol):
    """A ``core.Classifier`` that knows the names of its classes; satisfied by ``Classify``."""

    @property
    def image_input(self) -> ImageInput: ...

    @property
    def labels(self) -> tuple[str, ...]:
        """Name of each column of the scores."""
        ...

    def logits(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]: ...

    def modules(self) -> Iterator[nn.Module]: ...


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """Top-1 of a classifier on the test images of a dataset; classes are matched by name."""

    needs: ClassVar[type] = FinishedClassifier
    draws: ClassVar[bool] = False

    dataset: str  # opened by the caller: a collection's name, or a folder
    view: ViewSetting = "encoder"  # of each image: a setting, preset or view in full (evals/view.py)
    batch_size: int = 64  # images per forward pass

    def __post_init__(self) -> None:
        require_view(self.view)
        if self.batch_size < 1:
            raise ValueError(f"batch_size={self.batch_size} must be 1 or more")

    def __call__(
        self, classifier: FinishedClassifier, *, source: Source, device: torch.device, seed: int
    ) -> list[Score]:
        """The classifier stands on ``device`` already; nothing is drawn, the seed decides nothing.

        Raises:
            ValueError: if the classifier lacks a class of the dataset, or no test image can be read.
        """
        rows = labelled_rows(source, "test")
        unknown = sorted(set(transfer_classes(source)) - set(classifier.labels))
        if unknown:
            raise ValueError(
                f"the classifier has no class {unknown[0]!r} ({len(unknown)} classes of '{source.name}' are missing); "
                f"evaluate it on the dataset it was trained on"
            )
        predicted, kept = self.predict(classifier, source, rows, device)
        readable = [row for row, readable in zip(rows, kept, strict=True) if readable]
        if not readable:
            raise ValueError(f"none of the {len(rows)} test images of '{source.name}' could be read; check its files")
        unread = [source.path[row] for row, readable in zip(rows, kept, strict=True) if not readable]
        remarks = [*unseen_classes(source), *unreadable_images(unread, total=len(rows), what="test")]
        hits = [classifier.labels[index] == source.label[row] for index, row in zip(predicted, readable, strict=True)]
        return [
            Score(
                dataset=source.name,
                protocol="finetune",
                view=view_name(classifier_input(classifier.image_input, self.view)),
                correct=tuple(float(hit) for hit in hits),
                image=tuple(source.path[row] for row in readable),
                family=tuple(source.family[row] for row in readable),
                settings={},
                remarks=tuple(remarks),
            )
        ]

    def predict(
        self, classifier: FinishedClassifier, source: Source, rows: list[int], device: torch.device
    ) -> tuple[list[int], list[bool]]:
        """The class of each image that could be read, and which could."""
        predicted: list[int] = []
        kept: list[bool] = []
        format = classifier_input(classifier.image_input, self.view)
        batches = image_batches(source, rows, format=format, batch_size=self.batch_size)
        with evaluation_mode(classifier, device):
            for image, weight in batches:
                scores: Tensor = classifier.logits(image.to(device)).cpu()
                predicted += scores[weight > 0].argmax(dim=1).tolist()
                kept += (weight > 0).tolist()
        return predicted, kept
