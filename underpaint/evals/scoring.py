"""Scores of an evaluation on the sources that it asks for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from underpaint.data.open_source import open_source
from underpaint.data.source import Source
from underpaint.evals.accuracy import Accuracy
from underpaint.evals.detection.evaluation import DetectionPrecision, write_answers
from underpaint.evals.engine import Engine
from underpaint.evals.filmstrips import write_filmstrips
from underpaint.evals.predictions import Predictions, write_predictions
from underpaint.evals.robustness import Robustness
from underpaint.evals.score import Score, SetScore
from underpaint.evals.split_lists import split_lists, write_split_lists
from underpaint.evals.statistics import estimate
from underpaint.evals.transfer import ChecksSource, FrozenEvaluation, transfer
from underpaint.evals.video import VideoAccuracy
from underpaint.evals.video_attentive import VideoAttentive
from underpaint.messages import say
from underpaint.results.detections import FOLDER_ENDING, PAGE
from underpaint.results.filmstrips import FOLDER_ENDING as FILMS_ENDING
from underpaint.results.filmstrips import PAGE as FILMS_PAGE
from underpaint.results.run import EvaluationRow


class Measured(NamedTuple):
    """The scores of an evaluation, and the data that they are about."""

    scores: Sequence[Score | SetScore]
    datasets: list[str]
    content_hash: str
    beside: dict[str, Callable[[Path], None]]
    """Writers of the further files, by the end of the file's name: ``.predictions.parquet``."""
    page: str = ""
    """The page of a run that shows more of them than its report."""


def measured(evaluation: Any, network: Any, *, labels: str, tags: str, engine: Engine, seed: int) -> Measured:
    """Open the data of an evaluation, tell the user how it was read, and score a network on it.

    Raises:
        ValueError: if the data cannot be opened, or do not fit the network.
    """
    if isinstance(evaluation, DetectionPrecision):
        if labels or tags:
            raise ValueError("annotations of objects have their own classes; leave out --labels and --tags")
        data = evaluation.open()
        scores, detections = evaluation.measure(network.to(engine.device), data, engine=engine)
        beside = {FOLDER_ENDING: partial(write_answers, data=data, detections=detections)}
        return Measured(scores, [data.table.name], data.content_hash, beside, PAGE)
    sources = sources_of(evaluation, labels=labels, tags=tags)
    say_notes(evaluation, sources)
    scores, predictions = scored(evaluation, network.to(engine.device), sources, engine=engine, seed=seed)
    beside: dict[str, Callable[[Path], None]] = {}
    if predictions:
        beside[".predictions.parquet"] = partial(write_predictions, predictions=predictions)
    page = ""
    if isinstance(evaluation, VideoAccuracy):
        (source,), (answers,), form = sources, predictions, network.clip_input
        beside[FILMS_ENDING] = partial(write_filmstrips, root=source.root, predictions=answers, form=form)
        page = FILMS_PAGE
    if lists := split_lists(scores):
        beside[".splits"] = partial(write_split_lists, lists=lists)
    return Measured(scores, [source.name for source in sources], content_hash(sources), beside, page)


def sources_of(evaluation: Any, *, labels: str, tags: str) -> list[Source]:
    """The sources that an evaluation is about; ``labels`` and ``tags`` are files with those of a folder.

    Raises:
        ValueError: if one cannot be opened.
    """
    if not isinstance(evaluation, (Robustness, VideoAccuracy, VideoAttentive)):
        return [open_source(evaluation.dataset, tags=tags, labels=labels)]
    if labels or tags:
        whose = "the sets of robustness" if isinstance(evaluation, Robustness) else "the videos of a list"
        raise ValueError(f"{whose} have their own classes; leave out --labels and --tags")
    return evaluation.sources()


@runtime_checkable
class MeasuredByEngine(Protocol):
    """An evaluation that reads its images by an engine; one of your own may leave the engine alone."""

    def measure(self, network: Any, /, *, source: Source, engine: Engine, seed: int) -> list[Score]: ...


def scored(
    evaluation: Any, network: Any, sources: Sequence[Source], *, engine: Engine, seed: int
) -> tuple[list[Score], list[Predictions]]:
    """All scores, and the predictions that those of a classifier are computed from."""
    if isinstance(evaluation, (Accuracy, VideoAccuracy)):
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


def row_of(score: Score | SetScore) -> EvaluationRow:
    """A score with its interval."""
    interval = score.interval if isinstance(score, SetScore) else estimate([score], seed=0)
    row: EvaluationRow = {**score.row(), "remarks": list(score.remarks)}
    if interval is not None:
        row["low"], row["high"] = interval.low, interval.high
    if score.settings:
        row["settings"] = score.settings
    if isinstance(score, SetScore):
        return row
    if score.chance is not None:
        row["chance"] = score.chance
    if score.versions:
        row["versions"] = score.versions
    return row


def content_hash(sources: Sequence[Source]) -> str:
    """The hash of the data of an evaluation, of several sources together."""
    hashes = [source.content_hash for source in sources]
    return hashes[0] if len(hashes) == 1 else hashlib.blake2b(" ".join(hashes).encode(), digest_size=16).hexdigest()
