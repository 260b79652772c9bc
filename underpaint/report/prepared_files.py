"""Counts from the files of a prepared set, in one pass over each, in memory that does not grow with the set."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

INDEX, SHARDS = "index.parquet", "shards.parquet"
VOCABULARY, AUDIT = "vocabulary.parquet", "tags_audit.parquet"
DROPPED, EXAMPLES = "dropped.parquet", "examples.parquet"

REPEAT_UNIT = 1 << 24
"""Units per 1.0 in which the sums of shards.parquet count repeat factors; see data/shards/index.py."""
REPEAT_EDGES = (1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0, 100.0)
"""Upper ends of the classes that repeat factors are counted in; the first holds what stands once."""
LABEL_EDGES = 10
"""Images with so many labels or more are one class."""
EXAMPLES_OF_REASON = 12
MAX_VALUES = 10_000
"""Distinct values of one column kept in memory; a set with more licences than that has free text there."""
_POINTS = 240
_LIKE = " (or other numbers)"
_BATCH = 65_536


@dataclass(kw_only=True)
class Reason:
    """Tags, or images, that have one fate in common."""

    decision: str
    text: str
    tags: int = 0
    """Distinct tags, or images."""
    uses: int = 0
    examples: list[tuple[str, int]] = field(default_factory=list)
    """The most frequent tags with their counts; of images the first keys, with 0."""


@dataclass(frozen=True, kw_only=True)
class Audit:
    """Decisions on the tags, counted."""

    tags: int
    uses: int
    reasons: tuple[Reason, ...]
    """The most uses first."""
    curve: tuple[tuple[float, float], ...]
    """(rank, count) of some tags, evenly spaced on a logarithmic scale."""

    def of(self, *decisions: str) -> tuple[int, int]:
        """Distinct tags and uses with one of these decisions."""
        chosen = [reason for reason in self.reasons if reason.decision in decisions]
        return sum(reason.tags for reason in chosen), sum(reason.uses for reason in chosen)


@dataclass(frozen=True, kw_only=True)
class Split:
    name: str
    images: int
    labelled: int
    repeats: float
    """Sum of the repeat factors: how many samples an epoch has with resampling."""


@dataclass(frozen=True, kw_only=True)
class Images:
    """Counts over all images of the index."""

    images: int
    kept_out: int
    """Images of no split."""
    bytes: int
    shards: int
    splits: tuple[Split, ...]
    labels: tuple[int, ...]
    """Images with 0, 1, 2, ... labels; the last entry counts all with LABEL_EDGES or more."""
    repeats: tuple[int, ...]
    """Images by REPEAT_EDGES, the last entry beyond them."""
    repeated: tuple[float, ...]
    """Sums of their factors."""
    largest_repeat: float
    values: dict[str, Counter[str]]
    """Images by value of the columns ``licence``, ``language``, ``source`` and ``flags``; "" where it is not given."""


def read_vocabulary(folder: Path) -> pa.Table:
    """The table, without the tags, which ``tags_of`` reads; an empty one where there is no such file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = folder / VOCABULARY
    kinds = {"label": pa.int32(), "name": pa.string(), "synset": pa.string(), "count": pa.int64()}
    return pq.read_table(file, columns=list(kinds)) if file.is_file() else pa.schema(kinds).empty_table()


def tags_of(folder: Path, labels: list[int]) -> dict[int, list[str]]:
    """The tags that some labels were made of."""
    import pyarrow.parquet as pq

    tags: dict[int, list[str]] = {}
    if not labels:
        return tags
    with pq.ParquetFile(folder / VOCABULARY) as file:
        for batch in file.iter_batches(columns=["label", "tags"], batch_size=_BATCH):
            places = np.flatnonzero(np.isin(batch.column("label").to_numpy(), labels))
            tags |= {batch["label"][int(place)].as_py(): batch["tags"][int(place)].as_py() for place in places}
    return tags


def read_images(folder: Path) -> Images:
    """Count the index and the sums per shard."""
    counted = _Counted()
    for batch in _index_batches(
        folder, ["size", "labels", "repeat", "split", "licence", "language", "source", "flags"]
    ):
        counted.add(batch)
    shards = _shards(folder)
    return Images(
        images=counted.images,
        kept_out=counted.kept_out,
        bytes=counted.bytes,
        shards=shards.num_rows,
        splits=tuple(_splits(shards)),
        labels=tuple(counted.labels.tolist()),
        repeats=tuple(counted.repeats.tolist()),
        repeated=tuple(counted.repeated.tolist()),
        largest_repeat=counted.largest,
        values=counted.values,
    )


class _Counted:
    """The sums over the batches so far."""

    def __init__(self) -> None:
        self.images = self.kept_out = self.bytes = 0
        self.labels = np.zeros(LABEL_EDGES + 1, dtype=np.int64)
        self.repeats = np.zeros(len(REPEAT_EDGES) + 1, dtype=np.int64)
        self.repeated = np.zeros(len(REPEAT_EDGES) + 1)
        self.largest = 0.0
        self.values: dict[str, Counter[str]] = {}

    def add(self, batch: pa.RecordBatch) -> None:
        import pyarrow.compute as pc

        self.images += len(batch)
        self.kept_out += pc.equal(batch["split"], "").true_count  # pyright: ignore[reportAttributeAccessIssue]
        self.bytes += int(batch["size"].to_numpy().sum(dtype=np.int64))
        lengths = batch["labels"].value_lengths().to_numpy(zero_copy_only=False)
        self.labels += np.bincount(np.minimum(lengths, LABEL_EDGES), minlength=LABEL_EDGES + 1)
        repeat = batch["repeat"].to_numpy(zero_copy_only=False).astype(np.float64)
        place = np.searchsorted(REPEAT_EDGES, repeat)
        self.repeats += np.bincount(place, minlength=len(self.repeats))
        self.repeated += np.bincount(place, weights=repeat, minlength=len(self.repeats))
        self.largest = max(self.largest, float(repeat.max(initial=0.0)))
        for name in ("licence", "language", "source"):
            self._tally(name, batch[name])
        self._tally("flags", batch["flags"].flatten())

    def _tally(self, name: str, column: pa.Array) -> None:
        counter = self.values.setdefault(name, Counter())
        for entry in column.value_counts().to_pylist():
            value = entry["values"] or ""
            counter[value if value in counter or len(counter) < MAX_VALUES else "further values"] += entry["counts"]


