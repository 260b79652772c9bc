"""The fields of ``prepare.json``: what a prepared set was made of, by which rules, and what was left out."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NotRequired, TypedDict

from underpaint import files
from underpaint.results.check import checked

RECORD = "prepare.json"
FORMAT = 1


class SourceRecord(TypedDict):
    """One source: where it lies and how it is read."""

    name: str
    path: str
    kind: str
    table: str


class PrepareSettings(TypedDict):
    """Settings that decide the contents of the set; ``rules`` are the fields of ``TagRules``."""

    underpaint: str
    sources: list[SourceRecord]
    tags: list[str] | str  # tables; in older sets one, or ""
    tags_hash: list[str] | str
    labels: NotRequired[str]
    labels_hash: NotRequired[str]
    exclude: list[str]
    rules: dict[str, object]
    resample: Literal["none", "sqrt", "instance"]
    resample_ratio: float
    shard_images: int
    folders: NotRequired[Literal["none", "last", "first", "all"]]
    dedupe: NotRequired[Literal["none", "exact", "near"] | bool]  # a bool in older sets, for both kinds


class DroppedCounts(TypedDict):
    """Images that were left out, and the most frequent reasons."""

    dropped: int
    reasons: dict[str, int]


class TagOrigins(TypedDict):
    """Numbers of images by where their tags come from; older records have none."""

    folder_tags: NotRequired[int]  # the names of folders
    newer_sidecar: NotRequired[int]  # an XMP file newer than the image, which replaces the keywords inside
    predicted_tags: NotRequired[int]  # tags that `predict --write` gave the image, which are not read


class PrepareCounts(DroppedCounts, TagOrigins):
    """Counts of the contents of the set."""

    partitions: int
    images: int
    labels: int
    classes: NotRequired[int]


class ExcludedCounts(TypedDict):
    """Near duplicates of one set of evaluation images."""

    name: str
    images: int
    unreadable_or_flat: int
    duplicated: int
    removed: int


class PrepareRecord(TypedDict):
    """``prepare.json``."""

    format: int
    digest: str
    settings: PrepareSettings
    counts: PrepareCounts
    tables: NotRequired[list[str]]  # how well each joined table fitted, for people
    excluded: list[ExcludedCounts]
    # Left out within the set, by kind, and near copies that stay in the split of another; {} where nobody looked.
    copies: NotRequired[dict[str, int]]
    refused: dict[str, int]  # why embedded keywords were not read


def read_record(folder: Path) -> PrepareRecord | None:
    """``prepare.json``; None where it is missing.

    Raises:
        ValueError: if it is damaged or of another release; the message names the file and the field.
    """
    path = folder / RECORD
    if not path.is_file():
        return None
    content = files.read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{path} is not a record of this release; choose another --out")
    return checked(PrepareRecord, content, where=str(path))
