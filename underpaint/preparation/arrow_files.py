"""Atomic, reproducible Parquet files: a file is whole or absent, and the same table gives the same bytes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from underpaint.files import sync_folder


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that appears under its name when the block ends well.

    Its temporary name is this process's own: a worker that outlives a killed command cannot spoil what the next one
    writes, and what both write is the same.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    sync_folder(path.parent)


def write_table(table: pa.Table, path: Path, *, rows_of_group: int | None = None) -> None:
    with replacing(path) as file:
        pq.write_table(table, file, compression="zstd", row_group_size=rows_of_group)


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """The table in a Parquet file, read on one thread, so that many can be read at once."""
    with pq.ParquetFile(path) as file:
        return file.read(columns=None if columns is None else list(columns), use_threads=False)
