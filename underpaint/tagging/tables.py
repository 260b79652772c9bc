"""Tables of what was predicted and of the labels, as Parquet and CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from underpaint import files
from underpaint.evals.label_thresholds import LabelThreshold

if TYPE_CHECKING:
    import pyarrow as pa

PREDICTED, LABELS = "predicted", "labels"
"""Names of the tables, without the suffix."""
ROWS_OF_BLOCK = 4096


class PredictedRow(TypedDict):
    """An image. The column of tags is not called ``tags``, so that nobody trains on it by mistake."""

    path: str
    predicted_tags: list[str]
    probabilities: list[float]
    problem: str
    """Reason why the image has no tags, or its sidecar cannot be changed; "" if all is well."""


class LabelRow(TypedDict):
    """A label on the held-out images; the fields of ``LabelThreshold``, with the ends of the intervals."""

    label: str
    images: int
    verdict: str
    written: bool
    threshold: float | None
    precision: float | None
    precision_low: float | None
    precision_high: float | None
    precision_apart: float | None
    recall: float | None
    recall_low: float | None
    recall_high: float | None
    average_precision: float
    average_precision_low: float
    average_precision_high: float
    chance: float


def label_rows(labels: Iterable[LabelThreshold]) -> list[LabelRow]:
    """The rows of the table of labels, the most frequent ones first."""
    return [_label_row(label) for label in sorted(labels, key=lambda label: (-label.images, label.label))]


def _label_row(label: LabelThreshold) -> LabelRow:
    precision, recall = (interval or (None, None, None) for interval in (label.precision, label.recall))
    return {
        "label": label.label,
        "images": label.images,
        "verdict": label.verdict,
        "written": label.threshold is not None,
        "threshold": label.threshold,
        "precision": precision[0],
        "precision_low": precision[1],
        "precision_high": precision[2],
        "precision_apart": label.right_apart / label.named_apart if label.named_apart else None,
        "recall": recall[0],
        "recall_low": recall[1],
        "recall_high": recall[2],
        "average_precision": label.average_precision.mean,
        "average_precision_low": label.average_precision.low,
        "average_precision_high": label.average_precision.high,
        "chance": label.chance,
    }


def write_labels(folder: Path, rows: Sequence[LabelRow]) -> None:
    """Write ``labels.parquet`` and ``labels.csv``."""
    import pyarrow as pa

    number = dict.fromkeys(LabelRow.__annotations__, pa.float64())
    types = number | {"label": pa.string(), "verdict": pa.string(), "images": pa.int64(), "written": pa.bool_()}
    _write(folder, LABELS, rows, pa.schema(types))


def write_predicted(folder: Path, rows: Iterable[PredictedRow]) -> None:
    """Write ``predicted.parquet`` and ``predicted.csv``, whose lists are separated by semicolons, as the rows come."""
    import pyarrow as pa

    types = {
        "path": pa.string(),
        "predicted_tags": pa.list_(pa.string()),
        "probabilities": pa.list_(pa.float32()),
        "problem": pa.string(),
    }
    _write(folder, PREDICTED, rows, pa.schema(types))


def _write(folder: Path, name: str, rows: Iterable[Mapping[str, object]], schema: pa.Schema) -> None:
    """Write both forms at once, some rows at a time; they appear whole under their names."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    parts = {suffix: folder / f"{name}{suffix}.part" for suffix in (".parquet", ".csv")}
    with (
        pq.ParquetWriter(parts[".parquet"], schema, compression="zstd") as parquet,
        parts[".csv"].open("w", encoding="utf-8", newline="") as text,
    ):
        writer = csv.writer(text)
        writer.writerow(schema.names)
        remaining = iter(rows)
        while block := list(islice(remaining, ROWS_OF_BLOCK)):
            parquet.write_table(pa.Table.from_pylist(block, schema))
            writer.writerows([_cell(row[column]) for column in schema.names] for row in block)
    for suffix, part in parts.items():
        files.sync_file(part)
        part.replace(folder / f"{name}{suffix}")
    files.sync_folder(folder)


def _cell(value: object) -> object:
    """A number with the digits that mean something; a list as one text."""
    if isinstance(value, list):
        return ";".join(str(_cell(item)) for item in value)
    return f"{value:.4g}" if isinstance(value, float) else value
