"""The fields of ``evals/NAME.videos/filmstrips.json``: videos with the answers of a classifier, and its mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict

from underpaint import files
from underpaint.results.check import checked
from underpaint.results.run import EVALUATIONS_FOLDER

FOLDER_ENDING = ".videos"
FILMSTRIPS_FILE = "filmstrips.json"
PAGE = "videos.html"
"""The page of a run that shows them."""
FORMAT = 1


class Filmstrip(TypedDict):
    """A video; ``frames`` are files beside this one."""

    frames: list[str]
    path: str
    label: str
    predicted: str
    probability: float  # of the predicted class, mean over views
    drawn: bool  # at random, and not as one of the surest mistakes


class Mistake(TypedDict):
    """Number of videos of a class that were taken for another one."""

    label: str
    predicted: str
    videos: int


class Filmstrips(TypedDict):
    """Videos drawn at random and the surest mistakes of one evaluation."""

    format: int
    dataset: str
    view: str
    right: int
    unread: int  # videos that could not be read, which count as wrong
    videos: int
    strips: list[Filmstrip]
    mistakes: list[Mistake]  # the most frequent first


def read_filmstrips(run: Path) -> list[tuple[Path, Filmstrips]]:
    """The filmstrips of all evaluations of videos of a run, each with its folder, in the order of their names.

    Raises:
        ValueError: if a file is damaged; the message names it and the field.
    """
    paths = sorted((run / EVALUATIONS_FOLDER).glob(f"*{FOLDER_ENDING}/{FILMSTRIPS_FILE}"))
    return [(path.parent, checked(Filmstrips, files.read_json(path), where=str(path))) for path in paths]
