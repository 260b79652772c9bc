"""The order of the samples, a pure function of (key, epoch, position).

A Feistel network on as many bits as n items need, split in two halves, permutes the numbers below a power of
two; numbers that fall outside [0, n) are permuted again until they fall inside (cycle walking, Black and Rogaway 2002),
which is again a permutation. So any position of any epoch of billions of items is found in microseconds and no memory,
and the whole state of a loader is one integer. The order is our promise: golden values stand in the tests for ever.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch

from underpaint import keyed_random

_ROUNDS = 6
_FEWEST_BITS = 4
"""Smallest number of bits of the Feistel network; with fewer, some orders would come too often."""


def sample_at(key: int, n: int, position: int) -> int:
    """The row, in [0, n), at ``position`` of the endless stream in which every epoch is its own permutation."""
    assert n >= 1, n
    assert position >= 0, position
    epoch, index = divmod(position, n)
    return permute(keyed_random.mix(key, epoch), n, index)


def permute(key: int, n: int, index: int) -> int:
    """The image of ``index``, in [0, n), under the permutation ``key`` of n items."""
    if n == 1:
        return 0
    bits = max((n - 1).bit_length(), _FEWEST_BITS)
    low_bits = bits // 2
    low_mask, high_mask = (1 << low_bits) - 1, (1 << (bits - low_bits)) - 1
    keys = _round_keys(key)
    mix = keyed_random.mix
    while True:  # below two turns on average, since 2**bits < 2n for all but tiny n
        low, high = index & low_mask, index >> low_bits
        for even, odd in keys:
            high ^= mix(even, low) & high_mask
            low ^= mix(odd, high) & low_mask
        index = high << low_bits | low
        if index < n:
            return index


def permutation(key: int, n: int) -> np.ndarray:
    """``permute`` of all indices 0 to n - 1, as an int64 array of shape (n,)."""
    if n == 1:
        return np.zeros(1, dtype=np.int64)
    bits = max((n - 1).bit_length(), _FEWEST_BITS)
    low_bits = bits // 2
    low_mask, high_mask = (1 << low_bits) - 1, (1 << (bits - low_bits)) - 1
    place = torch.arange(n)
    walking = torch.arange(n)
    while len(walking):
        low, high = place[walking] & low_mask, place[walking] >> low_bits
        for even, odd in _round_keys(key):
            high ^= keyed_random.mix_all(even, low) & high_mask
            low ^= keyed_random.mix_all(odd, high) & low_mask
        place[walking] = high << low_bits | low
        walking = walking[place[walking] >= n]
    return place.numpy()


@lru_cache(maxsize=1024)
def _round_keys(key: int) -> tuple[tuple[int, int], ...]:
    keys = [keyed_random.mix(key, number) for number in range(_ROUNDS)]
    return tuple(zip(keys[::2], keys[1::2], strict=True))
