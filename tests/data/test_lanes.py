"""The order of samples in shards: an oracle by the definition, lanes that stay level, golden values."""

from __future__ import annotations

import math
import pickle
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest

from underpaint import keyed_random
from underpaint.data.order import permutation, permute
from underpaint.data.shards.index import REPEAT_UNIT, fixed_repeats
from underpaint.data.shards.lanes import LaneOrder, Lanes, Place

KEY = keyed_random.key(0, "shards")

GOLDEN = {  # epoch, shard and reach at the positions 0, 1, 2, 3, 63, 64, 12345 and 10^12: kept for ever
    "five shards": [
        (0, 0, 61201033),
        (0, 3, 27646606),
        (0, 0, 27646601),
        (0, 0, 44423817),
        (1, 4, 80722831),
        (2, 4, 84911764),
        (385, 2, 110205228),
    ],
    "300,000 shards": [
        (0, 164742, 36635519573),
        (0, 210682, 81279703694),
        (0, 210682, 113676507790),
        (0, 210682, 13868849806),
        (0, 210682, 10496629390),
        (0, 210682, 9590659726),
        (0, 164742, 37356939861),
        (333, 220241, 18969768244),
    ],
}
POSITIONS = (0, 1, 2, 3, 63, 64, 12_345, 10**12)


def shards_of(seed: int, count: int = 6) -> list[np.ndarray]:
    """Repeat factors of the images of some shards, in 1 / REPEAT_UNIT; one shard is empty."""
    rng = np.random.default_rng(seed)
    sizes = [int(rng.integers(1, 16)) for _ in range(count)]
    sizes[3] = 0
    choices = (1.0, 2.0, 1.25, 0.3, 3.7, 1 + float(rng.random()))
    return [fixed_repeats(rng.choice(choices, size).astype(np.float32)) for size in sizes]


def order_of(shards: list[np.ndarray], *, count: int = 4, window: int = 16, batch_size: int = 16) -> LaneOrder:
    sums = np.array([int(shard.sum()) for shard in shards], dtype=np.int64)
    return LaneOrder(sums, key=KEY, lanes=Lanes(count=count, window=window), batch_size=batch_size)


def row_of(shards: list[np.ndarray], place: Place) -> int:
    return int(np.searchsorted(shards[place.shard].cumsum(), place.reach))


@pytest.mark.parametrize("n", [1, 2, 3, 16, 17, 100, 4097])
def test_a_permutation_at_once_is_that_of_one_by_one(n: int) -> None:
    assert permutation(keyed_random.key("x", n), n).tolist() == [
        permute(keyed_random.key("x", n), n, index) for index in range(n)
    ]


@pytest.mark.parametrize(("count", "window", "batch_size"), [(1, 7, 8), (4, 16, 16), (8, 5, 16), (8, 10_000, 64)])
def test_each_image_stands_floor_or_ceil_times_in_an_epoch_with_the_right_mean(
    count: int, window: int, batch_size: int
) -> None:
    shards = shards_of(1)
    order = order_of(shards, count=count, window=window, batch_size=batch_size)
    epochs: list[Counter[tuple[int, int]]] = [Counter() for _ in range(20)]
    total = 0
    while not epochs[-1]:
        place = order.at(total)
        epochs[place.epoch][place.shard, row_of(shards, place)] += 1
        total += 1
    whole = epochs[:-2]  # lanes pass to the next epoch within a batch of each other
    for number, epoch in enumerate(whole):
        assert epoch.total() == order.samples_of(number)
        for shard, factors in enumerate(shards):
            for row, fixed in enumerate(factors.tolist()):
                factor = Fraction(fixed, REPEAT_UNIT)
                assert math.floor(factor) <= epoch[shard, row] <= math.ceil(factor)
    for shard, factors in enumerate(shards):
        for row, fixed in enumerate(factors.tolist()):
            part = fixed / REPEAT_UNIT % 1
            mean = sum(epoch[shard, row] for epoch in whole) / len(whole)
            assert abs(mean - fixed / REPEAT_UNIT) <= 5 * math.sqrt(part * (1 - part) / len(whole)), (shard, row)


