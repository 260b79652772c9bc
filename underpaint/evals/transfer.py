"""Score one encoder under several protocols on one dataset, its features computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

import torch

from underpaint.data.source import Source
from underpaint.evals.engine import Engine
from underpaint.evals.features import Encoder, TaskFeatures, extract_task
from underpaint.evals.score import Score
from underpaint.evals.view import ViewSetting
from underpaint.models.pooling import Pooling


@runtime_checkable
class FrozenEvaluation(Protocol):
    """A frozen dataclass that scores features: Linear, LowShot, Knn, or one of your own."""

    @property
    def pooling(self) -> Pooling: ...

    @property
    def view(self) -> ViewSetting: ...

    @property
    def batch_size(self) -> int: ...

    def score(self, task: TaskFeatures, *, seed: int) -> list[Score]: ...


@runtime_checkable
class ChecksSource(Protocol):
    """An evaluation that looks at the labels of a source before anything is computed."""

    def check(self, source: Source) -> list[str]:
        """Remarks on them; raises ValueError for what cannot be evaluated."""
        ...


def transfer(
    encoder: Encoder,
    source: Source,
    *,
    protocols: Sequence[FrozenEvaluation],
    seed: int,
    device: torch.device,
    engine: Engine | None = None,
) -> list[Score]:
    """Scores of all protocols, in order; those with the same pooling, view and batch size share the features.

    Each score names the view. The encoder stands on ``device`` already. ``seed`` draws the splits of the training
    images. Test images take part in no fit. Without an ``engine`` nothing is kept in the cache; where several processes
    share the work of one, the first alone computes scores.

    Raises:
        ValueError: if the source has no transfer task, or no readable image in one of its halves.
    """
    for protocol in protocols:
        if isinstance(protocol, ChecksSource):
            protocol.check(source)
    engine = engine or Engine(device=device)
    tasks: dict[tuple[Pooling, ViewSetting, int], TaskFeatures] = {}
    scores: list[Score] = []
    for protocol in protocols:
        form = pooling, view, batch_size = protocol.pooling, protocol.view, protocol.batch_size
        if form not in tasks:
            tasks[form] = extract_task(
                encoder, source, pooling=pooling, view=view, batch_size=batch_size, engine=engine
            )
        if engine.first:
            scores += [replace(score, view=tasks[form].view) for score in protocol.score(tasks[form], seed=seed)]
    return scores
