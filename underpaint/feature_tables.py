"""Tables of features in the form that the name of the file says: Parquet, CSV or NumPy, joined part by part."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypedDict

from underpaint import files

SUFFIXES = (".parquet", ".csv", ".npy")
LOCK = ".lock"
OWN = re.compile(r"\d{9}\.parquet(\.part)?|joined|\.lock")
"""Names in a folder of parts."""


class FeatureRow(TypedDict):
    """A row of a part."""

    path: str
    embedding: list[float] | None
    problem: str


def require_table_name(out: Path) -> None:
    """Raise ValueError for a name that says no known form, or for a file or a folder of parts that is somebody's."""
    if out.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{out} must end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}, which chooses its form")
    # an interrupted call, which has left its parts, may have written the names already
    has_names = out.suffix.lower() == ".npy" and not parts_folder(out).is_dir()
    for file in (out, *([paths_file(out)] if has_names else [])):
        if file.exists():
            raise ValueError(f"{file} exists already; choose another --out, or delete it")
    parts = parts_folder(out)
    strangers = sorted(path.name for path in parts.iterdir() if not OWN.fullmatch(path.name)) if parts.is_dir() else []
    if strangers:
        raise ValueError(f"{parts} is for the parts of the table and holds {strangers[0]}; choose another --out")


@contextmanager
def new_parts(out: Path) -> Iterator[Path]:
    """The folder of the parts of a table, without those of a call that was killed; nobody else writes there meanwhile.

    Raises:
        BlockingIOError: if another call writes the same table.
    """
    parts = parts_folder(out)
    parts.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        try:
            held.enter_context(files.locked(parts / LOCK, wait=False))
        except BlockingIOError as error:
            raise BlockingIOError(f"another call writes {out}; wait for it, or choose another --out") from error
        for path in parts.iterdir():
            if path.name != LOCK:
                path.unlink()
        yield parts


def parts_folder(out: Path) -> Path:
    """The folder of the finished parts of a table that is being written."""
    return out.with_name(f"{out.name}.part")


def paths_file(out: Path) -> Path:
    """The list of the rows of a NumPy table, which has numbers alone: ``x.paths.json`` beside ``x.npy``."""
    return out.with_suffix(".paths.json")


def join_parts(parts: Sequence[Path], out: Path, *, width: int) -> None:
    """Write the rows of Parquet parts as one table; it appears whole.

    * ``.parquet``: the columns ``path``, ``embedding`` (float32) and ``problem``;
    * ``.csv``: ``path``, ``problem``, and a column for each number, empty for an image without an embedding;
    * ``.npy``: float32, a row per image, NaN for one without an embedding; ``x.paths.json`` names the rows.
    """
    target = parts[0].with_name("joined")
    write = {".parquet": _write_parquet, ".csv": _write_csv, ".npy": _write_npy}[out.suffix.lower()]
    write(parts, target, width)
    if out.suffix.lower() == ".npy":
        listed = [{"path": row["path"], "problem": row["problem"]} for row in _rows(parts, ["path", "problem"])]
        files.write_bytes(paths_file(out), json.dumps(listed, indent=0).encode())
    files.sync_file(target)
    target.replace(out)
    files.sync_folder(out.parent)


def _write_parquet(parts: Sequence[Path], target: Path, width: int) -> None:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetWriter(target, pyarrow.parquet.read_schema(parts[0])) as writer:
        for part in parts:
            writer.write_table(pyarrow.parquet.read_table(part))


def _write_csv(parts: Sequence[Path], target: Path, width: int) -> None:
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "problem", *(f"feature_{number}" for number in range(width))])
        for row in _rows(parts):
            writer.writerow([row["path"], row["problem"], *(row["embedding"] or [""] * width)])


def _write_npy(parts: Sequence[Path], target: Path, width: int) -> None:
    import numpy as np
    import pyarrow.parquet

    rows = sum(pyarrow.parquet.read_metadata(part).num_rows for part in parts)
    header = {"descr": "<f4", "fortran_order": False, "shape": (rows, width)}
    with target.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for part in parts:
            features = [row["embedding"] or [np.nan] * width for row in _rows([part])]
            file.write(np.array(features, dtype="<f4").tobytes())


def _rows(parts: Sequence[Path], columns: list[str] | None = None) -> Iterator[FeatureRow]:
    import pyarrow.parquet

    for part in parts:
        yield from pyarrow.parquet.read_table(part, columns=columns).to_pylist()
