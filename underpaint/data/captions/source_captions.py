"""Captions of all images of a source, whatever it is: a folder, a collection or a prepared set."""

from __future__ import annotations

from pathlib import Path

from underpaint.data.captions.folder_captions import read_folder_captions
from underpaint.data.captions.wording import captions_of
from underpaint.data.open_source import is_folder_name
from underpaint.data.shards.prepared_set import PreparedSet
from underpaint.data.shards.prepared_source import is_prepared_name
from underpaint.data.source import Caption, Problem, Source


def source_captions(
    source: Source, name: str, *, table: str = ""
) -> tuple[list[tuple[Caption, ...]], tuple[Problem, ...]]:
    """The captions of each row, and those that cannot be used; ``name`` is what the source was opened by.

    ``table`` is a file with the columns path and caption for a folder; "" takes the usual one.

    Raises:
        ValueError: if a table is given for another source, or it cannot be read.
    """
    if is_prepared_name(name) or not is_folder_name(name):
        if table:
            raise ValueError(f"{name} brings its captions: leave out captions={table}")
        return (_of_set(name) if is_prepared_name(name) else list(source.captions or [()] * len(source.path))), ()
    written = read_folder_captions(source.root, source.path, table=table)
    return [written.captions.get(path, ()) for path in source.path], written.problems


def _of_set(name: str) -> list[tuple[Caption, ...]]:
    prepared = PreparedSet(Path(name).expanduser())
    rows: list[tuple[Caption, ...]] = []
    for shard in range(len(prepared)):
        for text, language in prepared.captions(shard):
            try:
                rows.append(captions_of(text, language))
            except ValueError:  # cut when the set was prepared
                rows.append(())
    return rows
