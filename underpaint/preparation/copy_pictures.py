"""Small pictures of near copies and of the images kept for them, for the page ``near_copies.html``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

import pyarrow as pa

from underpaint.data.decode.limits import BadImage
from underpaint.data.shards.label_pictures import small_jpeg
from underpaint.preparation.arrow_files import read_table, write_table
from underpaint.preparation.deduplication import COPIES, CopyRow, ImageRow

PICTURES, PAGE = "copy_pictures.parquet", "near_copies.html"
MAX_GROUPS = 150
"""Largest number of kept images shown with their copies; the most doubtful ones are taken."""
MAX_COPIES = 8
"""Largest number of copies shown for one kept image."""

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
"""Each group begins with the image that is kept and the number of its near copies; the copies follow."""


class PictureRow(TypedDict, total=False):
    """A row of PICTURES."""

    group: int
    kept: bool
    key: str
    source: str
    width: int
    height: int
    tags: list[str]
    copies: int
    difference: float
    mirrored: bool
    image: bytes


def write_copy_pictures(folder: Path) -> int:
    """Write PICTURES into a prepared set, or remove it and the page where copies are kept; returns the groups' number.

    A group is as doubtful as its most different copy, and such ones come first. A picture that cannot be read is empty.
    """
    target = folder / PICTURES
    if not (folder / COPIES).is_file():
        for file in (target, folder / PAGE):
            file.unlink(missing_ok=True)
        return 0
    groups: dict[tuple[str, int], list[CopyRow]] = {}
    for row in read_table(folder / COPIES).to_pylist():
        if row["kind"] == "near":
            groups.setdefault((row["kept"]["shard"], row["kept"]["offset"]), []).append(row)
    ordered = sorted(groups.values(), key=lambda rows: -max(row["difference"] for row in rows))[:MAX_GROUPS]
    rows = [row for number, group in enumerate(ordered) for row in _pictured(number, group, folder)]
    write_table(pa.Table.from_pylist(rows, _SCHEMA), target)
    return len(ordered)


def _pictured(number: int, group: list[CopyRow], folder: Path) -> Iterator[PictureRow]:
    kept = group[0]["kept"]
    first = _row(number, kept, folder)
    first["kept"], first["copies"] = True, len(group)
    yield first
    for pair in sorted(group, key=lambda pair: -pair["difference"])[:MAX_COPIES]:
        row = _row(number, pair["copy"], folder)
        row["kept"], row["difference"], row["mirrored"] = False, pair["difference"], pair["mirrored"]
        yield row


def _row(number: int, image: ImageRow, folder: Path) -> PictureRow:
    return {
        "group": number,
        "key": image["key"],
        "source": image["source"],
        "width": image["width"],
        "height": image["height"],
        "tags": image["tags"] or [],
        "image": _picture(image, folder),
    }


def _picture(image: ImageRow, folder: Path) -> bytes:
    try:
        with (folder / image["shard"]).open("rb") as shard:
            shard.seek(image["offset"])
            return small_jpeg(shard.read(image["size"]))
    except (BadImage, OSError):
        return b""
