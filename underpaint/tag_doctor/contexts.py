"""The company of labels: which other labels stand on their images, as random projections of fixed size.

Every label has a random direction, and an image seen from one of its labels is the weighted sum of the directions of
the others. The mean over a label's images is its context; two labels of one meaning have nearly the same. Memory grows
with the number of labels, not with its square.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from underpaint.tag_doctor.labelled_set import LabelledSet

DIRECTIONS = 256
MOST_IMAGES = 300
"""Images of a label that are looked at, evenly spaced."""
FLOOR = 0.3
"""Standard deviation of a likeness beside the noise of few images: contexts of one meaning differ a little."""
MOST_LABELS = 64
"""Labels of one image that are looked at."""
MOST_LIKENESS = 1.5
LEAST_SQUARE = 0.01
"""Squared length of a mean below which the company is that of any image, so that nothing can be compared."""
LEAST_EXPECTED = 1.0
"""Images of the rarer label that a companion must be expected on to be compared."""
MOST_EVIDENCE = 5.0
"""Largest log odds that one kind of evidence contributes."""
FEWEST_COMPANIONS = 1e-6


class Likeness(NamedTuple):
    """How like the context of one label is to that of another: 1 for the same, 0 for unrelated ones."""

    value: float
    deviation: float

    @property
    def log_odds(self) -> float:
        """Evidence for one meaning (likeness 1) against two unrelated ones (likeness 0)."""
        return float(np.clip((self.value - 0.5) / self.deviation**2, -MOST_EVIDENCE, MOST_EVIDENCE))


class Difference(NamedTuple):
    """A chi-squared statistic, its degrees of freedom, and the harmonic mean of the two numbers of images."""

    square: float
    freedom: int
    size: float

    @property
    def per_image(self) -> float:
        """The part of the statistic beyond chance, for each image."""
        return (self.square - self.freedom) / self.size


UNKNOWN = Likeness(0.5, 1.0)
"""The likeness of labels whose images have no others; it is evidence for nothing."""


class Contexts:
    """Contexts of all labels of a set."""

    def __init__(self, labelled: LabelledSet) -> None:
        self._set = labelled
        labels = len(labelled.names)
        random = np.random.default_rng(0)
        sign = random.integers(0, 2, size=(labels, DIRECTIONS), dtype=np.int8) * 2 - 1
        weight = np.log((labelled.images + 1) / np.maximum(labelled.count, 1)) / np.sqrt(DIRECTIONS)
        self._direction = (sign * weight[:, None]).astype(np.float32)
        self._mean_of_all = np.zeros(DIRECTIONS, dtype=np.float32)
        some = np.linspace(0, labels - 1, min(labels, 2000)).astype(int)
        seen = [vectors for label in some if len(vectors := self.vectors(int(label)))]
        if seen:
            self._mean_of_all = np.concatenate(seen).mean(axis=0)
        self.images = np.zeros(labels, dtype=np.int64)
        """Number of images of each label that have further labels, of those looked at."""
        self.mean: Float[np.ndarray, "labels d"] = np.zeros((labels, DIRECTIONS), dtype=np.float32)
        self.square = np.zeros(labels, dtype=np.float32)
        """Squared length of each true mean, without the noise of its images; an estimate, which may be negative."""
        self.spread = np.zeros(labels, dtype=np.float32)
        """Deviation of an image's product with the mean."""
        for label in range(labels):
            self._measure(label)
        self.companions = cache(self._companions)

    def _measure(self, label: int) -> None:
        vectors = self.vectors(label)
        n = self.images[label] = len(vectors)
        if n:
            total = vectors.sum(axis=0)
            self.mean[label] = total / n
            self.spread[label] = (vectors @ self.mean[label]).std()
            self.square[label] = (total @ total - (vectors**2).sum()) / (n * (n - 1)) if n > 1 else 0.0

    def vectors(self, label: int) -> Float[np.ndarray, "n d"]:
        """Images of a label, as seen from it; those without another label are left out."""
        labels, lengths = self.labels_beside(label)
        if not len(lengths):
            return np.empty((0, DIRECTIONS), dtype=np.float32)
        starts = np.cumsum(lengths) - lengths
        vectors = np.repeat(-self._direction[label][None], len(lengths), axis=0)
        for place in range(min(int(lengths.max()), MOST_LABELS)):  # faster than reduceat, as images have few labels
            images = np.flatnonzero(lengths > place)
            vectors[images] += self._direction[labels[starts[images] + place]]
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        kept = (lengths > 1) & (length[:, 0] > FEWEST_COMPANIONS)
        return vectors[kept] / length[kept] - self._mean_of_all

    def labels_beside(self, label: int) -> tuple[np.ndarray, np.ndarray]:
        """The labels of images of a label, the label itself among them, and the number of each image's labels."""
        images = self._set.images_with(label)
        if len(images) > MOST_IMAGES:
            images = images[np.linspace(0, len(images) - 1, MOST_IMAGES).astype(int)]
        start, end = self._set.first[images], self._set.first[images + 1]
        lengths = end - start
        within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return self._set.labels[np.repeat(start, lengths) + within], lengths

    def _companions(self, label: int) -> tuple[np.ndarray, np.ndarray, int]:
        """Labels beside a label in order of their ids, the images of each, and those that were looked at."""
        labels, lengths = self.labels_beside(label)
        beside, times = np.unique(labels[labels != label], return_counts=True)
        return beside, times, max(len(lengths), 1)

    def lifts(self, label: int) -> tuple[np.ndarray, np.ndarray]:
        """Labels beside a label, and the lift of each: how many times more often than by chance they meet."""
        beside, times, images = self.companions(label)
        return beside, times / images * self._set.images / self._set.count[beside]

    def likeness(self, first: int, second: int) -> Likeness:
        """Likeness of the context of ``first`` to that of ``second``, which should be the more frequent one."""
        if not self.images[first] or self.images[second] < 2 or self.square[second] <= LEAST_SQUARE:
            return UNKNOWN
        square = float(self.square[second])
        noise = float(self.spread[second]) / square / np.sqrt(self.images[first])
        value = float(self.mean[first] @ self.mean[second]) / square
        return Likeness(min(value, MOST_LIKENESS), float(np.hypot(FLOOR, noise)))

    def cosine(self, first: int, second: int) -> float:
        """Cosine of the true means; 0 for labels whose company is that of any image."""
        if min(self.square[[first, second]]) <= LEAST_SQUARE:
            return 0.0
        return float(self.mean[first] @ self.mean[second] / np.sqrt(self.square[first] * self.square[second]))

    def difference(self, first: int, second: int) -> Difference:
        """Test of the hypothesis that both labels have every companion at the same rate (chi-squared)."""
        (mine, times, images), (others, others_times, others_images) = self.companions(first), self.companions(second)
        beside = np.union1d(mine, others)
        beside = beside[(beside != first) & (beside != second)]
        a, b = np.zeros(len(beside)), np.zeros(len(beside))
        for counts, labels, of_labels in ((a, mine, times), (b, others, others_times)):
            kept = np.isin(labels, beside, assume_unique=True)
            counts[np.searchsorted(beside, labels[kept])] = of_labels[kept]
        share = (a + b) / (images + others_images)
        size = 2 / (1 / images + 1 / others_images)
        enough = share * size / 2 >= LEAST_EXPECTED
        a, b, share = a[enough] / images, b[enough] / others_images, share[enough]
        square = (a - b) ** 2 / (share * (1 - share * 0.999) * 2 / size)
        return Difference(float(square.sum()), int(enough.sum()), float(size))

    def expected_together(self, first: int, second: int) -> float:
        """Images with both labels to be expected if they were different things of the same surroundings.

        The two would then meet as often as each meets the companions of both. Labels of one meaning hardly meet.
        """
        (mine, lifts), (others, others_lifts) = self.lifts(first), self.lifts(second)
        _, at_first, at_second = np.intersect1d(mine, others, assume_unique=True, return_indices=True)
        if not len(at_first):
            return 0.0
        shared = np.sort(np.sqrt(lifts[at_first] * others_lifts[at_second]))[-10:]
        return float(np.median(shared) * self._set.count[first] * self._set.count[second] / self._set.images)
