"""The scores of the parts of the study ``transfer``, as plain JSON."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from underpaint.data.detection.dataset import AnnotatedImages
from underpaint.data.near_duplicates.removal import near_duplicates
from underpaint.data.source import Source
from underpaint.evals.accuracy import Accuracy
from underpaint.evals.class_names import read_names
from underpaint.evals.detection.evaluation import DetectionPrecision
from underpaint.evals.engine import Engine
from underpaint.evals.score import Score, SetScore
from underpaint.evals.scoring import scored
from underpaint.evals.video import VideoAccuracy
from underpaint.evals.video_attentive import VideoAttentive
from underpaint.evals.zeroshot_transfer import ZeroShotTransfer
from underpaint.models.weights import load_encoder
from underpaint.run.outputs import load_model
from underpaint.run.towers import load_towers
from underpaint.studies.transfer_designs import TransferDesign
from underpaint.studies.transfer_inputs import Dataset
from underpaint.training.devices import choose_device

WNID = re.compile(r"n\d{8}")


def frozen_scores(evaluation: Any, run: Path, source: Source, *, seed: int) -> list[dict[str, object]]:
    """The scores of the frozen encoder of a folder under one protocol."""
    engine = _engine()
    scores, _ = scored(evaluation, load_encoder(run).to(engine.device), [source], engine=engine, seed=seed)
    return _records(scores)


def finetuned_scores(run: Path, source: Source) -> list[dict[str, object]]:
    """Accuracy of a finetuned model on the test images of its dataset."""
    return _records(_predictions(run, source).scores())


def robustness_scores(
    run: Path, source: Source, *, name: str, has_fewer: bool, trained: Source
) -> list[dict[str, object]]:
    """Accuracy of a finetuned model on another dataset, by both rules where that has fewer classes.

    A remark counts the test images that are near duplicates of those in ``trained``, which it was finetuned on.
    """
    scores = _predictions(run, source).scores(by_both_rules=has_fewer)
    remarks = seen_in_training(trained, source)
    return _records(
        [replace(each, dataset=name, protocol="robustness", remarks=(*each.remarks, *remarks)) for each in scores]
    )


def seen_in_training(trained: Source, tested: Source) -> tuple[str, ...]:
    """A sentence that counts the test images with a near duplicate in another source's training images, if any has."""
    seen = {pair.test_path for pair in near_duplicates(trained, tested) if pair.is_duplicate}
    of = f"{len(seen):,} of its {len(tested.rows('test')):,} test images"
    return (f"{of} are near duplicates of images trained on",) if seen else ()


def video_scores(run: Path, videos: Source, *, clips: int, crops: int) -> list[dict[str, object]]:
    """Accuracy of a finetuned model on the test videos of its dataset."""
    engine = _engine()
    model: Any = load_model(run).to(engine.device)
    evaluation = VideoAccuracy(dataset=videos.name, clips=clips, crops=crops)
    return _records(
        [replace(score, protocol="video") for score in evaluation.predictions(model, videos, engine).scores()]
    )


def probe_scores(evaluation: VideoAttentive, run: Path, videos: Source, *, seed: int) -> list[dict[str, object]]:
    """The score of the frozen encoder of a folder on videos."""
    engine = _engine()
    encoder = load_encoder(run).to(engine.device)
    return _records(evaluation.measure(encoder, source=videos, engine=engine, seed=seed))


def detection_scores(run: Path, images: AnnotatedImages, *, name: str) -> list[dict[str, object]]:
    """Average precision of a detector on annotated images, which the study calls ``name``."""
    engine = _engine()
    model: Any = load_model(run).to(engine.device)
    scores, _ = DetectionPrecision(dataset=str(images.annotations)).measure(model, images, engine=engine)
    return _records([replace(score, dataset=name) for score in scores])


def zero_shot_evaluation(design: TransferDesign, task: Dataset) -> ZeroShotTransfer | str:
    """The evaluation by the names of the classes, or the reason why there is none.

    Raises:
        ValueError: for a table of names that cannot be read.
    """
    classes = task.classes
    if not design.names:
        if all(map(WNID.fullmatch, classes)):
            return "its classes are WordNet ids; give names=FILE"
    elif not any(len(classes & names.keys()) > 1 for names in read_names(Path(design.names).expanduser()).values()):
        return f"{design.names} has names of fewer than two of its classes"
    return ZeroShotTransfer(dataset=task.source.name, names=design.names, templates=design.templates)


def zero_shot_scores(evaluation: ZeroShotTransfer, folder: Path, source: Source) -> list[dict[str, object]]:
    """The scores of both towers of a run."""
    engine = _engine()
    towers = load_towers(folder).to(engine.device)
    return _records(evaluation.measure(towers, source=source, engine=engine, seed=0))


def _predictions(run: Path, source: Source) -> Any:
    engine = _engine()
    model: Any = load_model(run).to(engine.device)
    return Accuracy(dataset=source.name).predictions(model, source, engine)


def _records(scores: Sequence[Score | SetScore]) -> list[dict[str, object]]:
    return [score.record() for score in scores]


@cache
def _engine() -> Engine:
    """The engine of all parts in this process, which keeps features for those of other processes."""
    return Engine(device=choose_device("any"), cached=True)