def _index_batches(folder: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    import pyarrow.parquet as pq

    index = folder / INDEX
    for part in sorted(index.glob("part-*.parquet")) if index.is_dir() else [index]:
        with pq.ParquetFile(part) as file:
            yield from file.iter_batches(columns=columns, batch_size=_BATCH)


def _shards(folder: Path) -> pa.Table:
    import pyarrow.parquet as pq

    return pq.read_table(folder / SHARDS, columns=["images", "splits"])


def _splits(shards: pa.Table) -> Iterator[Split]:
    rows = [sums for splits in shards["splits"].to_pylist() for sums in splits]
    for name in dict.fromkeys(row["split"] for row in rows):
        rows_of_split = [row for row in rows if row["split"] == name]
        yield Split(
            name=name,
            images=sum(row["images"] for row in rows_of_split),
            labelled=sum(row["labelled"] for row in rows_of_split),
            repeats=sum(row["repeats"] for row in rows_of_split) / REPEAT_UNIT,
        )


def read_audit(folder: Path) -> Audit:
    """Count the decisions on all tags; all counts are 0 if there is no audit."""
    import pyarrow.parquet as pq

    reasons: dict[tuple[str, str], Reason] = {}
    curve: list[tuple[float, float]] = []
    tags = uses = 0
    if (folder / AUDIT).is_file():
        with pq.ParquetFile(folder / AUDIT) as file:
            ranks = _ranks(file.metadata.num_rows)
            for batch in file.iter_batches(columns=["tag", "count", "decision", "reason"], batch_size=_BATCH):
                count = batch["count"].to_numpy()
                inside = ranks[(ranks > tags) & (ranks <= tags + len(count))]
                curve += [(float(rank), float(count[rank - tags - 1])) for rank in inside]
                _add_reasons(reasons, batch, count)
                tags += len(count)
                uses += int(count.sum())
    ordered = sorted(reasons.values(), key=lambda reason: (-reason.uses, reason.decision, reason.text))
    return Audit(tags=tags, uses=uses, reasons=tuple(ordered), curve=tuple(curve))


def _ranks(rows: int) -> np.ndarray:
    return np.unique(np.geomspace(1, max(rows, 1), _POINTS).round().astype(np.int64))


def _add_reasons(reasons: dict[tuple[str, str], Reason], batch: pa.RecordBatch, count: np.ndarray) -> None:
    """Group by decision and reason; the rows come with the most frequent tag first."""
    pair = [batch[name].dictionary_encode() for name in ("decision", "reason")]
    size = len(pair[1].dictionary)
    code = pair[0].indices.to_numpy().astype(np.int64) * size + pair[1].indices.to_numpy()
    for number in np.unique(code):
        places = np.flatnonzero(code == number)
        decision, text = pair[0].dictionary[int(number // size)].as_py(), pair[1].dictionary[int(number % size)].as_py()
        text = _shared_reason(decision, text)
        reason = reasons.setdefault((decision, text), Reason(decision=decision, text=text))
        reason.tags += len(places)
        reason.uses += int(count[places].sum())
        for place in places[: EXAMPLES_OF_REASON - len(reason.examples)]:
            reason.examples.append((batch["tag"][int(place)].as_py(), int(count[place])))


def _shared_reason(decision: str, text: str) -> str:
    """The reason without details of one tag: the target of a mapping, and the meaning of a tag cut as rare."""
    if decision == "cut":
        return text.rpartition("; ")[2]
    return re.sub(r"^mapping to .*", "mapping", text)


def read_dropped(folder: Path) -> list[Reason]:
    """Images that were left out, by reason; numbers in a reason do not tell reasons apart."""
    import pyarrow.parquet as pq

    reasons: dict[str, Reason] = {}
    if not (folder / DROPPED).is_file():
        return []
    with pq.ParquetFile(folder / DROPPED) as file:
        for batch in file.iter_batches(columns=["key", "reason"], batch_size=_BATCH):
            for key, text in zip(batch["key"].to_pylist(), batch["reason"].to_pylist(), strict=True):
                shared = re.sub(r"\d[\d,.]*", "…", text)
                reason = reasons.setdefault(shared, Reason(decision="image", text=text))
                if text not in reason.text:
                    reason.text = f"{reason.text.removesuffix(_LIKE)}{_LIKE}"
                reason.tags += 1
                if len(reason.examples) < EXAMPLES_OF_REASON:
                    reason.examples.append((key, 0))
    return sorted(reasons.values(), key=lambda reason: (-reason.tags, reason.text))


def read_examples(folder: Path) -> dict[int, list[tuple[str, bytes]]]:
    """Keys and small JPEGs of some images, by label; {} where they were not written."""
    import pyarrow.parquet as pq

    examples: dict[int, list[tuple[str, bytes]]] = {}
    if (folder / EXAMPLES).is_file():
        for row in pq.read_table(folder / EXAMPLES, columns=["label", "key", "image"]).to_pylist():
            examples.setdefault(row["label"], []).append((row["key"], row["image"]))
    return examples
