"""Training of a head on cached features, which are read in pieces: they may be a file larger than memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from underpaint import keyed_random
from underpaint.core import Batch
from underpaint.data.order import permutation
from underpaint.evals.fitting import Fit, HeadOn, best_class, fit
from underpaint.evals.mode import evaluation_mode
from underpaint.training.optim import OptimConfig

PIECE = 1 << 22
"""Values of features that are read at once where a head predicts: 16 MiB in float32."""
FEWEST_STEPS = 16
"""Steps that an epoch has at least: a published batch may have more images than a small dataset."""


@dataclass(frozen=True, kw_only=True)
class HeadRecipe:
    """Published settings of a head's training, but for the rates to choose from."""

    optim: OptimConfig
    epochs: int
    warmup: int  # epochs
    batch_size: int
    batch_norm: bool = False

    def lasting(self, epochs: int) -> HeadRecipe:
        """The same with another number of epochs, and a warm-up of the same share; 0 changes nothing."""
        return replace(self, epochs=epochs, warmup=self.warmup * epochs // self.epochs) if epochs else self


class Candidate(NamedTuple):
    """One setting of the optimizer."""

    base_lr: float
    weight_decay: float


class FeatureHeads:
    """Trains heads on rows of features (n, ...), float16 or float32 on the CPU, for instance memory-mapped."""

    def __init__(
        self, x: Float[Tensor, "n *rest d"], y: Int64[Tensor, " n"], *, classes: int, device: torch.device
    ) -> None:
        self.x, self.y, self.classes, self.device = x, y, classes, device

    def train(
        self, rows: Int64[Tensor, " r"], recipe: HeadRecipe, candidate: Candidate, *, body: nn.Module, seed: int
    ) -> HeadOn:
        """A head on ``body``, trained on these rows.

        Raises:
            NonFiniteLoss: if it diverges.
        """
        base_lr, weight_decay = candidate
        model = HeadOn(
            body, key="feature", width=self.x.shape[-1], classes=self.classes, batch_norm=recipe.batch_norm, seed=seed
        ).to(self.device)
        batch_size = batch_of(len(rows), recipe.batch_size)
        settings = Fit(
            samples=recipe.epochs * len(rows),
            batch_size=batch_size,
            warmup=recipe.warmup * len(rows),
            optim=replace(recipe.optim, base_lr=base_lr, weight_decay=weight_decay),
        )
        fit(model, feature_batches(self.x, self.y, rows, batch_size=batch_size, key=seed), settings, device=self.device)
        return model


def batch_of(images: int, published: int) -> int:
    """Images of a step: as published, or so few that an epoch has FEWEST_STEPS steps (never below 32, or all)."""
    return min(published, images, max(32, images // FEWEST_STEPS))


def feature_batches(
    x: Float[Tensor, "n *rest d"], y: Int64[Tensor, " n"], rows: Int64[Tensor, " r"], *, batch_size: int, key: int
) -> Iterator[Batch]:
    """Endless batches of the rows, in another order in each epoch; only the rows of a batch are read."""
    epoch, order = 0, torch.zeros(0, dtype=torch.int64)
    weight = torch.ones(batch_size)
    while True:
        while len(order) < batch_size:
            shuffled = torch.from_numpy(permutation(keyed_random.mix(key, epoch), len(rows)))
            order, epoch = torch.cat([order, rows[shuffled]]), epoch + 1
        now, order = order[:batch_size], order[batch_size:]
        yield {"feature": x[now].float(), "labels": y[now][:, None], "weight": weight}


def predict(
    model: HeadOn, x: Float[Tensor, "n *rest d"], rows: Int64[Tensor, " r"], device: torch.device
) -> Int64[Tensor, " r"]:
    """The best class of each row, read in pieces."""
    size = max(1, PIECE // x[0].numel())
    best = torch.empty(len(rows), dtype=torch.int64)
    with evaluation_mode(model, device):
        for start in range(0, len(rows), size):
            piece = x[rows[start : start + size]].float().to(device)
            best[start : start + size] = best_class(model.logits(piece)).cpu()
    return best


def head_device() -> torch.device:
    """The device for heads of features that lie on the CPU: a GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def require_rates(base_lr: tuple[float, ...], weight_decay: tuple[float, ...]) -> None:
    """Raise ValueError for a rate that is not positive, or a decay below 0."""
    if any(rate <= 0 for rate in base_lr) or any(decay < 0 for decay in weight_decay):
        raise ValueError(f"base_lr={base_lr} must be positive, and weight_decay={weight_decay} not negative")