def test_an_epoch_is_the_systematic_sample_by_its_definition() -> None:
    """Image i has floor(C_i + u) - floor(C_{i-1} + u) slots on the line of an epoch's shards, C the running sum."""
    shards = shards_of(2)
    order = order_of(shards, count=1, window=10_000)
    for number in range(3):
        order.in_lane(0, sum(order.samples_of(before) for before in range(number)))
        shift = Fraction(order._shift(number), REPEAT_UNIT)
        expected: Counter[tuple[int, int]] = Counter()
        running = Fraction(0)
        for shard in order._laid_out(number).shards.tolist():
            for row, fixed in enumerate(shards[shard].tolist()):
                after = running + Fraction(fixed, REPEAT_UNIT)
                expected[shard, row] += math.floor(after + shift) - math.floor(running + shift)
                running = after
        start = sum(order.samples_of(before) for before in range(number))
        places = [order.in_lane(0, start + index) for index in range(order.samples_of(number))]
        assert {place.epoch for place in places} == {number}
        assert Counter((place.shard, row_of(shards, place)) for place in places) == +expected


def test_lanes_stay_level_and_their_parts_follow_one_another() -> None:
    shards = shards_of(3)
    order = order_of(shards, count=8, batch_size=8, window=3)
    found = [[order.in_lane(lane, position).epoch for position in range(100)] for lane in range(8)]
    for epoch in range(5):
        lengths = [own.count(epoch) for own in found]
        assert sum(lengths) == order.samples_of(epoch)
        assert max(lengths) - min(lengths) <= 1


def test_a_lane_reads_few_shards_at_a_time_and_each_once_in_an_epoch() -> None:
    shards = [np.full(25, REPEAT_UNIT, dtype=np.int64) for _ in range(64)]
    order = order_of(shards, count=4, batch_size=4, window=50)
    everyone: list[set[int]] = []
    for lane in range(4):
        visited = [order.in_lane(lane, position).shard for position in range(400)]
        everyone.append(set(visited))
        for start in range(0, 400, 50):
            assert len(set(visited[start : start + 50])) <= 3
        first, last = {}, {}
        for position, shard in enumerate(visited):
            first.setdefault(shard, position)
            last[shard] = position
        assert all(last[shard] - first[shard] < 100 for shard in first), "a shard is done with after two windows"
    assert sum(map(len, everyone)) <= 64 + 3, "lanes share at most the shard at their border"
    assert set.union(*everyone) == set(range(64))


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    shards = [np.full(20, REPEAT_UNIT, dtype=np.int64) for _ in range(10)]
    order = order_of(shards)
    epochs = [[order.at(200 * epoch + index)[1:] for index in range(200)] for epoch in range(2)]
    assert epochs[0] != epochs[1]
    other = LaneOrder(order.sums, key=KEY + 1, lanes=order.lanes, batch_size=16)
    assert [other.at(index)[1:] for index in range(200)] != epochs[0]


def test_the_order_goes_to_other_processes_whole() -> None:
    order = order_of(shards_of(4))
    places = [order.at(position) for position in range(500)]
    copy = pickle.loads(pickle.dumps(order))
    assert [copy.at(position) for position in reversed(range(500))] == places[::-1]


@pytest.mark.parametrize("name", GOLDEN)
def test_the_order_stays_as_it_was_promised(name: str) -> None:
    sums = np.array([7, 1, 12, 3, 9], dtype=np.int64) * REPEAT_UNIT + 5
    lanes, batch_size = Lanes(count=4, window=8), 64
    if name == "300,000 shards":
        sums = (np.arange(300_000, dtype=np.int64) % 977 + 9_500) * REPEAT_UNIT + 12_345
        lanes, batch_size = Lanes(count=32), 4096
    order = LaneOrder(sums, key=KEY, lanes=lanes, batch_size=batch_size)
    positions = POSITIONS if len(sums) > 5 else POSITIONS[:-1]
    assert [tuple(order.at(position)) for position in positions] == GOLDEN[name]


def test_what_does_not_divide_is_named() -> None:
    with pytest.raises(ValueError, match=r"data.lanes.count=4 must divide the batch size 18"):
        order_of(shards_of(1), batch_size=18)
    with pytest.raises(ValueError, match=r"lanes.count=0"):
        Lanes(count=0)
    with pytest.raises(ValueError, match=r"lanes.window=0"):
        Lanes(window=0)
