"""What stands at each position of an endless stream, and where its bytes are: images of a folder or a collection."""

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
"""Seconds between the tries to read a file of the training stream: storage over a network is away now and then, and a
sample that is left out for it makes another run of this one."""


class Item(NamedTuple):
    """One image of a stream."""

    image: Hashable
    """Equal for equal images: what was decoded of it is kept under this."""
    key: str
    """What it is called among the bad records."""
    labels: tuple[int, ...]
    flip: bool


@runtime_checkable
class SampleIndex(Protocol):
    """The images of a stream; satisfied here by those of a ``Source``, and by those of shards (``shard_items.py``).

    It goes to worker processes, so it can be pickled.
    """

    name: str
    images: int
    """That stand in an epoch."""
    longest_target: int
    """Labels of one image, at most."""
    parts: int
    """A batch is so many equal parts, and each is read by one process: the number of processes divides it."""
    problems: tuple[Problem, ...]
    """Bad records that are known beforehand."""

    def at(self, position: int) -> Item: ...

    def read(self, item: Item) -> bytes:
        """Raises BadImage for a bad record, OSError where reading cannot go on."""
        ...


class SourceSampleIndex:
    """The rows of a source in an order of each epoch, as often as ``factors`` say where there are any.

    ``targets`` holds the label ids of each row, or is empty where the objective needs none (MAE). Rows whose target is
    empty have nothing to teach such an objective: they are left out of the order and stand in ``unlabelled``.
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

    def read(self, item: Item) -> bytes:
        """The bytes of a file; one that cannot be read is tried again after each wait of PATIENCE, once in all."""
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
