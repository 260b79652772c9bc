"""Removal of near duplicates of test images from the training images, with counts and a sheet of pictures.

The candidates are all pairs whose perceptual hashes differ in at most 12 of 64 bits, in one of the views, mirrored or
not; none is missed by sampling. Then the pixels of the candidates are compared (``pixels.py``).

Only the image is removed and not its family: families are linked by names and concepts ("a bus"), and within a source
they are never divided by a split; in another source, the other members show other pictures of the same thing, from
which pretraining is meant to learn.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
import xxhash
from jaxtyping import Float
from torch import Tensor

from underpaint.core import ImageInput
from underpaint.data.cache import cache_folder
from underpaint.data.decode.image import EIGHT_BIT
from underpaint.data.loader import read_images
from underpaint.data.near_duplicates.candidates import Search, alike_in_colour
from underpaint.data.near_duplicates.fingerprints import PerceptualHashes, Views, perceptual_hashes, read_views
from underpaint.data.near_duplicates.pixels import DUPLICATE, differences
from underpaint.data.source import Files, Source, Split
from underpaint.files import read_json, write_bytes
from underpaint.messages import counted, say

BORDERLINE = 2.0
"""Largest difference of pairs that are reported for inspection, though those above DUPLICATE are kept."""

_FORMAT = 2
"""Version of the rules and limits, raised with every change: pairs compared by older rules are compared again."""
_TRAINED: tuple[Split, ...] = ("pretrain", "heldout")
_IMAGES_AT_ONCE = 4096


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A training image and a test image that look alike."""

    path: str
    """Path of the training image in its source."""
    test: str
    """Name of the test image's source."""
    test_path: str
    distance: int
    """Number of differing bits of the hashes."""
    difference: float
    """Difference of the pixels: 0 for the same, up to DUPLICATE for near duplicates."""
    mirrored: bool

    @property
    def is_duplicate(self) -> bool:
        return self.difference <= DUPLICATE


