"""Predictions of a classifier on a test set: one row per image, from which all its scores are computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from underpaint.evals.score import Score
from underpaint.files import as_utf8, write_bytes

if TYPE_CHECKING:
    import pyarrow as pa

RULES = {
    "test": "a prediction outside the dataset's classes counts as wrong",
    "restricted": "the prediction is the best of the dataset's classes alone",
}
"""Ways to score a dataset with classes of its own."""


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """Answers of a classifier for the test images of one dataset, column by column."""

    dataset: str
    view: str
    image: tuple[str, ...]
    family: tuple[str, ...]
    label: tuple[str, ...]
    """Class of each image in the dataset."""
    accepted: tuple[tuple[str, ...], ...]
    """The classifier's classes that are a right answer."""
    predicted: tuple[str | None, ...]
    """Best class of all; None for an image that could not be read, which counts as wrong."""
    restricted: tuple[str | None, ...]
    """Best class among those that are a right answer for some image."""
    class_table: str = ""
    remarks: tuple[str, ...] = ()
    probability: tuple[float, ...] = ()
    """Probability of each best class, where it is asked for (videos)."""

    def scores(self, *, by_both_rules: bool = False) -> list[Score]:
        """Top-1; by both RULES where the classes of the dataset are others than the classifier's, or where asked."""
        pairs = list(zip(self.label, self.accepted, strict=True))
        both = by_both_rules or any(label not in accepted for label, accepted in pairs)
        answers = {"test": self.predicted, "restricted": self.restricted}
        return [
            Score(
                dataset=self.dataset,
                protocol="finetune",
                split=rule,
                view=self.view,
                correct=tuple(
                    float(name in accepted) for name, accepted in zip(answers[rule], self.accepted, strict=True)
                ),
                image=self.image,
                family=self.family,
                settings={},
                versions={"classes": self.class_table} if self.class_table else {},
                remarks=(*self.remarks, RULES[rule]) if both else self.remarks,
            )
            for rule in RULES
            if both or rule == "test"
        ]

    def table(self) -> pa.Table:
        r"""The rows, for a Parquet file; bytes of names that are not UTF-8 are written as ``\udcff``."""
        import pyarrow as pa

        texts = {
            name: pa.array([value and as_utf8(value) for value in values], pa.string())
            for name, values in (
                ("dataset", [self.dataset] * len(self.image)),
                ("view", [self.view] * len(self.image)),
                ("path", self.image),
                ("family", self.family),
                ("label", self.label),
                ("predicted", self.predicted),
                ("restricted", self.restricted),
            )
        }
        accepted = [list(map(as_utf8, names)) for names in self.accepted]
        return pa.table({**texts, "accepted": pa.array(accepted, pa.list_(pa.string()))})


def write_predictions(path: Path, predictions: Sequence[Predictions]) -> None:
    """Write the predictions on several datasets as one Parquet file, whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    content = BytesIO()
    pq.write_table(pa.concat_tables([each.table() for each in predictions]), content, compression="zstd")
    write_bytes(path, content.getvalue())
