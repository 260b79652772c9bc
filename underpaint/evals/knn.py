"""Weighted nearest neighbours on frozen features: no training, no penalty, no intercept.

Each of the k nearest training images by cosine votes for its class with exp(similarity / temperature) (Wu et al.
2018, section 3.4); k = 20 and 0.07 are the values of DINO (Caron et al. 2021, eval_knn.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor
from torch.nn import functional as F

from underpaint.data.source import Source
from underpaint.evals.features import Encoder, TaskFeatures
from underpaint.evals.score import Score
from underpaint.evals.transfer import transfer
from underpaint.evals.view import ViewSetting, require_view
from underpaint.models.pooling import Pooling

CHUNK = 1 << 24
"""Similarities held at once: 128 MiB of float64."""


@dataclass(frozen=True, kw_only=True)
class Knn:
    """Nearest-neighbour top-1 of an encoder on the test images of a dataset."""

    needs: ClassVar[type] = Encoder
    draws: ClassVar[bool] = False

    dataset: str  # collection, folder, prepared set, or a published one as NAME:FOLDER
    pooling: Pooling = "cls"
    view: ViewSetting = "published"  # of each image: a setting, preset or view in full (evals/view.py)
    batch_size: int = 64  # images per forward pass
    k: int = 20  # neighbours; all training images where there are fewer
    temperature: float = 0.07

    def __post_init__(self) -> None:
        require_view(self.view)
        for name in ("batch_size", "k"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be 1 or more")
        if self.temperature <= 0:
            raise ValueError(f"temperature={self.temperature} must be positive")

    def __call__(self, encoder: Encoder, *, source: Source, device: torch.device, seed: int) -> list[Score]:
        return transfer(encoder, source, protocols=(self,), seed=seed, device=device)

    def score(self, task: TaskFeatures, *, seed: int) -> list[Score]:  # nothing is drawn: the seed decides nothing
        k = min(self.k, len(task.train.y))
        votes = neighbour_votes(
            task.train.x, task.train.y, task.test.x, classes=len(task.classes), k=k, temperature=self.temperature
        )
        correct = votes.argmax(dim=1) == task.test.y
        capped = (f"k={self.k} is more than the {k} training images: all of them vote",) if k < self.k else ()
        return [
            Score(
                dataset=task.dataset,
                protocol="knn",
                correct=tuple(correct.double().tolist()),
                image=task.test.image,
                family=task.test.family,
                settings={"k": float(k), "temperature": self.temperature},
                remarks=(*task.remarks, *capped),
            )
        ]


def neighbour_votes(
    x: Float[Tensor, "n d"],
    y: Int64[Tensor, " n"],
    query: Float[Tensor, "b d"],
    *,
    classes: int,
    k: int,
    temperature: float,
) -> Float64[Tensor, "b classes"]:
    """Sum of the votes of the k nearest of ``x`` for each class, up to a factor for each query.

    The factor is the vote of its nearest: exp(1 / temperature) has no number below a temperature of 0.0015.
    """
    train, queries = F.normalize(x.double(), dim=1), F.normalize(query.double(), dim=1)
    votes = torch.zeros(len(query), classes, dtype=torch.float64)
    rows = max(1, CHUNK // len(x))
    for start in range(0, len(query), rows):
        similarity, nearest = (queries[start : start + rows] @ train.T).topk(k, dim=1)
        votes[start : start + rows].scatter_add_(1, y[nearest], ((similarity - similarity[:, :1]) / temperature).exp())
    return votes
