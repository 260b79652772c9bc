"""Linear probe: logistic regression on frozen features, its penalty tuned on a part of the training images.

The probes of the MAE and SWAG papers (paper.md 2.3) train the same model by SGD with augmentation. On the full
features of a small dataset the convex problem is solved exactly instead, as is usual (CLIP, appendix A.3): nothing
about the optimizer can then favour one encoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from underpaint import keyed_random
from underpaint.data.source import Source
from underpaint.evals.choosing import Accuracies, best_of
from underpaint.evals.class_splits import hold_out
from underpaint.evals.features import (
    Encoder,
    LabelledFeatures,
    TaskFeatures,
    labelled_rows,
    require_tunable,
    transfer_classes,
)
from underpaint.evals.logistic import LogisticModel, fit_logistic
from underpaint.evals.score import Score
from underpaint.evals.transfer import transfer
from underpaint.evals.view import ViewSetting, require_view
from underpaint.models.pooling import Pooling

LARGEST = 2**27
"""Largest number of training images times classes for which the exact solver holds its float64 matrices, about 5."""


@dataclass(frozen=True, kw_only=True)
class LinearFields:
    """Fields of a linear probe, and the check of the data for the exact solver."""

    needs: ClassVar[type] = Encoder

    dataset: str  # collection, folder, prepared set, or a published one as NAME:FOLDER
    pooling: Pooling = "cls"
    view: ViewSetting = "published"  # of each image: a setting, preset or view in full (evals/view.py)
    batch_size: int = 64  # images per forward pass
    l2: tuple[float, ...] = (10.0, 1.0, 0.1, 0.01, 1e-3, 1e-4, 1e-5)  # of mean loss + l2 / 2 * ||W||^2, to choose from
    tuning_share: float = 0.2  # of the training images

    def __post_init__(self) -> None:
        require_view(self.view)
        if self.batch_size < 1:
            raise ValueError(f"batch_size={self.batch_size} must be 1 or more")
        if not self.l2 or min(self.l2) <= 0 or list(self.l2) != sorted(set(self.l2), reverse=True):
            raise ValueError(f"l2={self.l2} must hold positive numbers, from the strongest (largest) to the weakest")
        if not 0 < self.tuning_share < 1:
            raise ValueError(f"tuning_share={self.tuning_share} must lie between 0 and 1")

    def check(self, source: Source) -> list[str]:
        """Nothing to remark.

        Raises:
            ValueError: if there is no transfer task, it is too large for the exact solver, or no image can be spared.
        """
        images, classes = len(labelled_rows(source, "train")), len(transfer_classes(source))
        if images * classes > LARGEST:
            needed = 5 * 8 * images * classes / 2**30
            raise ValueError(
                f"the exact solver needs about {needed:,.0f} GiB for {images:,} training images of {classes:,} "
                f"classes; take linear_sgd, which trains the same probe and reads the features in pieces"
            )
        require_tunable(source, share=self.tuning_share)
        return []


@dataclass(frozen=True, kw_only=True)
class Linear(LinearFields):
    """Linear probe of an encoder: top-1 on the test images of a dataset.

    Features are standardised with the statistics of the images fitted on. The penalty that classifies the held-out
    training images best wins (ties: the stronger), and the probe is fitted again on all training images. Beside the
    score stands the selection bonus: how much better the best penalty on the test images would have looked there.
    """

    def __call__(self, encoder: Encoder, *, source: Source, device: torch.device, seed: int) -> list[Score]:
        return transfer(encoder, source, protocols=(self,), seed=seed, device=device)

    def score(self, task: TaskFeatures, *, seed: int) -> list[Score]:
        judged, remarks = self.judge(task, seed=seed)
        choice = best_of(judged, what="l2")
        return [self.fitted(task, self.l2[choice.place], settings=choice.settings(), remarks=remarks)]

    def fitted(self, task: TaskFeatures, l2: float, *, settings: dict[str, float], remarks: Sequence[str]) -> Score:
        """The score of the probe that is fitted to all training images with this penalty."""
        model, scaling = fit_standardised(task.train, classes=len(task.classes), l2=(l2,))
        correct = model[0].logits(scaling(task.test.x)).argmax(dim=1) == task.test.y
        return Score(
            dataset=task.dataset,
            protocol="linear",
            correct=tuple(correct.double().tolist()),
            image=task.test.image,
            family=task.test.family,
            settings={"l2": l2, **settings},
            remarks=(*task.remarks, *remarks, *model[0].remarks()),
        )

    def judge(self, task: TaskFeatures, *, seed: int) -> tuple[list[Accuracies], list[str]]:
        """Accuracies with each penalty of a probe without the held-out training images, and what to remark."""
        fitting, tuning = hold_out(
            task.train, share=self.tuning_share, key=keyed_random.key(seed, "linear", "hold out")
        )
        models, scaling = fit_standardised(select(task.train, fitting), classes=len(task.classes), l2=self.l2)
        halves = (task.train.x[tuning], task.train.y[tuning]), (task.test.x, task.test.y)
        (held, y), (test, y_test) = ((scaling(x), labels) for x, labels in halves)
        judged = [
            Accuracies(
                float((model.logits(held).argmax(dim=1) == y).double().mean()),
                float((model.logits(test).argmax(dim=1) == y_test).double().mean()),
            )
            for model in models
        ]
        return judged, [f"while the penalty was tuned, {remark}" for model in models for remark in model.remarks()]


class Scaling(NamedTuple):
    """Mean 0 and deviation 1 for each feature of the images it was made from."""

    mean: Float64[Tensor, " d"]
    deviation: Float64[Tensor, " d"]

    def __call__(self, x: Float[Tensor, "b d"]) -> Float64[Tensor, "b d"]:
        return (x.double() - self.mean) / self.deviation


def standardisation(x: Float[Tensor, "n d"]) -> Scaling:
    """The scaling fitted to these images; a constant feature becomes 0."""
    mean, deviation = x.double().mean(dim=0), x.double().std(dim=0, correction=0)
    # A feature that varies by no more than float32 rounding is constant: dividing would blow that noise up.
    constant = deviation <= 1e-6 * mean.abs()
    return Scaling(mean, deviation.masked_fill(constant, torch.inf))


def fit_standardised(
    half: LabelledFeatures, *, classes: int, l2: tuple[float, ...]
) -> tuple[list[LogisticModel], Scaling]:
    """One model per penalty on standardised features, and the scaling to put before it."""
    scaling = standardisation(half.x)
    return fit_logistic(scaling(half.x), half.y, classes=classes, l2=l2), scaling


def select(half: LabelledFeatures, rows: list[int]) -> LabelledFeatures:
    """Some of the images."""
    return LabelledFeatures(
        x=half.x[rows],
        y=half.y[rows],
        image=tuple(half.image[row] for row in rows),
        family=tuple(half.family[row] for row in rows),
    )
