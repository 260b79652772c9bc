"""Low-shot classification by a linear head that is trained by SGD, the "linear" protocol of VPT's authors.

They train on random crops (KMnP/vpt, configs/linear); here each image has one feature, that of its evaluation view.
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
from underpaint.evals.class_splits import LabelledImages, hold_out
from underpaint.evals.feature_training import Candidate, FeatureHeads, HeadRecipe, head_device, predict, require_rates
from underpaint.evals.features import Encoder, TaskFeatures
from underpaint.evals.few_shots import FewShots, require_choice
from underpaint.evals.score import Score
from underpaint.evals.transfer import transfer
from underpaint.training.optim import OptimConfig

RECIPE = HeadRecipe(optim=OptimConfig(name="sgd", weight_decay=0.0), epochs=100, warmup=10, batch_size=128)
GRIDS = {
    "single": ((1.0,), (1e-4,)),
    "kmnp": (
        (0.0025, 0.005, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0),
        (1e-2, 1e-3, 1e-4, 0.0),
    ),
}
"""Rates per 256 images and decays. ``kmnp`` is the grid of VPT's authors with the rates that they add for MAE;
``single`` is a value from its middle."""


@dataclass(frozen=True, kw_only=True)
class LowShotLinear(FewShots):
    """K-shot top-1 of an encoder with a linear head on frozen features, trained by SGD (momentum 0.9, cosine).

    Among several rates and decays those that classify a held-out fifth of the first split's images best are used for
    all splits (ties: the smaller rate).
    """

    protocol: ClassVar[str] = "lowshot_linear"

    preset: Literal["single", "kmnp"] = "single"  # one rate and decay, or a grid (evals/lowshot_linear.py)
    base_lr: tuple[float, ...] = ()  # per 256 images, several to choose from; empty: the preset's
    weight_decay: tuple[float, ...] = ()  # several to choose from; empty: the preset's
    epochs: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        require_rates(self.base_lr, self.weight_decay)
        if self.epochs < 1:
            raise ValueError(f"epochs={self.epochs} must be 1 or more")
        require_choice(self.shots, len(self.candidates()), fix="base_lr=1 weight_decay=1e-4")

    def candidates(self) -> list[Candidate]:
        """The grid, smaller rates first."""
        rates, decays = GRIDS[self.preset]
        return [Candidate(*pair) for pair in product(sorted(self.base_lr or rates), self.weight_decay or decays)]

    def __call__(self, encoder: Encoder, *, source: Source, device: torch.device, seed: int) -> list[Score]:
        return transfer(encoder, source, protocols=(self,), seed=seed, device=device)

    def score(self, task: TaskFeatures, *, seed: int) -> list[Score]:
        splits = [torch.tensor(rows) for rows in self.drawn(task.train, unread=task.unread, seed=seed)]
        heads = FeatureHeads(task.train.x, task.train.y, classes=len(task.classes), device=head_device())
        recipe, candidates = RECIPE.lasting(self.epochs), self.candidates()
        chosen, settings = candidates[0], dict[str, float]()
        if len(candidates) > 1:
            choice = self.choose(task, heads, splits[0], seed=seed)
            chosen, settings = candidates[choice.place], choice.settings()
        hits, training = [], []
        for split, rows in enumerate(splits):
            key = keyed_random.key(seed, "lowshot_linear", split)
            model = heads.train(rows, recipe, chosen, body=nn.Identity(), seed=key)
            hits.append(
                (predict(model, task.test.x, torch.arange(len(task.test.y)), heads.device) == task.test.y).double()
            )
            training.append(tuple(task.train.image[row] for row in rows.tolist()))
        named = task.train_classes()
        of_splits = [[named[row] for row in rows.tolist()] for rows in splits]
        remarks = [*task.remarks, *self.remarks(task.classes, named, of_splits)]
        settings = {**chosen._asdict(), "epochs": float(self.epochs), **settings}
        return self.scores(task.dataset, task.test, hits, training=training, settings=settings, remarks=remarks)

    def choose(self, task: TaskFeatures, heads: FeatureHeads, rows: torch.Tensor, *, seed: int) -> Choice:
        """The best candidate on held-out images of a split."""
        images = LabelledImages(task.train.y, task.train.image, task.train.family).chosen(rows.tolist())
        fitting, tuning = hold_out(images, share=0.2, key=keyed_random.key(seed, "lowshot_linear", "hold out"))
        recipe, every = RECIPE.lasting(self.epochs), torch.arange(len(task.test.y))

        def judge(candidate: Candidate) -> Accuracies:
            model = heads.train(rows[fitting], recipe, candidate, body=nn.Identity(), seed=seed)
            held = predict(model, task.train.x, rows[tuning], heads.device) == task.train.y[rows[tuning]]
            test = predict(model, task.test.x, every, heads.device) == task.test.y
            return Accuracies(float(held.double().mean()), float(test.double().mean()))

        return choose(self.candidates(), judge, what="base_lr")
