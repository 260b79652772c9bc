"""The first lines of ``underpaint prepare`` about a folder: what is in it, and where tags come from in some images."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from underpaint.data.folders.listing import Listing
from underpaint.messages import counted
from underpaint.preparation.folder_survey import kinds_in_words
from underpaint.preparation.inputs import PreparedFrom
from underpaint.preparation.plan import FolderTags, folder_names
from underpaint.preparation.samples import LeftOut, Sample, origins_in_words, read_file, row_of

LOOKED_AT = 50
"""Most images whose tags are looked at before all are read."""


def first_lines(source: PreparedFrom, listing: Listing, *, folder_tags: FolderTags, has_table: bool) -> list[str]:
    """Lines about a folder, in which some images from all over it are read, and no table."""
    images = listing.images
    kinds = Counter(Path(path).suffix.lower() for path in images)
    lines = [f"  {source.name}: {counted(len(images), 'image')} ({kinds_in_words(kinds)})"]
    if skipped := listing.skipped():
        lines.append(f"  {skipped}")
    some = images[:: -(-len(images) // LOOKED_AT)] if images else ()
    names = {path: folder_names(path, folder_tags) for path in images}
    are_tags = not source.table and len(set(names.values())) > 1
    rows = [row_of(path, folders=names[path] if are_tags else ()) for path in some]
    read = [read_file(source.root, row, {}) for row in rows]
    samples = [each for each in read if isinstance(each, Sample)]
    tagged = sum(bool(sample.said.tags) for sample in samples)
    looked = f"of {counted(len(some), 'image')} looked at, {tagged:,} have tags"
    origins = Counter(origin for sample in samples for origin in sample.origins)
    lines.append(f"  {looked}, from {origins_in_words(origins)}" if tagged else f"  {looked}")
    if has_table:
        lines[-1] += " beside a table's"
    reasons = Counter(each.reason for each in read if isinstance(each, LeftOut))
    return lines + [f"  {count:,} of them cannot be used: {reason}" for reason, count in reasons.most_common(3)]
