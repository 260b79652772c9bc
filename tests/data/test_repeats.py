"""Systematic repeats: floor or ceil of its factor per epoch, the right mean over epochs, and never a row forgotten."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest

from underpaint import keyed_random
from underpaint.data.repeats import Repeats

KEY = keyed_random.key(3, "order")
GOLDEN = [0, 2, 2, 3, 1, 3, 3, 1, 1, 3, 3, 3, 1, 2, 2, 0, 3]


def factors_of(count: int, *, seed: int = 0) -> list[float]:
    """Factors whose sum is a whole number, so that nothing is scaled."""
    rng = random.Random(seed)
    factors = [rng.choice([1.0, 1 + rng.random(), 1 + 3 * rng.random()]) for _ in range(count - 1)]
    return [*factors, math.ceil(sum(factors)) + 1 - sum(factors)]


def epoch_of(repeats: Repeats, epoch: int) -> list[int]:
    return [repeats.row_at(KEY, epoch * repeats.length + index) for index in range(repeats.length)]


@pytest.mark.parametrize("count", [1, 2, 37, 150])
def test_each_row_stands_floor_or_ceil_times_in_every_epoch(count: int) -> None:
    factors = factors_of(count)
    repeats = Repeats(factors)
    assert repeats.length == round(sum(factors))
    for epoch in range(5):
        times = Counter(epoch_of(repeats, epoch))
        assert times.keys() == set(range(count)), "every factor is at least 1, so every row appears"
        for row, factor in enumerate(factors):
            assert times[row] in {math.floor(factor + 1e-9), math.ceil(factor - 1e-9)}, (row, factor)


def test_the_mean_over_epochs_is_the_factor() -> None:
    factors = factors_of(30)
    repeats = Repeats(factors)
    epochs = 150
    total = Counter(row for epoch in range(epochs) for row in epoch_of(repeats, epoch))
    for row, factor in enumerate(factors):
        share = factor % 1
        deviation = math.sqrt(share * (1 - share) / epochs)
        assert abs(total[row] / epochs - factor) < 4.5 * deviation + 1e-9, row


def test_slots_are_the_systematic_sample() -> None:
    """Row i takes floor(C_i + u) - floor(C_{i-1} + u) slots, in order, by the definition."""
    factors = factors_of(25, seed=1)
    repeats = Repeats(factors)
    for shift in (0.0, 0.123, 0.5, 0.999):
        expected: list[int] = []
        running = 0.0
        for row, factor in enumerate(factors):
            after = running + factor
            expected += [row] * (math.floor(after + shift + 1e-9) - math.floor(running + shift + 1e-9))
            running = after
        assert [repeats.row_of(slot, shift) for slot in range(repeats.length)] == expected


def test_a_fractional_sum_is_scaled_to_a_whole_epoch() -> None:
    repeats = Repeats([1.0, 1.0, 1.3])  # 3.3 slots; rounded down, a row would be missing now and then
    assert repeats.length == 4
    for epoch in range(20):
        times = Counter(epoch_of(repeats, epoch))
        assert times.total() == 4
        assert all(times[row] in {1, 2} for row in range(3))
    assert Repeats([1.1] * 10).length == 11  # whatever floats make of the sum


def test_factors_of_one_are_a_permutation_of_every_epoch() -> None:
    repeats = Repeats([1.0] * 50)
    epochs = [epoch_of(repeats, epoch) for epoch in range(3)]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_the_order_depends_on_the_key_and_the_position_alone() -> None:
    factors = factors_of(40)
    first, second = Repeats(factors), Repeats(factors)
    forward = [first.row_at(KEY, position) for position in range(200)]
    backward = [second.row_at(KEY, position) for position in reversed(range(200))]
    assert forward == backward[::-1]
    assert forward != [first.row_at(keyed_random.key(4, "order"), position) for position in range(200)]


def test_golden_order() -> None:
    """Order is a promise: these never change."""
    repeats = Repeats([1.0, 2.5, 1.25, 3.25])
    assert [repeats.row_at(KEY, position) for position in (*range(16), 10**9)] == GOLDEN
