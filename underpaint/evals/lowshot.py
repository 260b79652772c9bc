"""Low-shot classification: logistic regression on frozen features of K training images per class.

The classifier is the one of the MSN rows of the paper's table (logistic_eval.py of MSN): unit-length features, a
constant penalty that nothing is tuned on, as K images leave nothing to tune with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn import functional as F

from underpaint.data.source import Source
from underpaint.evals.features import Encoder, TaskFeatures
from underpaint.evals.few_shots import FewShots
from underpaint.evals.logistic import LogisticModel, fit_logistic
from underpaint.evals.score import Score
from underpaint.evals.transfer import transfer


@dataclass(frozen=True, kw_only=True)
class LowShot(FewShots):
    """K-shot top-1 of an encoder on the test images of a dataset, for each random split and as their mean.

    Two things differ from MSN. Features are centred by the mean over the few training images, not each by its own
    mean over channels: after the encoder's final LayerNorm the latter changes next to nothing, while the component
    that all images share would take up most of the unit length. And there is an intercept, as classes need not have
    K images each.
    """

    protocol: ClassVar[str] = "lowshot"

    l2: float = 0.0025  # of the summed loss, so of the mean loss l2 / n (MSN's README)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.l2 <= 0:
            raise ValueError(f"l2={self.l2} must be positive: without a penalty few images have no unique fit")

    @property
    def draws(self) -> bool:
        """Whether a seed decides anything: the fit is exact, and lists leave nothing to draw."""
        return not self.lists

    def __call__(self, encoder: Encoder, *, source: Source, device: torch.device, seed: int) -> list[Score]:
        return transfer(encoder, source, protocols=(self,), seed=seed, device=device)

    def score(self, task: TaskFeatures, *, seed: int) -> list[Score]:
        hits, training, remarks = [], [], list(task.remarks)
        splits = self.drawn(task.train, unread=task.unread, seed=seed)
        for split, rows in enumerate(splits):
            model, predicted = self.predict(task, rows)
            hits.append((predicted == task.test.y).double())
            training.append(tuple(task.train.image[row] for row in rows))
            remarks += [f"split {split}: {remark}" for remark in model.remarks()]
        named = task.train_classes()
        remarks += self.remarks(task.classes, named, [[named[row] for row in rows] for rows in splits])
        settings = {"l2": self.l2}
        return self.scores(task.dataset, task.test, hits, training=training, settings=settings, remarks=remarks)

    def predict(self, task: TaskFeatures, rows: list[int]) -> tuple[LogisticModel, torch.Tensor]:
        """Fit on these training rows, and classify the test images."""
        mean = task.train.x[rows].double().mean(dim=0)
        few, test = (F.normalize(x.double() - mean, dim=1) for x in (task.train.x[rows], task.test.x))
        penalty = (self.l2 / len(rows),)
        model = fit_logistic(few, task.train.y[rows], classes=len(task.classes), l2=penalty)[0]
        return model, model.logits(test).argmax(dim=1)
