"""Search for near duplicates of evaluation images among the images of a set that is being prepared, in batches.

The evaluation sets are few and small, so every process holds their hashes (150 bytes an image) and has their small
views mapped from a file (6 kB an image); the images of the set are compared in batches, whatever their number. Near
duplicates are decided as for studies (``removal.py``): all pairs of near hashes, then their pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from underpaint.data.folders.listing import list_folder, say_skipped
from underpaint.data.near_duplicates.candidates import Candidates, Search, alike_in_colour
from underpaint.data.near_duplicates.fingerprints import SIDE, Fingerprints, PerceptualHashes, Views, fingerprint
from underpaint.data.near_duplicates.pixels import DUPLICATE, differences
from underpaint.data.shards.tar import MAX_IMAGE_BYTES
from underpaint.files import new_folder
from underpaint.progress import progress

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH = 256
_NAMES = "names.parquet"
_COLUMNS: dict[str, tuple[type[np.generic], tuple[int, ...]]] = {
    "plain": (np.uint64, (3,)),
    "mirrored": (np.uint64, (3,)),
    "hidden": (np.bool_, (3,)),
    "fields": (np.uint8, (2, 4, 4, 3)),
    "pixels": (np.uint8, (2, SIDE, SIDE, 3)),
    "ratio": (np.float64, (2,)),
    "flat": (np.bool_, (2,)),
}
"""Type and shape per image of each file; ``hidden`` is PerceptualHashes.flat, ``flat`` is Views.flat."""


def excluded_schema() -> pa.Schema:
    """The ``pyarrow.Schema`` of the near duplicates: one row per pair of an image of the set and an evaluation image.

    ``distance`` counts the bits of the hashes that differ, ``difference`` is that of the pixels, from 0 to DUPLICATE.
    """
    import pyarrow as pa

    columns = {"key": pa.string(), "set": pa.string(), "path": pa.string()}
    return pa.schema({**columns, "distance": pa.int32(), "difference": pa.float32(), "mirrored": pa.bool_()})


@dataclass(frozen=True, kw_only=True)
class EvaluationSet:
    """The numbers of near duplicates for one set of evaluation images."""

    name: str
    images: int
    unreadable_or_flat: int
    """Number of evaluation images that are not compared, since they cannot be read or show one colour."""
    duplicated: int
    """Number of evaluation images that have a near duplicate in the prepared set."""
    removed: int
    """Number of images removed from the prepared set as near duplicates of an evaluation image."""


def write_exclusion(folders: Sequence[Path], target: Path) -> None:
    """Write the fingerprints of all images in these folders into the folder ``target``, for ``Exclusion`` to open.

    Raises:
        ValueError: if a path is not a folder, a folder has no image, or two folders have the same name.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        raise ValueError(f"two of the folders to exclude have one name: {', '.join(names)}; rename one of them")
    files = [(folder, path) for folder in folders for path in _images(folder)]
    with new_folder(target) as part:
        columns = {
            name: np.lib.format.open_memmap(part / f"{name}.npy", mode="w+", dtype=kind, shape=(len(files), *shape))
            for name, (kind, shape) in _COLUMNS.items()
        }
        for start, fingerprints in _looked_at(files):
            for name, values in _values(fingerprints).items():
                columns[name][start : start + len(values)] = values
        for column in columns.values():
            column.flush()
        table = {"set": [folder.resolve().name for folder, _ in files], "path": [path for _, path in files]}
        pq.write_table(pa.table(table), part / _NAMES)


