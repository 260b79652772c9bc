"""Search for all hashes within a distance of others, without comparing each with each.

Two hashes of 64 bits that differ in at most 12 of them differ, by the pigeonhole principle, in at most 3 of the first
16 bits or in at most 2 of the second, third or fourth (else 4 + 3 + 3 + 3 = 13 differ; Norouzi et al. 2012, "Fast
search in Hamming space with multi-index hashing"). So each hash stands in four tables, by 16 of its bits, and a query
looks into the 697 + 3 * 137 places that are near enough. Exact, and where hashes are many, most are never compared.
"""

from __future__ import annotations

from functools import cache
from itertools import combinations

import numpy as np
from jaxtyping import Int64, UInt64

RADIUS = 12
"""Largest number of differing bits of near hashes."""

_REACH = (3, 2, 2, 2)
_PARTS = len(_REACH)
_LOOKED_AT = 1 << 20
"""Approximate number of pairs compared at once, with 40 bytes each."""

assert sum(reach + 1 for reach in _REACH) > RADIUS


class HashTable:
    """Some hashes, sorted in four ways, each by 16 of their bits."""

    def __init__(self, hashes: UInt64[np.ndarray, " n"]) -> None:
        self._hashes = _mixed(hashes)
        self._rows: list[np.ndarray] = []
        self._starts: list[np.ndarray] = []
        for part in range(_PARTS):
            keys = _keys(self._hashes, part)
            order = np.argsort(keys, kind="stable")
            self._rows.append(order.astype(np.int32))
            self._starts.append(np.searchsorted(keys[order], np.arange(0x10001)).astype(np.int32))

    def near(self, queries: UInt64[np.ndarray, " q"]) -> Int64[np.ndarray, "found 3"]:
        """All pairs within RADIUS as rows of (query, row, distance), each once, sorted."""
        matches = [np.zeros(0, dtype=np.int64)]
        places = sum(len(_nearby(reach)) for reach in _REACH)
        block = max(1, int(_LOOKED_AT / (places * (1 + len(self._hashes) / 0x10000))))
        mixed = _mixed(queries)
        for start in range(0, len(mixed), block):
            for part in range(_PARTS):
                query, row, distance = self._near_in(part, mixed[start : start + block])
                matches.append((query + start) << 38 | row << 7 | distance)  # as one number: sorted ten times as fast
        pairs = np.unique(np.concatenate(matches))
        return np.stack([pairs >> 38, pairs >> 7 & 0x7FFF_FFFF, pairs & 0x7F], axis=1)

    def _near_in(self, part: int, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        keys = (_keys(queries, part)[:, None] ^ _nearby(_REACH[part])).ravel()
        first, last = self._starts[part][keys], self._starts[part][keys.astype(np.int32) + 1]
        filled = np.flatnonzero(last > first)
        first, count = first[filled], (last - first)[filled]
        query = np.repeat(filled // len(_nearby(_REACH[part])), count)
        inside = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        row = self._rows[part][np.repeat(first, count) + inside]
        distance = np.bitwise_count(queries[query] ^ self._hashes[row])
        near = np.flatnonzero(distance <= RADIUS)
        return query[near].astype(np.int64), row[near].astype(np.int64), distance[near].astype(np.int64)


@cache
def _nearby(reach: int) -> np.ndarray:
    """All masks of 16 bits with at most ``reach`` bits set, as uint16."""
    masks = [sum(1 << bit for bit in bits) for size in range(reach + 1) for bits in combinations(range(16), size)]
    return np.array(masks, dtype=np.uint16)


def _keys(mixed: np.ndarray, part: int) -> np.ndarray:
    return (mixed >> np.uint64(16 * part)).astype(np.uint16)


def _mixed(hashes: np.ndarray) -> np.ndarray:
    """The hashes with their bits in another order, in which every fourth bit goes into the same part.

    Neighbouring bits are of neighbouring frequencies, and those of high frequencies carry little information.
    """
    parts = np.ascontiguousarray(hashes, dtype=np.uint64)[:, None].view(np.uint8)
    mixed = np.zeros(len(hashes), dtype=np.uint64)
    for place, table in enumerate(_order_of_bits()):
        mixed |= table[parts[:, place]]
    return mixed


@cache
def _order_of_bits() -> np.ndarray:
    """The contribution to the reordered hash of each value of each byte, from the lowest byte, of shape (8, 256)."""
    byte, value, bit = np.arange(8)[:, None, None], np.arange(256)[None, :, None], np.arange(8)
    old = 8 * byte + bit
    new = (16 * (old % _PARTS) + old // _PARTS).astype(np.uint64)
    return (((value >> bit) & 1).astype(np.uint64) << new).sum(axis=2, dtype=np.uint64)