@dataclass(frozen=True, kw_only=True)
class TestSet:
    """The numbers of near duplicates for one set of test images."""

    name: str
    images: int
    duplicated: int
    """Number of test images that have a near duplicate."""
    removed: int
    """Number of training images that are a near duplicate of a test image."""
    unreadable_or_flat: int
    """Number of test images that were not compared, since they cannot be read or show one colour."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """The near duplicates removed from a source; ``dataclasses.asdict`` makes plain JSON of it."""

    source: str
    tests: tuple[TestSet, ...]
    removed: dict[Split, int]
    """Number of images that each split lost; several test sets may have the same near duplicate."""
    pairs: tuple[Pair, ...]
    """The near duplicates and the borderline pairs, the most alike first."""


def without_duplicates(source: Source, tests: Sequence[Source]) -> tuple[Source, Report]:
    """The source without the near duplicates of any test image, its own included, and a report on those removed.

    They leave the splits ``pretrain`` and ``heldout``; near duplicates of the source's own test images leave its
    ``train`` as well. The test images of a source without a split ``test`` are all its images. A source that loses
    nothing stays the same, hash and all.
    """
    others = {test.content_hash: test for test in tests}
    if source.rows("test"):
        others[source.content_hash] = source
    row_of = {path: row for row, path in enumerate(source.path)}
    splits = list(source.splits)
    all_pairs: list[Pair] = []
    test_sets: list[TestSet] = []
    for test in others.values():
        pairs, blank = _compared(source, test)
        duplicates = [pair for pair in pairs if pair.is_duplicate]
        own_task: tuple[Split, ...] = ("train",) if test.content_hash == source.content_hash else ()
        for row in {row_of[pair.path] for pair in duplicates}:
            splits[row] = tuple(split for split in splits[row] if split not in (*_TRAINED, *own_task))
        test_sets.append(
            TestSet(
                name=test.name,
                images=len(_test_rows(test)),
                duplicated=len({pair.test_path for pair in duplicates}),
                removed=len({pair.path for pair in duplicates}),
                unreadable_or_flat=blank,
            )
        )
        all_pairs += pairs
    removed: dict[Split, int] = {
        split: sum(split in before and split not in after for before, after in zip(source.splits, splits, strict=True))
        for split in (*_TRAINED, "train")
    }
    report = Report(source=source.name, tests=tuple(test_sets), removed=removed, pairs=_ordered(all_pairs))
    return _with_splits(source, tuple(splits)), report


def near_duplicates(train: Source, test: Source) -> list[Pair]:
    """The near duplicates of ``test``'s test images among the images of ``train``, and the borderline pairs.

    The images in the splits ``pretrain`` and ``heldout`` of ``train`` are compared, and its split ``train`` where both
    sources are the same. The most alike pairs come first.
    """
    return list(_compared(train, test)[0])


def sheet(
    pairs: Sequence[Pair], train: Source, tests: Sequence[Source], *, count: int = 24, side: int = 64
) -> Float[Tensor, "rows b c h w"]:
    """Pictures for ``products.write_sheet``: in each row four pairs, training image and test image side by side.

    In the upper half the ``count`` most alike of the near duplicates, in the lower half, after a white row, as many
    pairs on both sides of the limit, which show whether it is at the right place.
    """
    ordered = _ordered(pairs)
    border = sorted(ordered, key=lambda pair: abs(pair.difference - DUPLICATE))[:count]
    groups = [[pair for pair in ordered if pair.is_duplicate][:count], list(_ordered(border))]
    by_name = {test.name: test for test in (*tests, train)}
    rows = {source.name: {path: row for row, path in enumerate(source.path)} for source in by_name.values()}
    plain = ImageInput(size=(side, side), channels=3, value_range=EIGHT_BIT, mean=(0.0,) * 3, std=(1.0,) * 3)

    def read(name: str, path: str) -> Tensor:
        return read_images(by_name[name], [rows[name][path]], format=plain)[0][0]

    white = torch.ones(1, 8, 3, side, side)
    parts: list[Tensor] = []
    for group in groups:
        pictures = [read(*place) for pair in group for place in ((train.name, pair.path), (pair.test, pair.test_path))]
        pictures += [torch.ones(3, side, side)] * (-len(pictures) % 8)
        parts += [torch.stack(pictures).reshape(-1, 8, 3, side, side) if pictures else white, white]
    return torch.cat(parts[:-1])


@functools.lru_cache(maxsize=32)
def _compared(train: Source, test: Source) -> tuple[tuple[Pair, ...], int]:
    """The pairs up to BORDERLINE and the number of test images without a hash, cached in memory and on disk."""
    compared_splits: tuple[Split, ...] = (*_TRAINED, "train") if train.content_hash == test.content_hash else _TRAINED
    trained, tested = _trained(train, compared_splits), _Images.of(test, _test_rows(test))
    key = xxhash.xxh3_128(json.dumps([_FORMAT, trained.digest(), tested.digest()]).encode()).hexdigest()
    store = cache_folder() / "duplicates" / f"{key}.json"
    try:
        pairs = tuple(Pair(**pair) for pair in read_json(store))
    except (OSError, ValueError, TypeError):  # not compared before, or damaged
        pairs = _ordered(list(_alike(trained, tested)))
        _remember(store, pairs)
    count = len({pair.path for pair in pairs if pair.is_duplicate})
    if count:
        are = "is a near duplicate" if count == 1 else "are near duplicates"
        say(f"{counted(count, 'image')} of {train.name} {are} of test images of {test.name}")
    return pairs, int(tested.prints.flat.all(axis=1).sum())


@dataclass(frozen=True, kw_only=True)
class _Images:
    """Some rows of a source with their fingerprints."""

    name: str
    paths: tuple[str, ...]
    files: Files
    prints: PerceptualHashes

    @classmethod
    def of(cls, source: Source, rows: Sequence[int]) -> _Images:
        paths = tuple(source.path[row] for row in rows)
        return cls(name=source.name, paths=paths, files=source.files, prints=perceptual_hashes(source, rows))

    def part(self, start: int, stop: int) -> _Images:
        prints = self.prints.part(start, stop)
        return _Images(name=self.name, paths=self.paths[start:stop], files=self.files, prints=prints)

    def digest(self) -> str:
        state = xxhash.xxh3_128(json.dumps([self.name, self.paths]).encode())
        for column in (self.prints.plain, self.prints.flat, self.prints.fields):
            state.update(column.tobytes())
        return state.hexdigest()

    def views(self, rows: np.ndarray) -> Views:
        return read_views([functools.partial(self.files.read, self.paths[row]) for row in rows])


@functools.lru_cache(maxsize=2)
def _trained(train: Source, splits: tuple[Split, ...]) -> _Images:
    """The images of these splits, cached, since they are compared with one test set after another."""
    return _Images.of(
        train, [row for row, row_splits in enumerate(train.splits) if not set(row_splits).isdisjoint(splits)]
    )


def _remember(store: Path, pairs: Sequence[Pair]) -> None:
    try:
        store.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(store, json.dumps([asdict(pair) for pair in pairs]).encode())
    except OSError as error:  # it would only have saved time
        say(f"The near duplicates were not kept in {store}: {error.strerror}")


def _alike(trained: _Images, tested: _Images) -> Iterator[Pair]:
    """Yield the pairs up to BORDERLINE, from _IMAGES_AT_ONCE training images at a time to bound the memory."""
    search = Search(tested.prints)
    for start in range(0, len(trained.paths), _IMAGES_AT_ONCE):
        part = trained.part(start, start + _IMAGES_AT_ONCE)
        candidates = alike_in_colour(search.candidates(part.prints), part.prints, tested.prints)
        first, i = np.unique(candidates.rows[:, 0], return_inverse=True)
        second, j = np.unique(candidates.rows[:, 1], return_inverse=True)
        difference = differences(
            part.views(first),
            tested.views(second),
            np.stack([i, j], axis=1),
            mirrored=candidates.mirrored,
            scale=candidates.scale,
        )
        for index in np.flatnonzero(difference <= BORDERLINE):
            yield Pair(
                path=part.paths[candidates.rows[index, 0]],
                test=tested.name,
                test_path=tested.paths[candidates.rows[index, 1]],
                distance=int(candidates.distance[index]),
                difference=float(difference[index]),
                mirrored=bool(candidates.mirrored[index]),
            )


def _test_rows(test: Source) -> list[int]:
    return test.rows("test") or list(range(len(test.path)))


def _ordered(pairs: Sequence[Pair]) -> tuple[Pair, ...]:
    return tuple(sorted(pairs, key=lambda pair: (pair.difference, pair.path, pair.test, pair.test_path)))


def _with_splits(source: Source, splits: tuple[tuple[Split, ...], ...]) -> Source:
    if splits == source.splits:
        return source
    changed = [(path, now) for path, now, was in zip(source.path, splits, source.splits, strict=True) if now != was]
    text = json.dumps([source.content_hash, changed])
    return replace(source, splits=splits, content_hash=xxhash.xxh3_128(text.encode()).hexdigest())
