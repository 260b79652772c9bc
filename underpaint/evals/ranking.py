"""Ranks of the right candidates of queries by cosine, ties included, without a matrix of all pairs in memory."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

BLOCK = 1 << 22
"""Similarities held at once: 16 MiB of float32."""


class Ranks(NamedTuple):
    """The place of each query's best right candidate among all candidates."""

    above: Int64[Tensor, " q"]
    """Wrong candidates with a higher similarity."""
    tied_wrong: Int64[Tensor, " q"]
    """Wrong candidates with the same similarity."""
    tied_right: Int64[Tensor, " q"]
    """Right candidates with the same similarity, itself included."""


class Hits(NamedTuple):
    """Share of orders of equal candidates in which a right one is among the first k: 0 or 1 at both ends."""

    pessimistic: Float64[Tensor, " q"]
    average: Float64[Tensor, " q"]
    optimistic: Float64[Tensor, " q"]


def rank(queries: Float[Tensor, "q e"], candidates: Float[Tensor, "c e"], *, right: Int64[Tensor, "pairs 2"]) -> Ranks:
    """Rank the candidates of every query block by block; ``right`` has pairs of a query and a right candidate.

    Equal candidates are compared once, so that rounding cannot tell them apart. Every query has a right candidate.
    """
    distinct, number, copies = _collapse(candidates)
    right = right[right[:, 0].argsort(stable=True)]
    query, column = right[:, 0].contiguous(), number[right[:, 1]]
    assert torch.equal(query.unique(), torch.arange(len(queries))), "a query without a right candidate"
    ranks = Ranks(*(torch.empty(len(queries), dtype=torch.int64) for _ in Ranks._fields))
    rows = max(1, min(BLOCK // len(distinct), len(queries)))
    # Both are written again for every block: blocks of their own leave holes in the heap, and take it to gigabytes.
    similarities = torch.empty(rows, len(distinct), dtype=queries.dtype)
    masks = torch.empty(rows, len(distinct), dtype=torch.bool)
    for begin in range(0, len(queries), rows):
        block = queries[begin : begin + rows]
        similarity, mask = similarities[: len(block)], masks[: len(block)]
        torch.mm(block, distinct.T, out=similarity)
        first, last = torch.searchsorted(query, torch.tensor([begin, begin + rows])).tolist()
        row, of_pair = query[first:last] - begin, similarity[query[first:last] - begin, column[first:last]]
        best = torch.full((len(block),), -torch.inf, dtype=queries.dtype).scatter_reduce(0, row, of_pair, "amax")
        tied_right = torch.zeros(len(block), dtype=torch.int64).index_add(0, row, (of_pair == best[row]).long())
        of_block = Ranks(*(part[begin : begin + rows] for part in ranks))
        of_block.above[:] = _count(torch.gt(similarity, best[:, None], out=mask), copies)
        of_block.tied_wrong[:] = _count(torch.eq(similarity, best[:, None], out=mask), copies) - tied_right
        of_block.tied_right[:] = tied_right
    return ranks


def hits(ranks: Ranks, k: int) -> Hits:
    """Whether a right candidate is among the first ``k``, with wrong candidates of the same similarity before it,
    in random order, or behind it.
    """
    above, wrong, right = (part.double() for part in ranks)
    missed = torch.ones(len(above), dtype=torch.float64)
    for drawn in range(k):  # without replacement, from the places that are left below those above
        share = (wrong - drawn).clamp(min=0) / (wrong + right - drawn).clamp(min=1)
        missed = torch.where(above + drawn < k, missed * share, missed)
    return Hits((above + wrong < k).double(), 1 - missed, (above < k).double())


def hits_by_chance(wrong: Int64[Tensor, " q"], right: Int64[Tensor, " q"], k: int) -> Float64[Tensor, " q"]:
    """Probability that one of the first ``k`` in random order is right, from the numbers of candidates."""
    return hits(Ranks(torch.zeros_like(wrong), wrong, right), k).average


def _collapse(
    candidates: Float[Tensor, "c e"],
) -> tuple[Float[Tensor, "u e"], Int64[Tensor, " c"], Int64[Tensor, " u"]]:
    """The distinct candidates, the number of each candidate among them, and how often each stands there."""
    seen: dict[bytes, int] = {}
    values = (candidates + 0.0).numpy()  # -0.0 and 0.0 are equal, their bytes are not
    number = torch.tensor([seen.setdefault(_digest(row.tobytes()), len(seen)) for row in values])
    first = torch.full((len(seen),), len(candidates)).scatter_reduce(0, number, torch.arange(len(number)), "amin")
    return candidates[first], number, torch.bincount(number)


def _digest(content: bytes) -> bytes:
    import xxhash

    return xxhash.xxh3_128_digest(content)


def _count(mask: Tensor, copies: Int64[Tensor, " u"]) -> Int64[Tensor, " b"]:
    """Candidates of each row of a mask over the distinct ones."""
    if int(copies.max()) == 1:
        return mask.sum(dim=1)
    return torch.where(mask, copies, 0).sum(dim=1)
