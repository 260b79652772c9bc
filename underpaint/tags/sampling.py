"""How often an image appears in an epoch: tail images are repeated (paper.md 1.2).

Per label the repeat is max(1, sqrt(t / f)), f its frequency and t a threshold; an image takes the largest of its
labels'. The formula is recalled for Mahajan et al. and SWAG and marked unverified; the ratio of samples to images, 5
billion to 3 billion in the paper, is verified, and the threshold is solved from it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

BISECTIONS = 200


def repeat_factors(targets: Sequence[tuple[int, ...]], count: Sequence[int], *, ratio: float) -> tuple[float, ...]:
    """One factor >= 1 per image, with the mean ``ratio``; images without a label have 1.

    Raises:
        ValueError: if the ratio is below 1, or no image has a label.
    """
    if ratio < 1:
        raise ValueError(f"data.resample_ratio={ratio} must be at least 1: images are repeated, never left out")
    labelled = np.array([bool(ids) for ids in targets])
    if not labelled.any():
        raise ValueError("data.resample=sqrt repeats images by their labels, but no image has one")
    # the largest factor of an image is that of its rarest label
    rarest = np.array([min((count[label] for label in ids), default=1) for ids in targets], dtype=np.float64)
    frequency = rarest / len(targets)

    def factors(threshold: float) -> np.ndarray:
        return np.where(labelled, np.maximum(1.0, np.sqrt(threshold / frequency)), 1.0)

    enough = 1 + (ratio - 1) / labelled.mean()  # where every labelled image has at least this factor, so has the mean
    low, high = 0.0, enough**2
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if factors(middle).mean() < ratio else (low, middle)
    return tuple(factors(high).tolist())
