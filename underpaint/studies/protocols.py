"""The transfer protocols of the studies, as parts whose output is plain JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from underpaint.data.records import Source
from underpaint.evals.accuracy import Accuracy
from underpaint.evals.knn import Knn
from underpaint.evals.linear import Linear
from underpaint.evals.lowshot import LowShot
from underpaint.evals.transfer import transfer
from underpaint.models.weights import load_encoder
from underpaint.products import load_model
from underpaint.run import choose_device

SHOTS = 5


def frozen_scores(run: Path, source: Source, *, seed: int) -> list[dict[str, Any]]:
    """Linear probe, 5-shot and nearest neighbours on the frozen encoder of a run."""
    device = choose_device("any")
    protocols = (
        Linear(dataset=source.name),
        LowShot(dataset=source.name, shots=SHOTS),
        Knn(dataset=source.name),
    )
    encoder = load_encoder(run).to(device)
    return [score.record() for score in transfer(encoder, source, protocols=protocols, seed=seed, device=device)]


def classifier_scores(run: Path, source: Source, *, seed: int) -> list[dict[str, Any]]:
    """Accuracy of a finetuned model."""
    device = choose_device("any")
    model: Any = load_model(run).to(device)
    scores = Accuracy(dataset=source.name)(model, source=source, device=device, seed=seed)
    return [score.record() for score in scores]
