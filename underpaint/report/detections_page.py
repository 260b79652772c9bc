"""The page of a detector's evaluations: its detections in images, beside the annotated objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from underpaint.report.embedded_pictures import data_uri
from underpaint.report.folders import RunFolder
from underpaint.results.detections import PAGE, DetectionPictures, PicturedImage, read_detection_pictures
from underpaint.results.run import EvaluationRow

__all__ = ["PAGE", "content"]

SIDE = 400
"""Longer side of an image in units of its drawing, in which letters have a fixed size."""


@dataclass(frozen=True, kw_only=True)
class Rectangle:
    """A box in units of the drawing, and what is written at it."""

    x: float
    y: float
    width: float
    height: float
    text: str
    good: bool
    """Right, or found."""

    @property
    def baseline(self) -> float:
        """Height of the text: above the box, or within a box at the upper border."""
        return self.y - 4 if self.y >= 16 else self.y + 13


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """One image with two sets of boxes."""

    uri: str
    path: str
    width: float
    height: float
    truth: Sequence[Rectangle]
    detections: Sequence[Rectangle]

    @property
    def counts(self) -> str:
        """Numbers of right, wrong and missed boxes in words."""
        right = sum(each.good for each in self.detections)
        missed = sum(not each.good for each in self.truth)
        return f"{right} right, {len(self.detections) - right} wrong, {missed} missed"


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One evaluation with its images."""

    dataset: str
    threshold: float
    precision: float
    recall: float
    groups: Sequence[tuple[str, Sequence[Drawing]]]


def content(run: RunFolder) -> dict[str, object] | None:
    """Everything that ``templates/detections.html.j2`` shows; None without an evaluation of detection."""
    pictured = read_detection_pictures(run.path)
    if not pictured:
        return None
    return {
        "name": run.name,
        "evaluations": [_shown(folder, record) for folder, record in pictured],
        "classes": _classes(run.scores),
    }


def _shown(folder: Path, record: DetectionPictures) -> Shown:
    drawn = [_drawing(folder, image) for image in record["images"] if image["drawn"]]
    worst = [_drawing(folder, image) for image in record["images"] if not image["drawn"]]
    groups = [("Drawn at random", drawn), ("With the most errors", worst)]
    return Shown(
        dataset=record["dataset"],
        threshold=record["threshold"],
        precision=record["precision"],
        recall=record["recall"],
        groups=[(title, images) for title, images in groups if images],
    )


def _drawing(folder: Path, image: PicturedImage) -> Drawing:
    if Path(image["picture"]).name != image["picture"]:
        raise ValueError(f"{folder}/pictures.json names {image['picture']!r}; expected a file in that folder")
    if min(image["width"], image["height"]) < 1:
        raise ValueError(f"{folder}/pictures.json: width and height of {image['path']} must be positive")
    scale = SIDE / max(image["width"], image["height"])
    return Drawing(
        uri=data_uri(folder / image["picture"]),
        path=image["path"],
        width=image["width"] * scale,
        height=image["height"] * scale,
        truth=[_rectangle(each["box"], scale, each["label"], good=each["detected"]) for each in image["truth"]],
        detections=[
            _rectangle(each["box"], scale, f"{each['label']} {100 * each['score']:.0f}%", good=each["right"])
            for each in image["detections"]
        ],
    )


def _rectangle(box: Sequence[float], scale: float, text: str, *, good: bool) -> Rectangle:
    x, y, width, height = (number * scale for number in box)
    return Rectangle(x=x, y=y, width=max(width, 0.0), height=max(height, 0.0), text=text, good=good)


def _classes(rows: Sequence[EvaluationRow]) -> list[tuple[str, str, list[tuple[str, float]]]]:
    """Dataset, overlap and the AP of each class, lowest first, of each evaluation of detection."""
    tables = []
    for row in rows:
        if row["protocol"] == "detection" and row["metric"] == "AP":
            named = [(name, value) for name, value in row.get("settings", {}).items() if name.startswith("AP of ")]
            values = sorted(((name.removeprefix("AP of "), value) for name, value in named), key=lambda pair: pair[1])
            tables.append((row["dataset"], row["split"], values))
    return tables
