"""Labels and repeat factors of the images of each partition, by the decisions on the tags of all partitions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch

from underpaint import keyed_random
from underpaint.data.splits import HELDOUT_FEWEST, HELDOUT_SHARE, HELDOUT_WORTHWHILE
from underpaint.preparation.arrow_files import read_table, write_table
from underpaint.preparation.families import by_family, read_families
from underpaint.preparation.transfer_task import read_task
from underpaint.tags.labels import Labeller, LabelSpace
from underpaint.tags.sampling import RepeatRule, factors_of, label_frequencies, rarest_labels, solve_threshold

ROWS_AT_ONCE = 200_000
"""Number of rows that are labelled in one call; small partitions share it, since each call loads the whole audit."""

Resampling = RepeatRule | Literal["none"]

LABELS = pa.schema(
    {
        "labels": pa.list_(pa.field("element", pa.int32(), nullable=False)),
        "class": pa.int32(),
        "split": pa.string(),
    }
)
"""One row for each usable row of a partition."""


@dataclass(frozen=True, kw_only=True)
class LabelWork:
    """The inputs for labelling a partition; the name of ``folder`` is a hash of all that its files depend on."""

    rows: Path
    folder: Path
    heldout: float
    """Share of the images that are held out."""

    def vocabulary(self) -> LabelSpace:
        return LabelSpace(
            table=read_table(self.folder / "vocabulary.parquet"), audit=read_table(self.folder / "tags_audit.parquet")
        )


def heldout_share(images: int) -> float:
    """Share of ``images`` that is held out, by the same limits as for a folder; 0 for fewer than HELDOUT_WORTHWHILE.

    Each image is drawn independently, so the expected number of held-out images is at least HELDOUT_FEWEST.
    """
    if images < HELDOUT_WORTHWHILE:
        return 0.0
    return max(HELDOUT_SHARE, HELDOUT_FEWEST / images)


def grouped(names: Sequence[str], images: Sequence[int]) -> list[list[str]]:
    """Consecutive partitions with about ROWS_AT_ONCE rows together."""
    groups: list[list[str]] = [[]]
    rows = 0
    for name, count in zip(names, images, strict=True):
        if groups[-1] and rows + count > ROWS_AT_ONCE:
            groups.append([])
            rows = 0
        groups[-1].append(name)
        rows += count
    return [group for group in groups if group]


def label_partitions(names: str, work: LabelWork) -> dict[str, int]:
    """Write one file of labels per partition, for the partitions named in a JSON list; returns the number of images."""
    columns = ["tags", "class_name", "given_split", "content_hash", "problem"]
    tables = {name: usable(read_table(work.rows / f"{name}.parquet", columns)) for name in json.loads(names)}
    labels = Labeller(work.vocabulary()).labels(pa.concat_tables(tables.values())["tags"].combine_chunks())
    task, families = read_task(work.folder), read_families(work.rows)
    start = 0
    for name, table_of_images in tables.items():
        table = by_family(table_of_images, families)
        stage = _stages(table["content_hash"], work.heldout)
        classes, split = (
            task.columns(table, stage) if task else (pa.nulls(len(table), pa.int32()), pa.array(stage, pa.string()))
        )
        columns_of_labels = [labels.slice(start, len(table)), classes, split]
        start += len(table)
        write_table(pa.table(columns_of_labels, schema=LABELS), work.folder / f"{name}.parquet")
    return {"images": start}


def usable(table: pa.Table) -> pa.Table:
    """The rows of images that were not left out."""
    return table.filter(table["problem"].is_null())


def _stages(hashes: Any, heldout: float) -> np.ndarray:
    """``heldout`` or ``pretrain`` for each image, drawn from the hash of its content or family, the same for copies."""
    first = np.frombuffer(b"".join(content_hash[:8] for content_hash in hashes.to_pylist()), dtype="<i8")
    drawn = keyed_random.uniform(keyed_random.key("split", "heldout"), torch.from_numpy(first.copy()), 1)[:, 0].numpy()
    return np.where(drawn < heldout, "heldout", "pretrain")


@dataclass(frozen=True, kw_only=True)
class RepeatFactors:
    """The repeat factor of every image, by its labels."""

    frequency: np.ndarray
    """Frequency of each label; empty where nothing is repeated."""
    threshold: float

    def of(self, labels: Any) -> np.ndarray:
        """float32, one factor per row of an array of lists."""
        if not len(self.frequency):
            return np.ones(len(labels), dtype=np.float32)
        return factors_of(rarest_labels(labels, self.frequency), self.frequency, self.threshold).astype(np.float32)


NO_REPEATS = RepeatFactors(frequency=np.empty(0), threshold=0.0)


def solve_repeats(files: Sequence[Path], instances: np.ndarray, *, rule: Resampling, ratio: float) -> RepeatFactors:
    """Repeat factors with the mean ``ratio`` over the labelled training images.

    ``instances`` is the ``count`` of the vocabulary. The files of labels are read twice, with one number per label in
    memory.
    """
    if rule == "none" or not len(instances):
        return NO_REPEATS
    images, total = np.zeros(len(instances), dtype=np.int64), 0
    for labels in _trained(files):
        images += np.bincount(labels.flatten().to_numpy(), minlength=len(instances))
        total += int(np.count_nonzero(labels.value_lengths()))
    if not images.any():
        return NO_REPEATS
    # a label of held-out images alone counts as one of the rarest
    frequency = label_frequencies(np.maximum(images, 1), total, rule=rule, instances=instances)
    rarest = np.zeros(len(instances), dtype=np.int64)
    for labels in _trained(files):
        rows = rarest_labels(labels, frequency)
        rarest += np.bincount(rows[rows >= 0], minlength=len(instances))
    return RepeatFactors(frequency=frequency, threshold=solve_threshold(frequency, rarest, ratio=ratio))


def _trained(files: Sequence[Path]) -> Iterator[Any]:
    """The labels of the training rows of each file."""
    for file in files:
        table = read_table(file)
        trained = np.isin(table["split"].to_numpy(zero_copy_only=False), ("pretrain", "pretrain+train"))
        yield table.filter(pa.array(trained))["labels"].combine_chunks()
