"""One look at a folder of images before anything is made of it: kinds, sizes, tags and their origins, copies, classes.

Everything is read as ``prepare`` and ``train`` read it; nothing is written but what the cache keeps of each file.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from underpaint.data.decode.image import preview
from underpaint.data.decode.limits import BadImage
from underpaint.data.folders.annotations import read_tags
from underpaint.data.folders.folder import listed, open_folder
from underpaint.data.folders.listing import Listing
from underpaint.data.near_duplicates.fingerprints import perceptual_hashes, read_views
from underpaint.data.near_duplicates.within_set import near_copies
from underpaint.data.source import Source
from underpaint.data.tables.table_file import TableFile, table_file
from underpaint.messages import counted
from underpaint.preparation.inputs import own_table
from underpaint.preparation.plan import folder_names
from underpaint.preparation.samples import LeftOut, Sample, origins_in_words, read_file, row_of
from underpaint.progress import progress
from underpaint.tags.label_names import EVERY_LABEL
from underpaint.tags.labels import build_label_space

SHOWN = 8
"""Most frequent labels, and reasons, that are shown."""


@dataclass(frozen=True, kw_only=True)
class TagSurvey:
    """Tags of a folder's images, and the labels that they become by the rules of docs/tags.md."""

    images: int
    """Images with a tag."""
    origins: Mapping[str, int]
    """Number of images by each origin of their tags, a name of ``ORIGINS``."""
    newer_sidecars: int
    predicted: int
    """Images with tags that ``predict --write`` wrote, which are not among ``tags``."""
    tags: int
    labels: int
    of_wordnet: int
    """Labels whose meaning WordNet has; the others are words of other languages, names and misspellings."""
    dropped: int
    most: tuple[tuple[str, int], ...]
    """The most frequent labels, with the number of images of each."""
    counts: tuple[int, ...]
    """Images of each label, falling."""


@dataclass(frozen=True, kw_only=True)
class Copies:
    """Copies among a folder's images; each group of them keeps one."""

    exact: int
    near: int
    same_folder: int
    """Near copies that lie beside the image that is kept, such as frames of a burst."""


@dataclass(frozen=True, kw_only=True)
class FolderSurvey:
    """Contents of a folder, counted."""

    folder: str
    """The path as it was given."""
    images: int
    kinds: Mapping[str, int]
    """Images by their extension."""
    short_side: tuple[int, int, int]
    """Smallest, median and largest short side in pixels of the images that can be read."""
    bytes: int
    left_out: Mapping[str, int]
    """Images that cannot be used, by the reason."""
    skipped: str
    """Line about files that are not read; "" where all are."""
    tables: tuple[str, ...]
    """A line about each table of tags."""
    tags: TagSurvey
    copies: Copies
    classes: Mapping[str, int]
    """Images of each class to transfer to, by the folders or a table."""
    notes: tuple[str, ...]
    """Sentences about classes and splits."""

    @property
    def usable(self) -> int:
        """Number of images that can be read."""
        return self.images - sum(self.left_out.values())

    def lines(self) -> list[str]:
        """The survey in words."""
        low, middle, high = self.short_side
        images = f"{counted(self.images, 'image')} ({kinds_in_words(self.kinds)})"
        return [
            f"{self.folder}: {images}, {self.bytes / 2**20:,.0f} MiB",
            f"  short side: {low:,} to {high:,} pixels, half of them from {middle:,} on",
            *([f"  {self.skipped}"] if self.skipped else []),
            *(
                f"  cannot be used {counted(count, 'time')}: {why}"
                for why, count in Counter(self.left_out).most_common(SHOWN)
            ),
            *(f"  {table}" for table in self.tables),
            *_about_tags(self.tags, self.usable),
            _about_copies(self.copies),
            *_about_classes(self.classes, self.notes),
        ]


def kinds_in_words(kinds: Mapping[str, int]) -> str:
    """Numbers of images by their extension, the most frequent first."""
    return ", ".join(f"{count:,} {suffix}" for suffix, count in Counter(kinds).most_common())


def survey(folder: Path, listing: Listing | None = None, *, tags: Sequence[str] = (), labels: str = "") -> FolderSurvey:
    """Look at every image of a folder and its sub-folders: header, keywords, files beside it, and its pixels once.

    The folder is not listed again where its ``listing`` is given. ``tags`` are tables beside the folder's own,
    ``labels`` is a table of classes.

    Raises:
        ValueError: if it is not a folder, holds no images, or a table cannot be read.
    """
    listing = listing or listed(folder)
    source = open_folder(folder, tags=tags[0] if tags else "", labels=labels, listing=listing)
    root, table = source.root, own_table(source.root)
    tagged = [read_tags(given, root, source.path) for given in _tables(tags, table)]
    names = {path: folder_names(path, "last") for path in listing.images}
    are_tags = not table and len(set(names.values())) > 1
    samples: list[Sample | LeftOut] = []
    size = 0
    for path in progress(listing.images, "Reading images", total=len(listing.images), unit="images"):
        said = [each.tags[path] for each in tagged if path in each.tags]
        written = tuple(chain.from_iterable(said)) if said else None
        sample = read_file(root, row_of(path, tags=written, folders=names[path] if are_tags else ()), {})
        if isinstance(sample, Sample):
            size += (root / sample.name).stat().st_size
            sample = replace(sample, data=b"")  # those of thousands would not fit into memory
        samples.append(sample)
    usable = [sample for sample in samples if isinstance(sample, Sample)]
    sides = sorted(min(sample.header.width, sample.header.height) for sample in usable) or [0]
    pixels = {sample.name: sample.header.width * sample.header.height for sample in usable}
    copies, damaged = _copies_and_damaged(source, pixels)
    return FolderSurvey(
        folder=str(folder),
        images=len(listing.images),
        kinds=Counter(Path(path).suffix.lower() for path in listing.images),
        short_side=(sides[0], round(statistics.median(sides)), sides[-1]),
        bytes=size,
        left_out=Counter([*(each.reason for each in samples if isinstance(each, LeftOut)), *damaged.values()]),
        skipped=listing.skipped(),
        tables=tuple("; ".join(each.notes) for each in tagged),
        tags=_tags([sample for sample in usable if sample.name not in damaged]),
        copies=copies,
        classes=Counter(label for label in source.label if label),
        notes=source.notes,
    )


