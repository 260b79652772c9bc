"""The labels of every image of a prepared set in memory: some eight bytes for each label of an image."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from underpaint.data.shards.index import VOCABULARY
from underpaint.data.shards.prepared_set import PreparedSet, is_prepared
from underpaint.files import reading_parquet
from underpaint.tag_doctor.spellings import folded

NOT_IN_WORDNET = " (not in WordNet)"
"""End of the name of a label that shares its name with a synset (``tags/labels.py``)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledSet:
    """Labels with their tags, and the labels of every image."""

    name: str
    content_hash: str
    names: tuple[str, ...]
    synsets: tuple[str, ...]
    """The synset of each label; "" for words that WordNet lacks."""
    tags: tuple[tuple[str, ...], ...]
    """The tags of each label as written, the most frequent first."""
    first: Int64[np.ndarray, " images_and_end"]
    """Place of each image's first label in ``labels``, and the length of ``labels``."""
    labels: np.ndarray

    @property
    def images(self) -> int:
        return len(self.first) - 1

    @cached_property
    def count(self) -> Int64[np.ndarray, " labels"]:
        """Number of images with each label."""
        return np.bincount(self.labels, minlength=len(self.names))

    def images_with(self, label: int) -> np.ndarray:
        """The images with a label, in their order."""
        starts, image = self._by_label
        return image[starts[label] : starts[label + 1]]

    def images_with_both(self, first: int, second: int) -> int:
        fewer, more = sorted((self.images_with(first), self.images_with(second)), key=len)
        if not len(more):
            return 0
        place = np.minimum(np.searchsorted(more, fewer), len(more) - 1)
        return int((more[place] == fewer).sum())

    def target(self, label: int) -> str:
        """The label as ``--mapping`` names it: a synset, or ``text:`` and words."""
        return self.synsets[label] or f"text:{self.names[label].removesuffix(NOT_IN_WORDNET)}"

    def shown(self, label: int) -> str:
        """The label's most frequent tag, with the label's name where that is another word: ``lighthouse (beacon)``."""
        name = self.names[label]
        tag = self.tags[label][0] if self.tags[label] else name
        return name if folded(name).startswith(folded(tag)) else f"{tag} ({name})"

    @cached_property
    def _by_label(self) -> tuple[np.ndarray, np.ndarray]:
        """Place of each label's first image, and the images sorted by label."""
        image = np.repeat(np.arange(self.images, dtype=np.int32), np.diff(self.first))
        order = np.argsort(self.labels, kind="stable")
        return np.concatenate([[0], np.cumsum(self.count)]), image[order]


def read_labelled_set(folder: Path) -> LabelledSet:
    """The labels of the prepared set in ``folder``.

    Raises:
        ValueError: if it is not a finished prepared set, or has no labels, or was written by hand without tags.
    """
    import pyarrow.parquet as pq

    if not is_prepared(folder):
        raise ValueError(f"{folder} is not a prepared set; make one with underpaint prepare SOURCE --out {folder}")
    prepared = PreparedSet(folder)
    names = prepared.vocabulary().labels
    if not names:
        raise ValueError(f"{folder} has no labels, so there are no tags to look at; prepare it with tags (--tags FILE)")
    with reading_parquet(folder / VOCABULARY):
        table = pq.read_table(folder / VOCABULARY).sort_by("label")
    if missing := {"synset", "tags"} - set(table.column_names):
        raise ValueError(f"{folder / VOCABULARY} lacks the columns {', '.join(sorted(missing))}; prepare the set again")
    lengths, labels = [np.zeros(1, dtype=np.int64)], [np.empty(0, dtype=np.int32)]
    for rows in prepared.scan():
        lengths.append(np.diff(rows.first_label))
        labels.append(rows.labels.astype(np.int32))
    return LabelledSet(
        name=prepared.name,
        content_hash=prepared.content_hash,
        names=tuple(names),
        synsets=tuple(synset or "" for synset in table["synset"].to_pylist()),
        tags=tuple(map(tuple, table["tags"].to_pylist())),
        first=np.cumsum(np.concatenate(lengths)),
        labels=np.concatenate(labels),
    )
