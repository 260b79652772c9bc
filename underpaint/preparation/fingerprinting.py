"""Checks of the pixels, in batches: decoding errors, perceptual hashes, near duplicates of evaluation images."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import xxhash

from underpaint.data.folders.listing import list_folder
from underpaint.data.near_duplicates.exclusion import Exclusion, write_exclusion
from underpaint.data.near_duplicates.fingerprints import fingerprint
from underpaint.preparation.samples import LeftOut, Sample

BATCH_IMAGES = 64
BATCH_BYTES = 256 * 1024**2


def checked(samples: Iterable[Sample | LeftOut], exclusion: Path | None) -> Iterator[Sample | LeftOut]:
    """The samples in their order with hashes; undecodable ones and near duplicates of evaluation images as LeftOut."""
    batch: list[Sample | LeftOut] = []
    size = 0
    for sample in samples:
        batch.append(sample)
        size += len(sample.data) if isinstance(sample, Sample) else 0
        if len(batch) >= BATCH_IMAGES or size >= BATCH_BYTES:
            yield from _looked_at(batch, exclusion)
            batch, size = [], 0
    yield from _looked_at(batch, exclusion)


def _looked_at(batch: Sequence[Sample | LeftOut], exclusion: Path | None) -> Iterator[Sample | LeftOut]:
    images = [sample for sample in batch if isinstance(sample, Sample)]
    fingerprints = fingerprint([image.data for image in images])
    shows: dict[str, list[dict]] = {}
    if exclusion is not None and images:
        for row in opened(exclusion).find([str(number) for number in range(len(images))], fingerprints).to_pylist():
            shows.setdefault(row.pop("key"), []).append(row)
    number = 0
    hashes, packed = fingerprints.hashes(), fingerprints.prints.packed()
    for sample in batch:
        if isinstance(sample, LeftOut):
            yield sample
            continue
        if fingerprints.problems[number]:
            yield LeftOut(name=sample.name, reason=fingerprints.problems[number])
        elif pairs := shows.get(str(number)):
            yield LeftOut(name=sample.name, reason=f"near duplicate of {pairs[0]['set']}", shows=tuple(pairs))
        else:
            yield replace(sample, perceptual_hash=hashes[number], fingerprint=packed[number])
        number += 1


@functools.cache
def opened(exclusion: Path) -> Exclusion:
    """The evaluation images' fingerprints in a folder, read once by each process."""
    return Exclusion(exclusion)


def exclusion_folder(folders: Sequence[str], work: Path) -> Path | None:
    """The folder of the evaluation images' fingerprints, written where it is missing; None without ``folders``.

    Its name is a hash of the names, sizes and times of the evaluation images.

    Raises:
        ValueError: if a path is not a folder, a folder has no image, or two folders have the same name.
    """
    if not folders:
        return None
    paths = [Path(folder).expanduser() for folder in folders]
    for path in paths:
        if not path.is_dir():
            raise ValueError(f"--exclude {path} is not a folder of evaluation images")
    files = [(str(path.resolve()), file) for path in paths for file in list_folder(path.resolve()).images]
    stamps = [(Path(path, file).stat().st_size, Path(path, file).stat().st_mtime_ns) for path, file in files]
    digest = xxhash.xxh3_64_hexdigest(json.dumps([files, stamps], ensure_ascii=True).encode())
    target = work / f"exclusion-{digest}"
    if not target.is_dir():
        write_exclusion(paths, target)
    return target
