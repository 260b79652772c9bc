"""The transfer protocols of the studies, as parts whose output is plain JSON."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from underpaint.data.source import Source
from underpaint.data.view_memory import ViewMemory
from underpaint.evals.accuracy import Accuracy
from underpaint.evals.engine import Engine
from underpaint.evals.knn import Knn
from underpaint.evals.linear import Linear
from underpaint.evals.lowshot import LowShot
from underpaint.evals.tags import TagRecall
from underpaint.evals.transfer import transfer
from underpaint.models.weights import load_encoder
from underpaint.run.outputs import load_model
from underpaint.training.devices import choose_device

VIEW = "crop_oblong"
"""Square images are seen whole: drawings fill theirs, and a crop would cut off parts of them."""


def frozen_protocols(dataset: str, *, shots: Sequence[int]) -> tuple[Linear | LowShot | Knn, ...]:
    """Protocols that measure every frozen encoder on a dataset: linear probe, low-shot and nearest neighbours."""
    return (
        Linear(dataset=dataset, view=VIEW),
        *(LowShot(dataset=dataset, shots=count, view=VIEW) for count in shots),
        Knn(dataset=dataset, view=VIEW),
    )


def frozen_settings(source: Source, *, shots: Sequence[int], seed: int) -> dict[str, object]:
    """Settings that the scores of a frozen encoder follow from, beside its weights."""
    views = sorted({protocol.view for protocol in frozen_protocols(source.name, shots=shots)})
    return {"data": source.content_hash, "seed": seed, "shots": list(shots), "views": views}


def frozen_scores(run: Path, source: Source, *, shots: Sequence[int], seed: int) -> list[dict[str, object]]:
    """The scores of the frozen encoder of a run."""
    engine, protocols = _engine(), frozen_protocols(source.name, shots=shots)
    encoder = load_encoder(run).to(engine.device)
    scores = transfer(encoder, source, protocols=protocols, seed=seed, device=engine.device, engine=engine)
    return [score.record() for score in scores]


def classifier_scores(run: Path, source: Source) -> list[dict[str, object]]:
    """Accuracy of a finetuned model."""
    engine = _engine()
    model: Any = load_model(run).to(engine.device)
    return [score.record() for score in Accuracy(dataset=source.name).predictions(model, source, engine).scores()]


def tag_scores(run: Path, source: Source) -> list[dict[str, object]]:
    """Recall of the tags of held-out images, by their frequency; [] where no such image has a tag."""
    engine = _engine()
    model: Any = load_model(run).to(engine.device)
    known = set(model.labels)
    if not any(known.intersection(source.tags[row]) for row in source.rows("heldout")):
        return []
    scores = TagRecall(dataset=source.name).measure(model, source=source, engine=engine, seed=0)
    return [score.record() for score in scores]


@cache
def _engine() -> Engine:
    """The engine of all parts in this process, which are shown the same test images again and again."""
    return Engine(device=choose_device("any"), views=ViewMemory())
