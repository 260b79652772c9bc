"""Low-shot classification: logistic regression on frozen features of K training images per class.

Five splits from five seeds, at most K images of a class that has fewer, mean top-1 (paper.md 2.4). The classifier is
the one of the MSN rows of the paper's table (logistic_eval.py of MSN): unit-length features, a constant penalty
that nothing is tuned on, as K images leave nothing to tune with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn import functional as F

from underpaint import keyed_random
from underpaint.data.source import Source
from underpaint.evals.class_splits import few_shot
from underpaint.evals.features import Encoder, TaskFeatures
from underpaint.evals.logistic import LogisticModel, fit_logistic
from underpaint.evals.score import Score
from underpaint.evals.transfer import transfer
from underpaint.evals.view import ViewSetting, require_view
from underpaint.models.pooling import Pooling


@dataclass(frozen=True, kw_only=True)
class LowShot:
    """K-shot top-1 of an encoder on the test images of a dataset, for each random split and as their mean.

    Two things differ from MSN. Features are centred by the mean over the few training images, not each by its own
    mean over channels: after the encoder's final LayerNorm the latter changes next to nothing, while the component
    that all images share would take up most of the unit length. And there is an intercept, as classes need not have
    K images each.
    """

    needs: ClassVar[type] = Encoder

    dataset: str  # opened by the caller: a collection's name, or a folder
    pooling: Pooling = "cls"
    view: ViewSetting = "published"  # of each image: a setting, preset or view in full (evals/view.py)
    batch_size: int = 64  # images per forward pass
    shots: int = 5  # K
    splits: int = 5
    l2: float = 0.0025  # of the summed loss, so of the mean loss l2 / n (MSN's README)

    def __post_init__(self) -> None:
        require_view(self.view)
        for name in ("batch_size", "shots", "splits"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be 1 or more")
        if self.l2 <= 0:
            raise ValueError(f"l2={self.l2} must be positive: without a penalty few images have no unique fit")

    def __call__(self, encoder: Encoder, *, source: Source, device: torch.device, seed: int) -> list[Score]:
        return transfer(encoder, source, protocols=(self,), seed=seed, device=device)

    def score(self, task: TaskFeatures, *, seed: int) -> list[Score]:
        correct, remarks = [], list(task.remarks)
        for split in range(self.splits):
            rows = few_shot(task.train, shots=self.shots, key=keyed_random.key(seed, "lowshot", split))
            model, predicted = self.predict(task, rows)
            correct.append((predicted == task.test.y).double())
            remarks += [f"split {split}: {remark}" for remark in model.remarks()]
        remarks += self.short_classes(task)
        named = [(str(split), part) for split, part in enumerate(correct)]
        named.append(("mean", torch.stack(correct).mean(dim=0)))
        return [self.named_score(task, name, part, tuple(remarks)) for name, part in named]

    def predict(self, task: TaskFeatures, rows: list[int]) -> tuple[LogisticModel, torch.Tensor]:
        """Fit on these training rows, and classify the test images."""
        mean = task.train.x[rows].double().mean(dim=0)
        few, test = (F.normalize(x.double() - mean, dim=1) for x in (task.train.x[rows], task.test.x))
        penalty = (self.l2 / len(rows),)
        model = fit_logistic(few, task.train.y[rows], classes=len(task.classes), l2=penalty)[0]
        return model, model.logits(test).argmax(dim=1)

    def short_classes(self, task: TaskFeatures) -> list[str]:
        count = torch.bincount(task.train.y, minlength=len(task.classes))
        short = [name for name, images in zip(task.classes, count.tolist(), strict=True) if images < self.shots]
        if not short:
            return []
        few = f"{len(short)} of {len(task.classes)} classes have fewer than {self.shots} training images"
        return [f"{few}, such as {short[0]!r}: lower shots, or label more images of them"]

    def named_score(self, task: TaskFeatures, split: str, correct: torch.Tensor, remarks: tuple[str, ...]) -> Score:
        return Score(
            dataset=task.dataset,
            protocol="lowshot",
            shots=self.shots,
            split=split,
            correct=tuple(correct.tolist()),
            image=task.test.image,
            family=task.test.family,
            settings={"l2": self.l2},
            remarks=remarks,
        )