def _tables(given: Sequence[str], table: str) -> list[TableFile]:
    """The given tables, and a folder's own one that is not among them."""
    tables = [table_file(each) for each in given]
    if table and Path(table) not in {each.file.resolve() for each in tables}:
        tables.append(TableFile(Path(table)))
    return tables


def _tags(samples: Sequence[Sample]) -> TagSurvey:
    counts = Counter(tag for sample in samples for tag in dict.fromkeys(sample.said.tags or ()))
    table = pa.table({"tag": list(counts), "count": pa.array(counts.values(), pa.int64())})
    space = build_label_space(table, EVERY_LABEL)
    labels: list[dict[str, Any]] = space.table.select(["name", "synset", "count"]).to_pylist()
    return TagSurvey(
        images=sum(bool(sample.said.tags) for sample in samples),
        origins=Counter(origin for sample in samples for origin in sample.origins),
        newer_sidecars=sum("newer_sidecar" in sample.flags for sample in samples),
        predicted=sum("predicted_tags" in sample.flags for sample in samples),
        tags=len(counts),
        labels=len(labels),
        of_wordnet=sum(label["synset"] is not None for label in labels),
        dropped=space.audit["label"].null_count,
        most=tuple((label["name"], label["count"]) for label in labels[:SHOWN]),
        counts=tuple(label["count"] for label in labels),
    )


def _copies_and_damaged(source: Source, pixels: Mapping[str, int]) -> tuple[Copies, dict[str, str]]:
    """Copies as ``prepare --dedupe`` finds them, keeping the best image of each group; and the images without pixels.

    The latter have a header that can be read, as a file that was cut off does; with the reason.
    """
    first_of = {family: row for row, family in reversed(list(enumerate(source.family))) if source.path[row] in pixels}
    rows = sorted(first_of.values(), key=lambda row: (-pixels[source.path[row]], row))
    prints = perceptual_hashes(source, rows)
    paths = [source.path[row] for row in rows]
    damaged = _damaged(source, [paths[n] for n in np.flatnonzero(prints.flat.all(axis=1))])
    near = list(near_copies(prints, lambda some: read_views([partial(source.files.read, paths[n]) for n in some])))
    folders = np.array([path.rpartition("/")[0] for path in paths], dtype=object)
    beside = sum(folders[copy.row] == folders[copy.kept] for copy in near)
    usable = sum(path in pixels and path not in damaged for path in source.path)
    kept = sum(path not in damaged for path in paths)
    return Copies(exact=usable - kept, near=len(near), same_folder=beside), damaged


def _damaged(source: Source, flat: Sequence[str]) -> dict[str, str]:
    """Images without a hash that cannot be decoded, with their exact copies; the others show nothing."""
    reasons: dict[str, str] = {}
    for path in flat:
        try:
            preview(source.files.read(path))
        except (BadImage, OSError) as error:
            reasons[path] = str(error)
    family = dict(zip(source.path, source.family, strict=True))
    by_family = {family[path]: reason for path, reason in reasons.items()}
    return {path: by_family[family[path]] for path in source.path if family[path] in by_family} if by_family else {}


def _about_tags(tags: TagSurvey, usable: int) -> list[str]:
    if not tags.images:
        return ["  no image has a tag: MAE alone can be trained, or give a table (--tags FILE)"]
    origins = origins_in_words(tags.origins)
    most = ", ".join(f"{name} {count:,}" for name, count in tags.most)
    lines = [
        f"  {tags.images:,} of {usable:,} images have tags, from {origins}",
        f"  {tags.tags:,} different tags are {tags.labels:,} labels, {tags.of_wordnet:,} of them English words of "
        f"WordNet and {tags.labels - tags.of_wordnet:,} words of other languages, names or misspellings; "
        f"{tags.dropped:,} dropped",
        f"  most frequent: {most}",
    ]
    if tags.newer_sidecars:
        lines.append(f"  {tags.newer_sidecars:,} XMP files are newer than their image and replace the keywords inside")
    if tags.predicted:
        lines.append(f"  {tags.predicted:,} images have tags written by predict --write, which are not learned from")
    if 2 * tags.origins.get("folder", 0) > tags.images:
        lines.append("  most tags say in which folder an image lies (prepare --folders none leaves them out)")
    return lines


def _about_copies(copies: Copies) -> str:
    if not copies.exact + copies.near:
        return "  no copies"
    across = copies.near - copies.same_folder
    return (
        f"  {copies.exact:,} exact copies, {copies.near:,} near ones ({copies.same_folder:,} beside the image "
        f"that is kept, {across:,} in other folders)"
    )


def _about_classes(classes: Mapping[str, int], notes: Sequence[str]) -> list[str]:
    if not classes:
        return ["  no classes to transfer to: folders name none, and there is no table of them (--labels FILE)"]
    sizes = sorted(classes.values())
    counts = f"{sizes[0]:,} to {sizes[-1]:,} images each"
    named = ", ".join(sorted(classes)[:SHOWN])
    return [f"  {len(classes):,} classes with {counts}, such as {named}", *(f"  {note}" for note in notes)]
