"""Top-1 accuracy of a finished classifier, such as a finetuned model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from underpaint.core import ImageInput
from underpaint.data.source import Source
from underpaint.evals.engine import Engine
from underpaint.evals.features import labelled_rows, lacking_classes, transfer_classes, unseen_classes
from underpaint.evals.predictions import Predictions
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

    dataset: str  # collection, folder, prepared set, or a published one as NAME:FOLDER
    view: ViewSetting = "encoder"  # of each image: a setting, preset or view in full (evals/view.py)
    batch_size: int = 64  # images per forward pass

    def __post_init__(self) -> None:
        require_view(self.view)
        if self.batch_size < 1:
            raise ValueError(f"batch_size={self.batch_size} must be 1 or more")

    def check(self, source: Source) -> list[str]:
        """Remarks on the labels, before any image is read."""
        return unseen_classes(source, what="no training image has, and are wrong if the model lacks it too")

    def __call__(
        self, classifier: FinishedClassifier, *, source: Source, device: torch.device, seed: int
    ) -> list[Score]:
        """The classifier stands on ``device`` already; nothing is drawn, the seed decides nothing.

        An image that cannot be read counts as wrong. A dataset with other classes than the classifier's, of which
        several may be one of the dataset's (ObjectNet), has two scores: ``test``, by which a prediction outside
        of them is wrong, as in ObjectNet's own scorer, and ``restricted`` to them, the easier rule.

        Raises:
            ValueError: if the classifier lacks a class of the dataset, or no test image can be read.
        """
        return self.predictions(classifier, source, Engine(device=device)).scores()

    def predictions(self, classifier: FinishedClassifier, source: Source, engine: Engine) -> Predictions:
        """The answer for each test image, from which the scores are computed; errors as in ``__call__``."""
        rows = labelled_rows(source, "test")
        needed = needed_classes(source)
        unknown = sorted(needed - set(classifier.labels))
        if unknown:
            raise ValueError(
                f"the classifier has no class {unknown[0]!r} ({len(unknown)} classes of '{source.name}' are missing); "
                f"evaluate it on the dataset it was trained on"
            )
        known = [name in needed for name in classifier.labels]
        answers = self.predict(classifier, source, rows, torch.tensor(known), engine)
        if not any(answers):
            raise ValueError(f"none of the {len(rows)} test images of '{source.name}' could be read; check its files")
        unread = [source.path[row] for row, answer in zip(rows, answers, strict=True) if answer is None]
        remarks = unreadable_images(unread, total=len(rows), what="test", wrong=True)
        if not source.accepted:
            labels = [source.label[row] for row in rows]
            lacking = lacking_classes(labels, classifier.labels, what="the model does not have, and count as wrong")
            remarks = [*lacking, *remarks]
        return Predictions(
            dataset=source.name,
            view=view_name(classifier_input(classifier.image_input, self.view)),
            image=tuple(source.path[row] for row in rows),
            family=tuple(source.family[row] for row in rows),
            label=tuple(source.label[row] for row in rows),
            accepted=tuple(_right(source, row) for row in rows),
            predicted=tuple(classifier.labels[answer[0]] if answer else None for answer in answers),
            restricted=tuple(classifier.labels[answer[1]] if answer else None for answer in answers),
            class_table=source.class_table,
            remarks=tuple(remarks),
        )

    def predict(
        self,
        classifier: FinishedClassifier,
        source: Source,
        rows: list[int],
        known: Bool[Tensor, " k"],
        engine: Engine,
    ) -> list[tuple[int, int] | None]:
        """Best class of each image, and best of the ``known`` ones; None for an image that could not be read."""
        predicted: list[tuple[int, int] | None] = []
        format = classifier_input(classifier.image_input, self.view)
        for scores, kept in engine.scores(classifier, source, rows, format=format, batch_size=self.batch_size):
            best = scores.argmax(dim=1).tolist()
            restricted = scores.masked_fill(~known, -torch.inf).argmax(dim=1).tolist()
            pairs = zip(best, restricted, strict=True)
            predicted += [pair if readable else None for pair, readable in zip(pairs, kept.tolist(), strict=True)]
        return predicted


def _right(source: Source, row: int) -> tuple[str, ...]:
    """The classes that are a right answer."""
    return source.accepted[row] if source.accepted else (source.label[row],)


def needed_classes(source: Source) -> set[str]:
    """The classes that a classifier must have to be scored on a dataset."""
    if not source.accepted and source.rows("train"):
        return set(transfer_classes(source))
    return {name for row in labelled_rows(source, "test") for name in _right(source, row)}
