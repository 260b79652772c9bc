"""The image at each position of an endless stream over a folder or a collection, and access to its bytes."""

from __future__ import annotations

import time
from collections.abc import Hashable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from underpaint import keyed_random
from underpaint.data.decode.limits import BadImage
from underpaint.data.order import sample_at
from underpaint.data.repeats import Repeats
from underpaint.data.source import Problem, Source

PATIENCE = (0.1, 0.4, 1.6, 6.4)
"""Seconds between attempts to read a training file: network storage fails now and then, and leaving a sample out would
change the run."""


class Item(NamedTuple):
    """An image at a position of a stream, with its target."""

    image: Hashable
    """Identity of the image, under which its decoded pixels are cached."""
    key: str
    """Name of the image in the list of bad records."""
    labels: tuple[int, ...]
    flip: bool


@runtime_checkable
class SampleIndex(Protocol):
    """The images of a stream, implemented for a ``Source`` here and for shards in ``shards/shard_samples.py``.

    An index is sent to worker processes, so it can be pickled.
    """

    name: str
    images: int
    """Number of images that the stream draws from."""
    longest_target: int
    """Largest number of labels of one image."""
    parts: int
    """Number of equal parts of a batch, each read by one process; the number of processes divides it."""
    problems: tuple[Problem, ...]
    """Bad records that are known before training."""

    def at(self, position: int) -> Item: ...

    def read(self, item: Item) -> bytes:
        """The bytes of an image; raises BadImage for a bad record, OSError where reading cannot go on."""
        ...


class SourceSampleIndex:
    """The rows of a source, shuffled in each epoch and repeated by ``factors`` where they are given.

    ``targets`` holds the label ids of each row, or is empty where the objective needs none (MAE). A row with an empty
    target is left out of the order and listed in ``unlabelled``.
    """

    def __init__(
        self,
        source: Source,
        rows: Sequence[int],
        *,
        targets: Sequence[tuple[int, ...]],
        batch_size: int,
        seed: int,
        factors: Sequence[float] = (),
    ) -> None:
        assert not targets or len(targets) == len(rows), (len(targets), len(rows))
        assert not factors or len(factors) == len(rows), (len(factors), len(rows))
        kept = [index for index in range(len(rows)) if not targets or targets[index]]
        self.name, self.problems, self.parts = source.name, source.problems, batch_size
        self.rows = tuple(rows[index] for index in kept)
        self.unlabelled = tuple(rows[index] for index in range(len(rows)) if targets and not targets[index])
        self.images = len(self.rows)
        self.files = source.files
        self.path = tuple(source.path[row] for row in self.rows)
        self.flip = tuple(source.flip[row] for row in self.rows)
        self.targets = tuple(targets[index] for index in kept) if targets else ()
        self.longest_target = max(map(len, self.targets), default=0)
        self.order_key = keyed_random.key(seed, "order")
        self.given_up: set[str] = set()
        self.repeats = Repeats([factors[index] for index in kept]) if factors and kept else None

    def at(self, position: int) -> Item:
        index = self._index_at(position)
        return Item(index, self.path[index], self.targets[index] if self.targets else (), self.flip[index])

    def row_at(self, position: int) -> int:
        """The row of the source at a position."""
        return self.rows[self._index_at(position)]

    def read(self, item: Item) -> bytes:
        """The bytes of a file; reading is tried again after each wait of PATIENCE, but for a file given up before."""
        waits = iter(() if item.key in self.given_up else PATIENCE)
        while True:
            try:
                return self.files.read(item.key)
            except OSError as problem:
                wait = next(waits, None)
                if wait is None:
                    self.given_up.add(item.key)
                    raise BadImage(f"cannot be read: {problem.strerror}") from problem
                time.sleep(wait)

    def _index_at(self, position: int) -> int:
        if self.repeats is not None:
            return self.repeats.row_at(self.order_key, position)
        return sample_at(self.order_key, len(self.path), position)
