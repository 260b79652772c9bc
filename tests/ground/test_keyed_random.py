"""Random numbers by position: the promise is that they never change, so golden values stand here for ever."""

from __future__ import annotations

import math

import pytest
import torch

from underpaint import keyed_random

MASK = (1 << 64) - 1

# Written down once, with the first release; a change of any of them changes every run ever made.
GOLDEN_KEY = 5600138693012636679
GOLDEN_SEED = 5376582964150736101
GOLDEN_PARAMETER = 7986783780668098065
GOLDEN_UNIFORM = [
    [10115182, 9763688, 8127383],
    [2473352, 11471852, 7095368],
    [12988717, 11500448, 8445751],
]  # in units of 2**-24


def splitmix64(state: int) -> int:
    """One output of SplitMix64 as published (Steele, Lea, Flood 2014; the reference C code of Vigna)."""
    z = state & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def test_mix_is_splitmix64() -> None:
    # The first outputs of the reference implementation for the seed 1234567, as many ports test them.
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert [keyed_random.mix(1234567, counter) for counter in range(4)] == published
    for key, counter in ((0, 0), ((1 << 63) - 1, 10**12), (-5, 3)):
        assert keyed_random.mix(key, counter) == splitmix64(key + (counter + 1) * 0x9E3779B97F4A7C15)


def test_golden_values() -> None:
    assert keyed_random.key(0, "mae", "mask") == GOLDEN_KEY
    assert keyed_random.key(0, "wsp", "order") != GOLDEN_KEY
    assert keyed_random.sample_seed(7, 3) == GOLDEN_SEED
    assert keyed_random.parameter_generator(0, "encoder.cls_token").initial_seed() == GOLDEN_PARAMETER
    drawn = keyed_random.uniform(keyed_random.key(0, "mae", "mask"), torch.tensor([0, 1, 10**10]), 3)
    assert (drawn * (1 << 24)).to(torch.int64).tolist() == GOLDEN_UNIFORM


def test_keys_tell_their_parts_apart() -> None:
    keys = [
        keyed_random.key(*parts)
        for parts in ((1,), ("1",), (1, 1), (11,), ("a", "b"), ("ab",), ("a", "b", ""), ("b", "a"))
    ]
    assert len(set(keys)) == len(keys)
    assert all(0 <= key < 1 << 63 for key in keys)


@pytest.mark.parametrize("key", [0, 1, (1 << 63) - 1, 1 << 62])
def test_tensors_and_integers_agree(key: int) -> None:
    positions = [0, 1, 2, 255, 5_000_000_000, (1 << 40) + 7]
    drawn = keyed_random.uniform(key, torch.tensor(positions), 4)
    for row, position in enumerate(positions):
        stream = keyed_random.mix(key, position)
        expected = [(keyed_random.mix(stream, column) >> 40) / (1 << 24) for column in range(4)]
        assert drawn[row].tolist() == expected


def test_a_draw_depends_on_its_own_position_only() -> None:
    positions = torch.arange(64)
    whole = keyed_random.uniform(5, positions, 10)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(keyed_random.uniform(5, positions[order], 10), whole[order])
    assert torch.equal(torch.cat([keyed_random.uniform(5, part, 10) for part in positions.split(7)]), whole)
    torch.manual_seed(1)
    torch.rand(3)
    assert torch.equal(keyed_random.uniform(5, positions, 10), whole)
    assert torch.equal(keyed_random.uniform(5, positions, 4), whole[:, :4]), "a longer draw starts with the shorter one"


def chi_square(counts: torch.Tensor) -> float:
    expected = counts.sum() / len(counts)
    return float(((counts - expected) ** 2 / expected).sum())


@pytest.mark.parametrize("key", [0, keyed_random.key(0, "mae", "mask"), keyed_random.key(1, "mae", "mask")])
def test_draws_are_uniform(key: int) -> None:
    drawn = keyed_random.uniform(key, torch.arange(20_000), 5)
    assert float(drawn.min()) >= 0
    assert float(drawn.max()) < 1
    bins = 64
    limit = bins - 1 + 5 * math.sqrt(2 * (bins - 1))  # mean and deviation of chi-square; five deviations above
    across, along = drawn[:, 0], drawn[:4000].flatten()
    for values in (across, along):
        assert chi_square(torch.histc(values, bins, 0, 1)) < limit
    pairs = (across[:-1] * 8).long() * 8 + (across[1:] * 8).long()  # neighbouring positions know nothing of each other
    assert chi_square(torch.bincount(pairs, minlength=64).float()) < limit


def test_streams_of_different_keys_and_columns_are_uncorrelated() -> None:
    drawn = torch.cat(
        [keyed_random.uniform(keyed_random.key(seed, "x"), torch.arange(20_000), 2) for seed in (0, 1)], dim=1
    )
    correlation = torch.corrcoef(drawn.T) - torch.eye(4)
    assert float(correlation.abs().max()) < 5 / math.sqrt(20_000)


def test_parameter_generators_differ_by_name_and_seed() -> None:
    def value(seed: int, name: str) -> float:
        return float(torch.rand((), generator=keyed_random.parameter_generator(seed, name)))

    assert value(0, "a") == value(0, "a")
    assert len({value(0, "a"), value(1, "a"), value(0, "b")}) == 3
