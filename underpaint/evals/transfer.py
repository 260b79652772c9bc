"""Score one encoder under several protocols on one dataset, its features computed once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch

from underpaint.data.source import Source
from underpaint.evals.features import Encoder, Pooling, TaskFeatures, extract_task
from underpaint.evals.score import Score


@runtime_checkable
class FrozenEvaluation(Protocol):
    """A frozen dataclass that scores features: Linear, LowShot, Knn, or one of your own."""

    @property
    def pooling(self) -> Pooling: ...

    @property
    def batch_size(self) -> int: ...

    def score(self, task: TaskFeatures, *, seed: int) -> list[Score]: ...


def transfer(
    encoder: Encoder, source: Source, *, protocols: Sequence[FrozenEvaluation], seed: int, device: torch.device
) -> list[Score]:
    """Scores of all protocols, in order; those with the same pooling and batch size share the features.

    The encoder stands on ``device`` already. ``seed`` draws the splits of the training images. Test images take part
    in no fit.

    Raises:
        ValueError: if the source has no transfer task, or no readable image in one of its halves.
    """
    tasks: dict[tuple[Pooling, int], TaskFeatures] = {}
    scores: list[Score] = []
    for protocol in protocols:
        form = protocol.pooling, protocol.batch_size
        if form not in tasks:
            tasks[form] = extract_task(
                encoder, source, pooling=protocol.pooling, batch_size=protocol.batch_size, device=device
            )
        scores += protocol.score(tasks[form], seed=seed)
    return scores
