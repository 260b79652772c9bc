"""Shares of a split: the part of all images that a run draws from."""

from __future__ import annotations

from underpaint import keyed_random


def in_share(name: str, share: float, *, seed: int) -> bool:
    """Whether a family, or the hash of an image, belongs to this share of all of them.

    It is drawn from the seed and the name alone, so that a smaller share of a seed lies within a larger. Seed 0 draws
    the shares of the releases that had no seeds.
    """
    seeded = (seed,) if seed else ()
    return share == 1 or keyed_random.key("share", *seeded, name) < share * 2**63
