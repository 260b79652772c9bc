"""The page of near copies within a prepared set: each image that is kept, beside those that were left out for it."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from underpaint.files import read_json
from underpaint.report.prepared_files import RECORD

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


def content(folder: Path, *, images: bool) -> dict[str, Any]:
    """Everything that ``templates/near_copies.html.j2`` shows."""
    record = read_json(folder / RECORD) if (folder / RECORD).is_file() else {}
    counts = record.get("copies") or {"exact": 0, "near": 0}
    groups = _groups(folder, images=images)
    shown = sum(len(group.copies) + group.more for group in groups)
    return {
        "name": folder.resolve().name,
        "groups": groups,
        "exact": counts["exact"],
        "near": counts["near"],
        "not_shown": max(0, counts["near"] - shown),
    }


def _groups(folder: Path, *, images: bool) -> list[Group]:
    import pyarrow.parquet as pq

    rows: dict[int, list[dict[str, Any]]] = {}
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


def _shown(row: dict[str, Any], *, images: bool) -> Shown:
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
