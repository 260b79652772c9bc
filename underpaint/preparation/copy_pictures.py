"""Small pictures of near copies and of what is kept for them, for the page ``near_copies.html``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from underpaint.data.decode.limits import BadImage
from underpaint.data.shards.label_pictures import small_jpeg
from underpaint.preparation.arrow_files import read_table, write_table
from underpaint.preparation.deduplication import COPIES

PICTURES, PAGE = "copy_pictures.parquet", "near_copies.html"
MAX_GROUPS = 150
"""Kept images that are shown with their copies: the most doubtful ones."""
MAX_COPIES = 8
"""Of one kept image."""

_SCHEMA = pa.schema(
    {
        "group": pa.int32(),
        "kept": pa.bool_(),
        "key": pa.string(),
        "source": pa.string(),
        "width": pa.int32(),
        "height": pa.int32(),
        "tags": pa.list_(pa.string()),
        "copies": pa.int32(),
        "difference": pa.float32(),
        "mirrored": pa.bool_(),
        "image": pa.binary(),
    }
)
"""Of each group first the image that is kept, with the number of its near copies, then the copies that are shown."""


def write_copy_pictures(folder: Path) -> int:
    """Write PICTURES into a prepared set, or remove it and the page where copies stay; the number of groups.

    A group is as doubtful as its most different copy, and such ones come first. A picture that cannot be read is empty.
    """
    target = folder / PICTURES
    if not (folder / COPIES).is_file():
        for file in (target, folder / PAGE):
            file.unlink(missing_ok=True)
        return 0
    groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in read_table(folder / COPIES).to_pylist():
        if row["kind"] == "near":
            groups.setdefault((row["kept"]["shard"], row["kept"]["offset"]), []).append(row)
    ordered = sorted(groups.values(), key=lambda rows: -max(row["difference"] for row in rows))[:MAX_GROUPS]
    rows = [row for number, group in enumerate(ordered) for row in _pictured(number, group, folder)]
    write_table(pa.Table.from_pylist(rows, _SCHEMA), target)
    return len(ordered)


def _pictured(number: int, group: list[dict[str, Any]], folder: Path) -> Iterator[dict[str, Any]]:
    kept = group[0]["kept"]
    yield _row(number, kept, folder) | {"kept": True, "copies": len(group)}
    for row in sorted(group, key=lambda row: -row["difference"])[:MAX_COPIES]:
        known = {"difference": row["difference"], "mirrored": row["mirrored"]}
        yield _row(number, row["copy"], folder) | {"kept": False} | known


def _row(number: int, image: dict[str, Any], folder: Path) -> dict[str, Any]:
    fields = ("key", "source", "width", "height", "tags")
    return {"group": number, "image": _picture(image, folder), **{name: image[name] for name in fields}}


def _picture(image: dict[str, Any], folder: Path) -> bytes:
    try:
        with (folder / image["shard"]).open("rb") as shard:
            shard.seek(image["offset"])
            return small_jpeg(shard.read(image["size"]))
    except (BadImage, OSError):
        return b""
