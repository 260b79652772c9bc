"""The image at each position of a stream over the shards of a prepared set."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from underpaint import keyed_random
from underpaint.data.sample_index import Item
from underpaint.data.shards.index import REPEAT_UNIT
from underpaint.data.shards.lanes import LaneOrder, Lanes
from underpaint.data.shards.prepared_set import PreparedSet, Rows
from underpaint.data.shards.shard_files import Shards
from underpaint.data.shares import in_share
from underpaint.data.source import Problem, Split, Targets

WARM_ROWS = 200_000
"""Smallest number of rows cached, with about 100 bytes each; more are where the open windows of all lanes need them."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The selection of a prepared set's images that a run draws, and their numbers of appearances in an epoch."""

    split: Split
    targets: Targets
    """Kind of target: ``tags`` and ``class`` select the images that have one, ``none`` selects all."""
    resampled: bool
    """Whether images are repeated by their repeat factors; otherwise each appears once in an epoch."""
    share: float = 1.0
    """Share of the images drawn by content hash, so that copies stay together and smaller shares lie within larger."""
    share_seed: int = 0
    """Another seed draws another share."""
    labels_per_image: int = 0
    """Number of labels that an image keeps, its rarest, whose ids are the largest; 0 keeps all."""
    left_out: frozenset[tuple[int, int]] = frozenset()
    """Shard and row of images that are not drawn, as near duplicates of test images."""

    def chosen(self, rows: Rows, shard: int) -> np.ndarray:
        """The selected rows of a shard, ascending."""
        chosen = rows.is_in(self.split) & rows.has_target(self.targets)
        if self.left_out:
            chosen &= np.array([(shard, row) not in self.left_out for row in range(len(rows))], dtype=bool)
        places = np.flatnonzero(chosen)
        if self.share < 1:
            hashes = [row.tobytes().hex() for row in rows.content_hash[places]]
            places = places[[in_share(name, self.share, seed=self.share_seed) for name in hashes]]
        return places

    def sums(self, prepared: PreparedSet) -> tuple[int, np.ndarray]:
        """The number of images, and the sum of the factors of each shard in 1 / index.REPEAT_UNIT.

        All rows are read for a share, for classes, or where some images are left out, since the index has no such sums.
        """
        if self.share == 1 and not self.left_out and self.targets != "class":
            labelled = self.targets == "tags"
            images = prepared.images_in(self.split, labelled=labelled)
            sums = prepared.repeats_in(self.split, labelled=labelled) if self.resampled else images * REPEAT_UNIT
            return int(images.sum()), sums
        count, sums = 0, np.zeros(len(prepared), dtype=np.int64)
        for shard, rows in enumerate(prepared.scan()):
            chosen = self.chosen(rows, shard)
            count += len(chosen)
            sums[shard] = self.factors(rows, chosen).sum()
        return count, sums

    def target(self, rows: Rows, row: int) -> tuple[int, ...]:
        """The ids that are the target of an image: its labels, its class, or none."""
        if self.targets == "class":
            return (int(rows.classes[row]),)
        if self.targets == "none":
            return ()
        labels = rows.labels_of(row)
        return tuple(sorted(labels)[-self.labels_per_image :]) if self.labels_per_image else labels

    def longest_target(self, prepared: PreparedSet) -> int:
        """The largest number of ids in the target of one image."""
        most = {"none": 0, "class": 1}.get(self.targets, prepared.most_labels(self.split))
        return min(most, self.labels_per_image or most)

    def factors(self, rows: Rows, chosen: np.ndarray) -> np.ndarray:
        """The repeat factors of the chosen rows, in 1 / index.REPEAT_UNIT."""
        return rows.repeats[chosen] if self.resampled else np.full(len(chosen), REPEAT_UNIT, dtype=np.int64)


class _Drawn(NamedTuple):
    rows: Rows
    chosen: np.ndarray
    running: np.ndarray
    """Sum of the factors up to and including each chosen row."""


class _Member(NamedTuple):
    """The place of an image in the set, which identifies it."""

    shard: int
    row: int


class ShardSampleIndex:
    """The selected images of a prepared set in the order of ``data/shards/lanes.py``; satisfies ``SampleIndex``.

    ``batch_size`` counts images, so that several views of one image count once.
    """

    problems: tuple[Problem, ...] = ()

    def __init__(
        self,
        prepared: PreparedSet,
        shards: Shards,
        selection: Selection,
        *,
        lanes: Lanes,
        batch_size: int,
        seed: int,
    ) -> None:
        self.prepared, self.shards, self.selection = prepared, shards, selection
        self.name, self.parts = prepared.name, lanes.count
        self.images, sums = selection.sums(prepared)
        self.longest_target = selection.longest_target(prepared)
        self.order = LaneOrder(sums, key=keyed_random.key(seed, "shards"), lanes=lanes, batch_size=batch_size)
        self._drawn: OrderedDict[int, _Drawn] = OrderedDict()
        most = int((sums // REPEAT_UNIT).max()) + 1
        self._warm_rows = max(WARM_ROWS, lanes.count * (lanes.window + 2 * most))
        self._count = 0

    def at(self, position: int) -> Item:
        place = self.order.at(position)
        drawn = self._shard(place.shard)
        row = int(drawn.chosen[drawn.running.searchsorted(place.reach)])
        rows = drawn.rows
        key, target = f"{rows.shard}/{rows.key(row)}", self.selection.target(rows, row)
        return Item(_Member(place.shard, row), key, target, bool(rows.flip[row]))

    def read(self, item: Item) -> bytes:
        assert isinstance(item.image, _Member)
        return read_member(self.shards, (self._shard(item.image.shard).rows, item.image.row))

    def _shard(self, shard: int) -> _Drawn:
        """The selected rows of a shard, cached at least for the open windows of all lanes."""
        if shard in self._drawn:
            self._drawn.move_to_end(shard)
            return self._drawn[shard]
        rows = self.prepared.rows(shard)
        chosen = self.selection.chosen(rows, shard)
        drawn = _Drawn(rows, chosen, self.selection.factors(rows, chosen).cumsum())
        self._drawn[shard] = drawn
        self._count += len(rows)
        while self._count > self._warm_rows and len(self._drawn) > 1:
            self._count -= len(self._drawn.popitem(last=False)[1].rows)
        return drawn


def members_of(prepared: PreparedSet, selection: Selection) -> Iterator[tuple[Rows, int]]:
    """The selected images in the order of the index, each as its shard's rows and its row number."""
    for shard in np.flatnonzero(prepared.images_in(selection.split, labelled=selection.targets == "tags")).tolist():
        rows = prepared.rows(shard)
        for row in selection.chosen(rows, shard).tolist():
            yield rows, row


def read_member(shards: Shards, member: tuple[Rows, int]) -> bytes:
    """The bytes of an image; raises the exceptions of ``Shards.read``."""
    rows, row = member
    return shards.read(rows.shard, int(rows.offset[row]), int(rows.size[row]), rows.content_hash[row].tobytes())
