"""The order of samples in shards, by lanes, windows and systematic repeats: a pure function of the position.

An epoch is one line: the shards in an order that is new in each epoch, and in each shard its rows, every row as long as
its repeat factor. Moved by a draw of the epoch, the whole numbers on this line are its slots: a row has floor or ceil
of its factor of them, in the mean its factor, and the sums of the shards are enough to find the shard of a slot. The
line is cut into equal parts, the lanes, and each lane is shuffled inside windows. A batch takes the same number from
each lane, in the order of the lanes, so that a rank which serves some lanes reads few shards at a time, and each once.

Lanes are equally long over the epochs, to within one slot, by Hermite's identity: the lengths floor((x + l) / L) of
the lanes l add up to x. So an epoch ends in all lanes at once, whatever its length.

Nothing here is floating point: factors and sums are whole multiples of 1 / index.REPEAT_UNIT.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from underpaint import keyed_random
from underpaint.data.order import permutation, permute
from underpaint.data.shards.index import REPEAT_UNIT

_UNIT_BITS = REPEAT_UNIT.bit_length() - 1


@dataclass(frozen=True, kw_only=True)
class Lanes:
    """Options for cutting and shuffling the shards of an epoch; part of the identity of a run."""

    count: int = 8
    """Number of lanes, which divides the batch size; the number of processes divides it."""
    window: int = 16_384
    """Approximate number of samples of a lane that are shuffled among each other."""

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"data.lanes.count={self.count} must be 1 or more")
        if self.window < 1:
            raise ValueError(f"data.lanes.window={self.window} must be 1 or more samples")


class Place(NamedTuple):
    """The sample at a position of a stream, as an epoch, a shard and a place in it."""

    epoch: int
    shard: int
    reach: int
    """A running sum of factors in 1 / REPEAT_UNIT, from 1; the row is the first of the shard whose sum reaches it."""


class _Epoch(NamedTuple):
    shift: int
    shards: np.ndarray
    """Numbers of the shards in this epoch's order."""
    running: np.ndarray
    """Sum of the factors up to and including each shard."""
    first: tuple[int, ...]
    """Slot at which each lane begins, and the number of slots."""


class LaneOrder:
    """The endless order over shards; ``sums`` are their repeat factors' sums in 1 / REPEAT_UNIT, 0 for empty ones."""

    def __init__(self, sums: np.ndarray, *, key: int, lanes: Lanes, batch_size: int) -> None:
        if batch_size % lanes.count:
            raise ValueError(f"data.lanes.count={lanes.count} must divide the batch size {batch_size}")
        self.shards = np.flatnonzero(sums)
        self.sums = sums[self.shards]
        self.total = int(self.sums.sum())
        assert self.total >= REPEAT_UNIT, "an epoch needs a sample"
        self.lanes, self.of_lane = lanes, batch_size // lanes.count
        self._shard_key, self._shift_key = keyed_random.mix(key, 1), keyed_random.mix(key, 2)
        self._window_key = keyed_random.mix(key, 3)
        self._starts = [0]
        """Number of slots before each epoch, for the epochs computed so far."""
        self._epoch = lru_cache(maxsize=2)(self._laid_out)  # lanes pass from one to the next within a batch

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "_epoch"}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._epoch = lru_cache(maxsize=2)(self._laid_out)

    def at(self, position: int) -> Place:
        """The sample at a position of the stream of batches."""
        batch, place = divmod(position, self.of_lane * self.lanes.count)
        lane, within = divmod(place, self.of_lane)
        return self.in_lane(lane, batch * self.of_lane + within)

    def in_lane(self, lane: int, position: int) -> Place:
        """The sample at a position of one lane."""
        number = self._epoch_at((position + 1) * self.lanes.count - lane - 1)
        epoch = self._epoch(number)
        slot = self._shuffled(number, lane, position - self._before(number, lane), epoch)
        reach = ((slot + 1) << _UNIT_BITS) - epoch.shift
        index = int(epoch.running.searchsorted(reach))
        before = int(epoch.running[index - 1]) if index else 0
        return Place(number, int(epoch.shards[index]), reach - before)

    def samples_of(self, epoch: int) -> int:
        """The length of an epoch: the sum of all factors, rounded down or up."""
        return (self.total + self._shift(epoch)) >> _UNIT_BITS

    def _shuffled(self, number: int, lane: int, index: int, epoch: _Epoch) -> int:
        """The slot in an epoch for an index into a lane, shuffled within its window."""
        start, length = epoch.first[lane], epoch.first[lane + 1] - epoch.first[lane]
        windows = max(1, round(length / self.lanes.window))
        window = ((index + 1) * windows - 1) // length
        low, high = window * length // windows, (window + 1) * length // windows
        key = keyed_random.mix(keyed_random.mix(keyed_random.mix(self._window_key, number), lane), window)
        return start + low + permute(key, high - low, index - low)

    def _epoch_at(self, slot: int) -> int:
        """The epoch of a slot that is counted through all epochs."""
        while self._starts[-1] <= slot:
            self._starts.append(self._starts[-1] + self.samples_of(len(self._starts) - 1))
        return bisect_right(self._starts, slot) - 1

    def _before(self, number: int, lane: int) -> int:
        """The number of samples of a lane before an epoch."""
        return (self._starts[number] + lane) // self.lanes.count

    def _shift(self, epoch: int) -> int:
        return keyed_random.mix(self._shift_key, epoch) >> (64 - _UNIT_BITS)

    def _laid_out(self, number: int) -> _Epoch:
        order = permutation(keyed_random.mix(self._shard_key, number), len(self.shards))
        count = self.lanes.count
        first = [0]
        for lane in range(count):
            after = (self._starts[number + 1] + lane) // count
            first.append(first[-1] + after - self._before(number, lane))
        return _Epoch(self._shift(number), self.shards[order], self.sums[order].cumsum(), tuple(first))
