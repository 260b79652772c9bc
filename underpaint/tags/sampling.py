"""Repeat factors: how often an image appears in an epoch; images with rare labels are repeated (paper.md 1.2).

A label's factor is max(1, sqrt(t / f)), with its frequency f and a threshold t; an image takes the largest of its
labels' factors, which is that of the rarest. The formula is recalled for Mahajan et al. and SWAG and marked
unverified; the ratio of samples to images, 5 billion to 3 billion in the paper, is verified, and the threshold is
solved from it.

The threshold needs one number per label, the count of the images whose rarest label it is, which is summed over the
partitions of a set of any size.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, Literal

import numpy as np

RepeatRule = Literal["sqrt", "instance"]
"""Frequency of a label: ``sqrt`` takes the share of the images that have it, ``instance`` also its share of all tags
(instance-aware repeat factors, Yaman et al. 2023). Without a rule every factor is 1."""


def label_frequencies(count: Any, images: int, *, rule: RepeatRule = "sqrt", instances: Any = ()) -> np.ndarray:
    """The frequency f of every label, in (0, 1].

    ``count`` is the number of images with each label, ``images`` that of all images, ``instances`` the number of tags
    that became each label, several of one image included. By the rule ``instance`` f is the geometric mean of a label's
    share of the images and of its share of the tags.

    Raises:
        ValueError: if the rule is ``instance`` and there is not one number of instances per label.
    """
    shares = np.asarray(count, dtype=np.float64) / images
    if rule != "instance":
        return shares
    tags = np.asarray(instances, dtype=np.float64)
    if tags.shape != shares.shape:
        raise ValueError(f"the rule 'instance' needs the tags of each of {len(shares)} labels; there are {len(tags)}")
    return np.sqrt(shares * tags / tags.sum())


def rarest_labels(labels: Any, frequency: np.ndarray) -> np.ndarray:
    """The least frequent label of every row of an Arrow array of lists of labels; -1 for a row without labels.

    Among labels of equal frequency the first of the vocabulary is taken.
    """
    import pyarrow.compute

    compute: Any = pyarrow.compute
    lengths = compute.list_value_length(labels).fill_null(0).to_numpy(zero_copy_only=False)
    return _rarest(labels.flatten().to_numpy(zero_copy_only=False), lengths, frequency)


def solve_threshold(frequency: np.ndarray, rarest: np.ndarray, *, ratio: float) -> float:
    """The threshold t at which the mean repeat factor of the images with a label is ``ratio``.

    ``rarest`` is the number of images whose rarest label is each one.

    Raises:
        ValueError: if the ratio is below 1, or no image has a label.
    """
    if ratio < 1:
        raise ValueError(f"data.resample_ratio={ratio} must be at least 1: images are repeated, never left out")
    if not rarest.sum():
        raise ValueError("data.resample=sqrt repeats images by their labels, but no image has one")
    order = np.argsort(frequency, kind="stable")
    order = order[rarest[order] > 0]
    f, n = frequency[order], rarest[order].astype(np.float64)
    # with t between one frequency and the next the sum of factors is linear in sqrt(t): the rarer labels are repeated
    repeated = np.cumsum(n / np.sqrt(f))
    once = n.sum() - np.cumsum(n)
    wanted = ratio * n.sum()
    at_frequency = np.sqrt(f) * repeated + once
    place = max(int(np.searchsorted(at_frequency, wanted, side="right")) - 1, 0)
    return float(((wanted - once[place]) / repeated[place]) ** 2)


def factors_of(rarest: np.ndarray, frequency: np.ndarray, threshold: float) -> np.ndarray:
    """The repeat factor of every image, from its rarest label; 1 for -1."""
    per_label = np.append(np.maximum(1.0, np.sqrt(threshold / frequency)), 1.0)
    return per_label[rarest]


def repeat_factors(targets: Sequence[tuple[int, ...]], count: Sequence[int], *, ratio: float) -> tuple[float, ...]:
    """One factor >= 1 per image, by the rule ``sqrt``; images without a label have 1, and do not count.

    The mean over the images that have a label is ``ratio``: those are what WSP draws from, and what the paper counts.

    Raises:
        ValueError: if the ratio is below 1, or no image has a label.
    """
    lengths = np.array([len(ids) for ids in targets])
    frequency = label_frequencies(count, max(int((lengths > 0).sum()), 1))
    rarest = _rarest(np.array([*chain.from_iterable(targets)], dtype=np.int64), lengths, frequency)
    numbers = np.bincount(rarest[rarest >= 0], minlength=len(frequency))
    threshold = solve_threshold(frequency, numbers, ratio=ratio)
    return tuple(factors_of(rarest, frequency, threshold).tolist())


def _rarest(labels: np.ndarray, lengths: np.ndarray, frequency: np.ndarray) -> np.ndarray:
    rank = np.empty(len(frequency), dtype=np.int64)
    order = np.argsort(frequency, kind="stable")
    rank[order] = np.arange(len(frequency))
    rarest = np.full(len(lengths), -1)
    some = lengths > 0
    if some.any():
        starts = (np.cumsum(lengths) - lengths)[some]
        rarest[some] = order[np.minimum.reduceat(rank[labels], starts)]
    return rarest
