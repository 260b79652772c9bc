"""The fields of ``evals/NAME.detections/pictures.json``: images with their objects and what a detector made of them."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict

from underpaint import files
from underpaint.results.check import checked
from underpaint.results.run import EVALUATIONS_FOLDER

FOLDER_ENDING = ".detections"
PICTURES_FILE = "pictures.json"
PAGE = "detections.html"
"""The page of a run that shows them."""
FORMAT = 1


class TruthEntry(TypedDict):
    """An annotated object."""

    box: list[float]  # left, top, width and height in pixels of the image
    label: str
    detected: bool


class DetectionEntry(TypedDict):
    """A detection, right if it overlaps an object of its class by half that no surer one has found."""

    box: list[float]
    label: str
    score: float
    right: bool


class PicturedImage(TypedDict):
    """An image; ``picture`` is a file beside this one."""

    picture: str
    path: str
    width: int
    height: int
    drawn: bool  # at random, and not for its errors
    truth: list[TruthEntry]
    detections: list[DetectionEntry]


class DetectionPictures(TypedDict):
    """Images drawn at random and those with the most errors, with all detections above ``threshold``."""

    format: int
    dataset: str
    threshold: float  # the score at which F1 over all images is highest
    precision: float
    recall: float
    images: list[PicturedImage]


def read_detection_pictures(run: Path) -> list[tuple[Path, DetectionPictures]]:
    """The pictures of all evaluations of detection of a run, each with its folder, in the order of their names.

    Raises:
        ValueError: if a file is damaged; the message names it and the field.
    """
    paths = sorted((run / EVALUATIONS_FOLDER).glob(f"*{FOLDER_ENDING}/{PICTURES_FILE}"))
    return [(path.parent, checked(DetectionPictures, files.read_json(path), where=str(path))) for path in paths]