class Exclusion:
    """The fingerprints of evaluation images whose near duplicates are removed from a prepared set."""

    def __init__(self, folder: Path) -> None:
        """Open a folder that ``write_exclusion`` wrote; raises ValueError where it is damaged."""
        import pyarrow.parquet as pq

        names = pq.read_table(folder / _NAMES)
        self._set: list[str] = names["set"].to_pylist()
        self._path: list[str] = names["path"].to_pylist()
        columns = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in _COLUMNS}
        for name, (kind, shape) in _COLUMNS.items():
            if columns[name].shape != (len(names), *shape) or columns[name].dtype != kind:
                raise ValueError(
                    f"{folder / name}.npy is damaged or of another version; remove {folder}, prepare again"
                )
        self._views = Views(pixels=columns["pixels"], ratio=columns["ratio"], flat=columns["flat"])
        self._prints = PerceptualHashes(
            plain=columns["plain"], mirrored=columns["mirrored"], flat=columns["hidden"], fields=columns["fields"]
        )

    def find(self, keys: Sequence[str], fingerprints: Fingerprints) -> pa.Table:
        """The near duplicates among the images of these keys: a table of ``excluded_schema``."""
        import pyarrow as pa

        candidates = alike_in_colour(self._search.candidates(fingerprints.prints), fingerprints.prints, self._prints)
        difference = self._differences(candidates, fingerprints.views)
        rows = [
            {
                "key": keys[candidates.rows[index, 0]],
                "set": self._set[candidates.rows[index, 1]],
                "path": self._path[candidates.rows[index, 1]],
                "distance": int(candidates.distance[index]),
                "difference": float(difference[index]),
                "mirrored": bool(candidates.mirrored[index]),
            }
            for index in np.flatnonzero(difference <= DUPLICATE)
        ]
        return pa.Table.from_pylist(rows, excluded_schema())

    def count(self, pairs: pa.Table) -> list[EvaluationSet]:
        """The numbers per evaluation set, from the tables that ``find`` returned."""
        import pyarrow.compute as pc

        hidden, sets = np.all(self._prints.flat, axis=1), np.array(self._set)
        counts = []
        for name in dict.fromkeys(self._set):
            pairs_of_set = pairs.filter(pc.equal(pairs["set"], name))  # pyright: ignore[reportAttributeAccessIssue]
            counts.append(
                EvaluationSet(
                    name=name,
                    images=self._set.count(name),
                    unreadable_or_flat=int(np.count_nonzero(hidden & (sets == name))),
                    duplicated=len(pairs_of_set["path"].unique()),
                    removed=len(pairs_of_set["key"].unique()),
                )
            )
        return counts

    @cached_property
    def _search(self) -> Search:
        return Search(self._prints)

    def _differences(self, candidates: Candidates, views: Views) -> np.ndarray:
        """The differences of the pixels of the candidates; only the views of their evaluation images are read."""
        rows, places = np.unique(candidates.rows[:, 1], return_inverse=True)
        views_of_set = Views(
            pixels=self._views.pixels[rows], ratio=self._views.ratio[rows], flat=self._views.flat[rows]
        )
        pairs = np.stack([candidates.rows[:, 0], places], axis=1)
        return differences(views, views_of_set, pairs, mirrored=candidates.mirrored, scale=candidates.scale)


def _images(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder of evaluation images to exclude")
    listing = list_folder(folder.resolve())
    if not listing.images:
        raise ValueError(f"{folder} has no images to exclude; looked in it and its sub-folders")
    say_skipped(folder, listing)
    return list(listing.images)


def _looked_at(files: Sequence[tuple[Path, str]]) -> Iterator[tuple[int, Fingerprints]]:
    """Yield the fingerprints of files in batches, each with its first index.

    Two threads decode, since the decoders release the interpreter lock.
    """
    starts = range(0, len(files), _BATCH)

    def look(start: int) -> Fingerprints:
        return fingerprint([_content(folder / path) for folder, path in files[start : start + _BATCH]])

    with ThreadPoolExecutor(max_workers=2) as pool:
        fingerprints = pool.map(look, starts)
        yield from zip(
            starts,
            progress(fingerprints, "Looking at the evaluation images to exclude", total=len(starts), unit="batches"),
            strict=True,
        )


def _content(file: Path) -> bytes:
    """The bytes of a file; b"", which counts as unreadable, where it cannot be read or is too large."""
    try:
        return file.read_bytes() if file.stat().st_size <= MAX_IMAGE_BYTES else b""
    except OSError:
        return b""


def _values(fingerprints: Fingerprints) -> dict[str, np.ndarray]:
    prints, views = fingerprints.prints, fingerprints.views
    hashes = {"plain": prints.plain, "mirrored": prints.mirrored, "hidden": prints.flat, "fields": prints.fields}
    return {**hashes, "pixels": views.pixels, "ratio": views.ratio, "flat": views.flat}
