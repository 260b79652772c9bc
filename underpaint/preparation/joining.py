"""A table that is joined to images read elsewhere: ``--tags FILE``, or ``tags.csv`` of a folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from underpaint.files import xxh3
from underpaint.preparation.arrow_files import write_table
from underpaint.preparation.metadata import NOTHING, Metadata
from underpaint.preparation.tag_tables import read_rows

JOINED = pa.schema(
    {
        "name": pa.string(),
        "tags": pa.list_(pa.string()),
        "caption": pa.string(),
        "language": pa.string(),
        "licence": pa.string(),
    }
)
ROWS_OF_GROUP = 65_536


def join_table(file: Path, folder: Path) -> Path:
    """Sort what a table says by the names of its images, so that each partition reads its own; the sorted file.

    The table is held in memory once: some 200 bytes a row.

    Raises:
        ValueError: if it is no table that names images.
    """
    target = folder / f"{xxh3(file)}.parquet"
    if not target.is_file():
        rows = [
            {
                "name": name,
                "tags": row.said.tags,
                "caption": row.said.caption,
                "language": row.said.language,
                "licence": row.said.licence,
            }
            for block in read_rows(file)
            for row in block
            for name in (*row.keys, *(as_path(path) for path in row.paths if not row.keys))
        ]
        write_table(pa.Table.from_pylist(rows, JOINED).sort_by("name"), target, rows_of_group=ROWS_OF_GROUP)
    return target


def as_path(path: str) -> str:
    """A path among the names, which no key is equal to."""
    return f"/{path.removeprefix('./')}"


def said_by_name(rows: Iterable[Mapping[str, Any]]) -> dict[str, Metadata]:
    """Rows of a joined table by the name that they are about; those of one name together."""
    found: dict[str, Metadata] = {}
    for row in rows:
        tags = row["tags"]
        said = Metadata(
            tags=None if tags is None else tuple(tags),
            caption=row["caption"],
            language=row["language"],
            licence=row["licence"],
        )
        found[row["name"]] = found.get(row["name"], NOTHING).merged_with(said)
    return found
