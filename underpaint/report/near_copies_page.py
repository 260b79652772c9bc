"""The page of near copies within a prepared set: each image that is kept, beside those that were left out for it."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from underpaint.results.preparation import read_record

PICTURES = "copy_pictures.parquet"
SHOWN_TAGS = 6


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One image as the page shows it."""

    key: str
    source: str
    size: str
    uri: str
    """A data URI; "" where the image could not be read."""
    tags: tuple[str, ...]
    difference: float
    mirrored: bool


@dataclass(frozen=True, kw_only=True)
class Group:
    """An image that is kept, and near copies of it."""

    kept: Shown
    copies: tuple[Shown, ...]
    more: int
    """Copies that are not shown."""


class _Row(TypedDict):
    """A row of PICTURES; ``copies`` is that of a kept image, ``difference`` and ``mirrored`` those of a copy."""

    group: int
    key: str
    source: str
    width: int
    height: int
    tags: list[str]
    copies: int
    difference: float | None
    mirrored: bool | None
    image: bytes


def content(folder: Path, *, images: bool) -> dict[str, object]:
    """Everything that ``templates/near_copies.html.j2`` shows."""
    record = read_record(folder)
    counts = (record.get("copies") if record else None) or {"exact": 0, "near": 0}
    groups = groups_of_copies(folder, images=images)
    shown = sum(len(group.copies) + group.more for group in groups)
    return {
        "name": folder.resolve().name,
        "groups": groups,
        "exact": counts["exact"],
        "near": counts["near"],
        "not_shown": max(0, counts["near"] - shown),
    }


def groups_of_copies(folder: Path, *, images: bool) -> list[Group]:
    """The near copies with pictures, the most doubtful groups first; [] where none were sought."""
    import pyarrow.parquet as pq

    if not (folder / PICTURES).is_file():
        return []
    rows: dict[int, list[_Row]] = {}
    for row in pq.read_table(folder / PICTURES).to_pylist():
        rows.setdefault(row["group"], []).append(row)
    return [
        Group(
            kept=_shown(kept, images=images),
            copies=tuple(_shown(copy, images=images) for copy in copies),
            more=kept["copies"] - len(copies),
        )
        for kept, *copies in rows.values()
    ]


def _shown(row: _Row, *, images: bool) -> Shown:
    encoded = base64.b64encode(row["image"]).decode() if images else ""
    return Shown(
        key=row["key"],
        source=row["source"],
        size=f"{row['width']} × {row['height']}",
        uri=f"data:image/jpeg;base64,{encoded}" if encoded else "",
        tags=tuple(row["tags"][:SHOWN_TAGS]),
        difference=row["difference"] or 0.0,
        mirrored=bool(row["mirrored"]),
    )
