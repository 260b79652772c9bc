"""The order of samples: permutations, golden values, repeats."""

from __future__ import annotations

import itertools
from collections import Counter
from math import ceil, floor

import pytest

from underpaint import keyed_random
from underpaint.data.order import permute, sample_at
from underpaint.data.repeats import Repeats

KEY = keyed_random.key(0, "order")

GOLDEN = {  # rows at the positions 0, 1, 2, 3, n - 1, n, n + 1 and 12345678: kept for ever
    1: [0, 0, 0, 0, 0, 0, 0, 0],
    2: [0, 1, 0, 1, 1, 0, 1, 0],
    10: [3, 4, 1, 6, 0, 8, 1, 7],
    1000: [484, 78, 151, 316, 490, 654, 746, 436],
    2**40: [
        803122759210,
        262123916878,
        91405261011,
        277901841417,
        634505255620,
        432710714008,
        716587882792,
        618244521112,
    ],
}


@pytest.mark.parametrize("n", GOLDEN)
def test_the_order_stays_as_it_was_promised(n: int) -> None:
    positions = (0, 1, 2, 3, n - 1, n, n + 1, 12345678)
    assert [sample_at(KEY, n, position) for position in positions] == GOLDEN[n]


@pytest.mark.parametrize("n", [*range(1, 70), 127, 128, 129, 1000, 4495])
def test_every_epoch_is_a_permutation_of_its_own(n: int) -> None:
    epochs = [[sample_at(KEY, n, epoch * n + index) for index in range(n)] for epoch in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(n))
    if n > 10:
        assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


def test_billions_of_items_stay_distinct_and_inside() -> None:
    n = 3_456_789_012
    rows = [sample_at(KEY, n, position) for position in range(3000)]
    assert len(set(rows)) == len(rows)
    assert min(rows) >= 0
    assert max(rows) < n


@pytest.mark.parametrize("n", [5, 16, 17, 40])
def test_every_row_is_equally_likely_everywhere_and_behind_every_other(n: int) -> None:
    keys = 6000 // n
    place: Counter[tuple[int, int]] = Counter()
    follows: Counter[tuple[int, int]] = Counter()
    for number in range(keys):
        rows = [permute(keyed_random.mix(1, number), n, index) for index in range(n)]
        place.update(enumerate(rows))
        follows.update(itertools.pairwise(rows))
    # chi-squared per degree of freedom, which is 1 for true shuffles with a spread of sqrt(2 / degrees)
    for counts, cells, degrees in ((place, n * n, (n - 1) ** 2), (follows, n * (n - 1), n * (n - 1) - 1)):
        expected = sum(counts.values()) / cells
        spread = sum((count - expected) ** 2 for count in counts.values()) + (cells - len(counts)) * expected**2
        assert spread / expected / degrees < 1 + 6 * (2 / degrees) ** 0.5


def test_repeats_are_floor_or_ceil_of_the_factor_with_the_right_mean() -> None:
    factors = [0.3, 1.0, 2.7, 1.5, 0.5, 3.2, 0.8]
    repeats = Repeats(factors)
    scale = repeats.length / sum(factors)
    total: Counter[int] = Counter()
    epochs = 200
    for epoch in range(epochs):
        start = epoch * repeats.length
        found = Counter(repeats.row_at(KEY, start + index) for index in range(repeats.length))
        for row, factor in enumerate(factors):
            assert floor(factor * scale) <= found[row] <= ceil(factor * scale)
        total += found
    for row, factor in enumerate(factors):
        assert total[row] / epochs == pytest.approx(factor * scale, abs=0.1)


def test_repeats_place_slots_as_the_definition_says() -> None:
    repeats = Repeats([0.4, 2.1, 1.0, 0.5])
    for shift in (0.0, 0.25, 0.6, 0.999):
        expected: list[int] = []
        before = 0.0
        for row, running in enumerate(repeats.running.tolist()):
            expected += [row] * (floor(running + shift) - floor(before + shift))
            before = running
        assert [repeats.row_of(slot, shift) for slot in range(repeats.length)] == expected
