"""Probabilities that a trained head gives to some labels for every image of a set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from underpaint.data.source import Source

if TYPE_CHECKING:
    from underpaint.objectives.classify import Classify

BATCH = 64


def head_scores(model: Classify, source: Source, names: Sequence[str]) -> Float[np.ndarray, "images labels"]:
    """Probabilities of labels that the model knows, float32; 0 for images that cannot be read.

    Features are kept in the cache, so that a second audit with the same run decodes nothing.
    """
    import torch

    from underpaint.evals.mode import evaluation_mode
    from underpaint.run.evaluation_engine import engine_for

    place = {name: column for column, name in enumerate(model.labels)}
    columns = torch.tensor([place[name] for name in names])
    engine = engine_for()
    rows = range(len(source.path))
    parts = [np.zeros((0, len(names)), dtype=np.float32)]
    for scores, readable in engine.scores(
        model.to(engine.device), source, rows, format=model.image_input, batch_size=BATCH
    ):
        with evaluation_mode(model, engine.device):
            probabilities = model.probabilities_of(scores)[:, columns]
        parts.append(torch.where(readable[:, None], probabilities, 0).numpy())
    return np.concatenate(parts)
