"""Linear probe as published, a head trained by SGD or LARS, on features that are computed once and read in pieces.

For datasets too large for the exact solver of ``linear.py``: of ImageNet-1k's features only those of a batch are in
memory. Published runs crop training images at random in each epoch; here each has one feature, that of its evaluation
view. The recipes ``linear_*`` train with random crops.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import ClassVar, Literal

import torch
from torch import nn

from underpaint import keyed_random
from underpaint.data.source import Source
from underpaint.evals.choosing import Accuracies, Choice, choose
from underpaint.evals.class_splits import hold_out
from underpaint.evals.feature_training import Candidate, FeatureHeads, HeadRecipe, head_device, predict, require_rates
from underpaint.evals.features import Encoder, TaskFeatures, require_tunable, transfer_classes
from underpaint.evals.score import Score
from underpaint.evals.transfer import transfer
from underpaint.evals.view import ViewSetting, require_view
from underpaint.models.pooling import Pooling
from underpaint.training.optim import OptimConfig

RECIPES = {
    "swag": HeadRecipe(
        optim=OptimConfig(name="sgd", nesterov=True, weight_decay=1e-9), epochs=28, warmup=0, batch_size=1024
    ),
    "mae": HeadRecipe(
        optim=OptimConfig(name="lars", weight_decay=0.0), epochs=90, warmup=10, batch_size=16_384, batch_norm=True
    ),
}
RATES = {"swag": (10.0, 1.0, 0.1, 0.01), "mae": (0.1,)}
"""Rates per 256 images. SWAG's is not known, so it is chosen; MAE's is published."""


@dataclass(frozen=True, kw_only=True)
class LinearSGD:
    """Linear probe of an encoder, trained by SWAG's SGD or MAE's LARS: top-1 on the test images of a dataset.

    Among several rates the one that classifies held-out training images best wins (ties: the first), and the probe is
    trained again on all training images.
    """

    needs: ClassVar[type] = Encoder

    dataset: str  # collection, folder, prepared set, or a published one as NAME:FOLDER
    pooling: Pooling = "cls"
    view: ViewSetting = "published"  # of each image: a setting, preset or view in full (evals/view.py)
    batch_size: int = 64  # images per forward pass of the encoder
    preset: Literal["swag", "mae"] = "swag"  # SGD for 28 epochs, or LARS after BatchNorm for 90 (paper.md 2.3)
    base_lr: tuple[float, ...] = ()  # per 256 images, several to choose from; empty: the preset's
    weight_decay: tuple[float, ...] = ()  # several to choose from; empty: the preset's
    epochs: int = 0  # 0: the preset's
    tuning_share: float = 0.2  # of the training images, where there is something to choose

    def __post_init__(self) -> None:
        require_view(self.view)
        require_rates(self.base_lr, self.weight_decay)
        if self.batch_size < 1 or self.epochs < 0:
            raise ValueError(f"batch_size={self.batch_size} must be 1 or more, and epochs={self.epochs} 0 or more")
        if not 0 < self.tuning_share < 1:
            raise ValueError(f"tuning_share={self.tuning_share} must lie between 0 and 1")

    def check(self, source: Source) -> list[str]:
        """Nothing to remark; raises ValueError without a transfer task, or without an image to choose a rate by."""
        transfer_classes(source)
        if len(self.candidates()) > 1:
            require_tunable(source, share=self.tuning_share)
        return []

    def __call__(self, encoder: Encoder, *, source: Source, device: torch.device, seed: int) -> list[Score]:
        return transfer(encoder, source, protocols=(self,), seed=seed, device=device)

    @property
    def recipe(self) -> HeadRecipe:
        """The preset with the number of epochs that is set."""
        return RECIPES[self.preset].lasting(self.epochs)

    def candidates(self) -> list[Candidate]:
        decays = self.weight_decay or (self.recipe.optim.weight_decay,)
        return [Candidate(*pair) for pair in product(self.base_lr or RATES[self.preset], decays)]

    def score(self, task: TaskFeatures, *, seed: int) -> list[Score]:
        candidates, chosen, settings = self.candidates(), 0, dict[str, float]()
        key = keyed_random.key(seed, "linear_sgd")
        if len(candidates) > 1:
            choice = self.choose(task, candidates, seed=key)
            chosen, settings = choice.place, choice.settings()
        heads, rows = self.heads(task), torch.arange(len(task.train.y))
        model = heads.train(rows, self.recipe, candidates[chosen], body=nn.Identity(), seed=key)
        predicted = predict(model, task.test.x, torch.arange(len(task.test.y)), heads.device)
        return [
            Score(
                dataset=task.dataset,
                protocol="linear_sgd",
                correct=tuple((predicted == task.test.y).double().tolist()),
                image=task.test.image,
                family=task.test.family,
                settings={**candidates[chosen]._asdict(), "epochs": float(self.recipe.epochs), **settings},
                remarks=task.remarks,
            )
        ]

    def choose(self, task: TaskFeatures, candidates: list[Candidate], *, seed: int) -> Choice:
        """The best candidate on held-out training images."""
        heads = self.heads(task)
        key = keyed_random.key(seed, "hold out")
        fitting, tuning = map(torch.tensor, hold_out(task.train, share=self.tuning_share, key=key))
        every = torch.arange(len(task.test.y))

        def judge(candidate: Candidate) -> Accuracies:
            model = heads.train(fitting, self.recipe, candidate, body=nn.Identity(), seed=seed)
            held = predict(model, task.train.x, tuning, heads.device) == task.train.y[tuning]
            test = predict(model, task.test.x, every, heads.device) == task.test.y
            return Accuracies(float(held.double().mean()), float(test.double().mean()))

        return choose(candidates, judge, what="base_lr")

    def heads(self, task: TaskFeatures) -> FeatureHeads:
        return FeatureHeads(task.train.x, task.train.y, classes=len(task.classes), device=head_device())
