"""The evaluation ``detection``: average precision of a detector on annotated images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from underpaint.data.detection.annotations import ObjectTable
from underpaint.data.detection.dataset import AnnotatedImages, open_annotated
from underpaint.evals.detection.average_precision import (
    Detection,
    Kind,
    Precision,
    average_precision,
    write_detections,
)
from underpaint.evals.detection.detections import BATCH, Detecting, FinishedDetector, Found, detect_all
from underpaint.evals.detection.pictures import write_pictures
from underpaint.evals.engine import Engine
from underpaint.evals.score import SetScore
from underpaint.messages import counted

KINDS: dict[str, Kind] = {"box": "bbox", "mask": "segm"}
ERRORS = {
    "Cls": "wrong class",
    "Loc": "wrong place",
    "Both": "wrong class and place",
    "Dupe": "found twice",
    "Bkg": "nothing there",
    "Miss": "missed",
}
"""TIDE's kinds of errors in words."""
MOST_RESAMPLED = 1_000_000
"""Images times classes up to which scores are resampled; a resample takes a third of a second there."""
SHOWN = 3
"""Images that a remark names."""


@dataclass(frozen=True, kw_only=True)
class DetectionPrecision:
    """Average precision of a detector by the rules of COCO, or by those of LVIS for annotations in its format.

    AP of boxes, and of masks where the model and all annotations have them, by overlap and by size, for LVIS by
    frequency of the class; beside AP50 the precision that each kind of error costs (TIDE).
    """

    needs: ClassVar[type] = FinishedDetector
    draws: ClassVar[bool] = False

    dataset: str  # annotations: a JSON file in the format of COCO or LVIS, or the folder of the only one
    images: str = ""  # folder of the images; "" is that of the annotations
    resamples: int = 500  # sets of images drawn for the interval of AP; 0 measures none
    batch_size: int = BATCH  # images per forward pass

    def __post_init__(self) -> None:
        if not 0 <= self.resamples <= 100_000:
            raise ValueError(f"resamples={self.resamples} must lie between 0 and 100,000")
        if self.batch_size < 1:
            raise ValueError(f"batch_size={self.batch_size} must be 1 or more")

    def open(self) -> AnnotatedImages:
        """The annotations, checked.

        Raises:
            ValueError: if they cannot be used, or none of their images is there.
        """
        return open_annotated(str(_annotation_file(Path(self.dataset).expanduser())), self.images, max_bad=1.0)

    def measure(
        self, model: FinishedDetector, data: AnnotatedImages, *, engine: Engine
    ) -> tuple[list[SetScore], list[Detection]]:
        """All scores, and the detections that they follow from; the model stands on the engine's device already.

        Raises:
            ValueError: if the annotations have other classes than the model, or under torchrun.
        """
        how = Detecting.by(engine, batch_size=self.batch_size)
        answers = detect_all(model, data.table, data.root, how=how)
        scores: list[SetScore] = []
        remarks = _remarks(data.table, answers)
        for split in _splits(data.table, answers.detections):
            resamples = self.resamples if _is_resampled(data.table) else 0
            precision = average_precision(
                data.annotations,
                answers.detections,
                kind=KINDS[split],
                lvis=data.table.federated,
                resamples=resamples,
            )
            said = remarks if resamples == self.resamples else (*remarks, _NOT_RESAMPLED)
            height, width = model.image_input.size
            view = f"fit@{height}" if height == width else f"fit@{height}x{width}"
            scores += _scores(precision, data.table, split, view=view, remarks=said)
        return scores, answers.detections


def write_answers(folder: Path, data: AnnotatedImages, detections: Sequence[Detection]) -> None:
    """Write detections in COCO's format, and pictures for a page, into a folder."""
    write_detections(folder, detections)
    write_pictures(folder, data.annotations, data.table, data.root, detections)


_NOT_RESAMPLED = "without an interval: for so many images and classes resampling would take hours"


def _annotation_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    names = sorted(path.glob("*.json"))
    if len(names) == 1:
        return names[0]
    listed = f"{len(names)} JSON files: {', '.join(name.name for name in names[:SHOWN])}" if names else "no JSON file"
    raise ValueError(f"{path} holds {listed}; name the file of annotations: dataset={path / 'FILE.json'}")


def _splits(table: ObjectTable, detections: Sequence[Detection]) -> list[str]:
    """Kinds of overlap that the detections and all objects can be compared by."""
    with_masks = any("segmentation" in each for each in detections)
    return ["box", "mask"] if with_masks and not _without_mask(table) else ["box"]


def _without_mask(table: ObjectTable) -> int:
    """Number of objects without a mask."""
    return sum(not table.shapes.shape(place) for place in range(len(table.boxes)))


def _is_resampled(table: ObjectTable) -> bool:
    return len(table.paths) * len(table.class_names) <= MOST_RESAMPLED


def _remarks(table: ObjectTable, answers: Found) -> tuple[str, ...]:
    """Whatever a reader must know of the images and annotations."""
    remarks = []
    if answers.unread:
        named = ", ".join(map(repr, answers.unread[:SHOWN]))
        remarks.append(
            f"{len(answers.unread)} of {len(table.paths)} images are missing, unreadable or of another size than "
            f"their annotations say, and their objects count as missed: {named}"
        )
    if table.bad:
        first = table.problems[0]
        remarks.append(
            f"{counted(table.bad, 'bad annotation')} counted as in COCO's own tools; the first, {first.key}: "
            f"{first.reason}"
        )
    if not answers.detections:
        remarks.append("the model detects nothing in these images")
    elif any("segmentation" in each for each in answers.detections) and (lacking := _without_mask(table)):
        remarks.append(f"boxes alone are scored: {lacking:,} of {len(table.boxes):,} objects have no mask")
    return tuple(remarks)


def _scores(
    precision: Precision, table: ObjectTable, split: str, *, view: str, remarks: tuple[str, ...]
) -> list[SetScore]:
    """One score for each metric of precision that some object counts for."""
    metrics = {name: value for name, value in precision.metrics.items() if name.startswith("AP") and value >= 0}
    settings: dict[str, dict[str, float]] = {
        "AP": {f"AP of {name}": value for name, value in precision.by_class.items() if value >= 0},
        "AP50": {f"lost to {ERRORS[kind]}": value for kind, value in precision.error_shares.items() if kind in ERRORS},
    }
    return [
        SetScore(
            dataset=table.name,
            protocol="detection",
            split=split,
            metric=name,
            view=view,
            value=value,
            n_test=len(table.paths),
            interval=precision.intervals.get(name),
            settings=settings.get(name, {}),
            remarks=(*(remarks if name == "AP" else ()), *(_losses(precision.error_shares) if name == "AP50" else ())),
        )
        for name, value in metrics.items()
    ]


def _losses(shares: Mapping[str, float]) -> tuple[str, ...]:
    """A sentence on the kinds of errors, the costliest first."""
    costly = sorted(((value, ERRORS[kind]) for kind, value in shares.items() if kind in ERRORS), reverse=True)
    points = [f"{words} {100 * value:.1f}" for value, words in costly if value >= 0.0005]
    return (f"points lost to errors: {', '.join(points)}",) if points else ()
