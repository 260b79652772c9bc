"""Scores of an evaluation on the sources that it asks for."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from underpaint.data.open_source import open_source
from underpaint.data.source import Source
from underpaint.evals.accuracy import Accuracy
from underpaint.evals.engine import Engine
from underpaint.evals.predictions import Predictions
from underpaint.evals.robustness import Robustness
from underpaint.evals.score import Score
from underpaint.evals.statistics import estimate
from underpaint.evals.transfer import ChecksSource, FrozenEvaluation, transfer
from underpaint.messages import say
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


@runtime_checkable
class MeasuredByEngine(Protocol):
    """An evaluation that reads its images by an engine; one of your own may leave the engine alone."""

    def measure(self, network: Any, /, *, source: Source, engine: Engine, seed: int) -> list[Score]: ...


def scored(
    evaluation: Any, network: Any, sources: Sequence[Source], *, engine: Engine, seed: int
) -> tuple[list[Score], list[Predictions]]:
    """All scores, and the predictions that those of a classifier are computed from."""
    if isinstance(evaluation, Accuracy):
        predictions = [evaluation.predictions(network, source, engine) for source in sources]
        return [score for each in predictions for score in each.scores()], predictions

    def scores(source: Source) -> list[Score]:
        if isinstance(evaluation, FrozenEvaluation):
            of_one = (evaluation,)
            return transfer(network, source, protocols=of_one, seed=seed, device=engine.device, engine=engine)
        if isinstance(evaluation, MeasuredByEngine):
            return evaluation.measure(network, source=source, engine=engine, seed=seed)
        return evaluation(network, source=source, device=engine.device, seed=seed)

    return [score for source in sources for score in scores(source)], []


def say_notes(evaluation: Any, sources: Sequence[Source]) -> None:
    """Tell the user how classes and splits were read, and what the evaluation has to remark on them, before it starts.

    Raises:
        ValueError: if the evaluation has no use for the labels.
    """
    for source in sources:
        remarks = evaluation.check(source) if isinstance(evaluation, ChecksSource) else []
        for note in (*source.notes, *remarks):
            say(f"{source.name}: {note}")


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
