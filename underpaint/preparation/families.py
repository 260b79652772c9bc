"""The copies that leave a set, and families of near copies that stay, which no split divides."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pyarrow as pa

from underpaint.preparation.arrow_files import read_table

Dedupe = Literal["none", "exact", "near"]
"""The copies that leave a set: none, exact ones, or exact and near ones."""

FAMILIES = "families.parquet"
FAMILIES_SCHEMA = pa.schema({"content_hash": pa.binary(16), "family": pa.binary(16)})
"""Schema of one row per image with near copies: its hash, and that of the first image of its family."""


def read_families(rows: Path) -> dict[bytes, bytes]:
    """The family of each image that has near copies in the set; {} where nobody looked for them."""
    file = rows / FAMILIES
    if not file.is_file():
        return {}
    table = read_table(file)
    return dict(zip(table["content_hash"].to_pylist(), table["family"].to_pylist(), strict=True))


def by_family(table: pa.Table, families: dict[bytes, bytes]) -> pa.Table:
    """The rows with the hash of their family instead of their own, by which splits are drawn."""
    if not families:
        return table
    column = [families.get(content, content) for content in table["content_hash"].to_pylist()]
    place = table.column_names.index("content_hash")
    return table.set_column(place, "content_hash", pa.array(column, pa.binary(16)))
