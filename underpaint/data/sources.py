"""Where images come from: a collection of the catalog, or a folder of one's own."""

from __future__ import annotations

import os
from pathlib import Path

from underpaint.data import catalog, folders
from underpaint.data.records import SPLITS, Problem, Source, Split

__all__ = ["SPLITS", "Problem", "Source", "Split", "open_source"]


def open_source(source: str, *, tags: str = "", labels: str = "") -> Source:
    """Open a collection by its name, or a folder, whose name contains a ``/`` or starts with a ``.``.

    ``tags`` is a CSV or Parquet file with the columns ``path`` and ``tags``; "" takes ``tags.csv`` or
    ``tags.parquet`` of the folder where there is one. ``labels`` is a CSV file with the columns ``path`` and
    ``class``, the transfer task; "" takes class folders where the images lie in such. Raises ValueError for what the
    user can mend; single images that are no good are ``problems`` of the source instead.
    """
    if "/" in source or os.sep in source or source.startswith("."):
        return folders.open_folder(Path(source).expanduser(), tags=tags, labels=labels)
    if tags or labels:
        raise ValueError(
            f"the collection '{source}' brings its own tags and labels: leave out tags={tags!r} and labels={labels!r}, "
            f"or name a folder, with a '/' in it"
        )
    return catalog.open_collection(source)
