"""Scores of an evaluation on the sources that it asks for."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch

from underpaint.data.open_source import open_source
from underpaint.data.source import Source
from underpaint.evals.accuracy import Accuracy
from underpaint.evals.predictions import Predictions
from underpaint.evals.robustness import Robustness
from underpaint.evals.score import Score
from underpaint.evals.statistics import estimate
from underpaint.evals.transfer import ChecksSource
from underpaint.results.run import EvaluationRow


def sources_of(evaluation: Any, *, labels: str, tags: str) -> list[Source]:
    """The sources that an evaluation is about; ``labels`` and ``tags`` are files with those of a folder.

    Raises:
        ValueError: if one cannot be opened.
    """
    if not isinstance(evaluation, Robustness):
        return [open_source(evaluation.dataset, tags=tags, labels=labels)]
    if labels or tags:
        raise ValueError("the sets of robustness have their own classes; leave out --labels and --tags")
    return evaluation.sources()


def scored(
    evaluation: Any, network: Any, sources: Sequence[Source], *, device: torch.device, seed: int
) -> tuple[list[Score], list[Predictions]]:
    """All scores, and the predictions that those of a classifier are computed from."""
    if isinstance(evaluation, Accuracy):
        predictions = [evaluation.predictions(network, source, device) for source in sources]
        return [score for each in predictions for score in each.scores()], predictions
    return [s for source in sources for s in evaluation(network, source=source, device=device, seed=seed)], []


def remarks_before(evaluation: Any, source: Source) -> list[str]:
    """Remarks on the labels of a source, to be made before anything is computed.

    Raises:
        ValueError: if the evaluation has no use for them.
    """
    return evaluation.check(source) if isinstance(evaluation, ChecksSource) else []


def row_of(score: Score) -> EvaluationRow:
    """A score with its interval."""
    interval = estimate([score], seed=0)
    row: EvaluationRow = {**score.row(), "remarks": list(score.remarks), "low": interval.low, "high": interval.high}
    if score.chance is not None:
        row["chance"] = score.chance
    if score.versions:
        row["versions"] = score.versions
    if score.settings:
        row["settings"] = score.settings
    return row


def content_hash(sources: Sequence[Source]) -> str:
    """The hash of the data of an evaluation, of several sources together."""
    hashes = [source.content_hash for source in sources]
    return hashes[0] if len(hashes) == 1 else hashlib.blake2b(" ".join(hashes).encode(), digest_size=16).hexdigest()
