"""Scores, as every evaluation returns them: the rows of ``results.json``, with the hits per image for statistics."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from underpaint.results.study import ScoreEntry


class Interval(NamedTuple):
    """An estimate and the ends of its confidence interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Score:
    """Top-1 accuracy, or another share of hits, of one model under one protocol on one dataset, image by image."""

    dataset: str
    protocol: str
    """linear, linear_sgd, layers, attentive, video_attentive, lowshot, lowshot_linear, lowshot_vpt, knn, finetune,
    robustness and video (of the study ``transfer``), tags, map, zeroshot or retrieval."""
    shots: int = 0
    """Training images per class; 0 where the protocol uses them all."""
    split: str = "test"
    """test; for lowshot the number of the split, or "mean" over the splits; for tags head, middle or tail;
    for zeroshot "names" where names are compared instead of images; for retrieval the direction."""
    metric: str = "top1"
    view: str = ""
    """View of each image that was shown, such as crop@224/256; without a size, or "", in results of older releases."""
    correct: tuple[float, ...]
    """Per test image 1 or 0; for the mean over splits, the share of splits that got it right."""
    image: tuple[str, ...]
    """Paths of the test images, in the order of ``correct``."""
    family: tuple[str, ...]
    """Family of each image; images of one family are variants of each other, not independent observations."""
    settings: dict[str, float]
    """Values chosen or measured on the training images: the penalty, the accuracy it was chosen by."""
    remarks: tuple[str, ...]
    """Warnings for the reader: bad images, a fit that did not converge, classes with too few images."""
    language: str = ""
    """Language of the texts, as their table or the captions name it."""
    chance: float | None = None
    """Expected value of answers drawn at random."""
    versions: dict[str, str] = field(default_factory=dict)
    """Hashes of the tables that the score depends on, such as names and templates."""
    training: tuple[str, ...] = ()
    """The few training images of a low-shot split, by path; () elsewhere."""

    def __post_init__(self) -> None:
        assert len(self.correct) == len(self.image) == len(self.family) > 0

    @property
    def value(self) -> float:
        """The metric, from 0 to 1."""
        return sum(self.correct) / len(self.correct)

    def row(self) -> ScoreEntry:
        return {
            "dataset": self.dataset,
            "protocol": self.protocol,
            "shots": self.shots,
            "split": self.split,
            "view": self.view,
            "language": self.language,
            "metric": self.metric,
            "value": self.value,
            "n_test": len(self.correct),
        }

    def record(self) -> dict[str, object]:
        """All fields as JSON values; ``from_record`` gives an equal Score."""
        return asdict(self)

    @staticmethod
    def from_record(record: dict[str, Any]) -> Score:
        fields = dict(record)
        for name in ("correct", "image", "family", "remarks", "training"):
            fields[name] = tuple(fields.get(name, ()))
        return Score(**fields)


@dataclass(frozen=True, kw_only=True)
class SetScore:
    """A score that a whole set of images has, and that is not a mean over them, such as average precision."""

    dataset: str
    protocol: str
    split: str
    """The overlap that counts: box or mask."""
    metric: str
    view: str
    value: float
    n_test: int
    """Number of images."""
    interval: Interval | None = None
    """None where nothing was resampled."""
    settings: dict[str, float] = field(default_factory=dict)
    """Values measured beside it, such as the precision that each kind of error costs."""
    remarks: tuple[str, ...] = ()

    def row(self) -> ScoreEntry:
        return {
            "dataset": self.dataset,
            "protocol": self.protocol,
            "shots": 0,
            "split": self.split,
            "view": self.view,
            "language": "",
            "metric": self.metric,
            "value": self.value,
            "n_test": self.n_test,
        }

    def record(self) -> dict[str, object]:
        """All fields as JSON values; ``from_record`` gives an equal SetScore."""
        return asdict(self)

    @staticmethod
    def from_record(record: dict[str, Any]) -> SetScore:
        interval = record["interval"]
        fields = record | {
            "interval": None if interval is None else Interval(*interval),
            "remarks": tuple(record["remarks"]),
        }
        return SetScore(**fields)
