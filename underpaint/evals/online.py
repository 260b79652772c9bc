"""An evaluation of frozen features as part of a training run: its score becomes a curve beside the loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from underpaint.core import Objective
from underpaint.data.open_source import open_source
from underpaint.evals.knn import Knn
from underpaint.evals.linear import Linear
from underpaint.evals.lowshot import LowShot


@dataclass(frozen=True, kw_only=True)
class Online:
    """Top-1 of the encoder as it stands, for ``Run.evals``: ``Online(evaluation=Knn(dataset="digits"))``."""

    evaluation: Linear | LowShot | Knn
    seed: int = 0

    needs: ClassVar[type] = Objective

    def __call__(self, objective: nn.Module) -> dict[str, float]:
        source = open_source(self.evaluation.dataset)
        device = next(objective.parameters()).device
        scores = self.evaluation(objective.encoder, source=source, device=device, seed=self.seed)  # pyright: ignore[reportArgumentType]
        return {f"{source.name} {score.protocol} {score.split}": score.value for score in scores}
