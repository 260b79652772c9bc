"""The vocabulary against a count by hand; repeat factors against their formula, SciPy's root and loops."""

from __future__ import annotations

import math
import random
from collections import Counter

import numpy as np
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from underpaint.tags.sampling import (
    RepeatRule,
    factors_of,
    label_frequencies,
    rarest_labels,
    repeat_factors,
    solve_threshold,
)
from underpaint.tags.vocabulary import Vocabulary, count_vocabulary


def random_tags(images: int, *, untagged: float = 0.1) -> list[tuple[str, ...]]:
    """A long tail of tags, some doubled on their image."""
    rng = random.Random(0)
    words = [f"w{n:02d}" for n in range(40)]
    popularity = [1 / (n + 1) for n in range(40)]
    drawn = (rng.choices(words, popularity, k=rng.randint(1, 4)) for _ in range(images))
    return [() if rng.random() < untagged else tuple(tags) for tags in drawn]


@pytest.mark.parametrize(("min_count", "size"), [(1, 1000), (5, 1000), (1, 7), (10, 12)])
def test_the_most_frequent_tags_become_labels(min_count: int, size: int) -> None:
    tags = random_tags(300)
    images = Counter[str]()
    for own in tags:
        images.update(set(own))
    vocabulary = count_vocabulary(tags, min_count=min_count, size=size)
    enough = sorted((tag for tag in images if images[tag] >= min_count), key=lambda tag: (-images[tag], tag))
    assert vocabulary.labels == tuple(enough[:size])
    assert vocabulary.count == tuple(images[tag] for tag in vocabulary.labels)


def test_the_order_of_the_images_does_not_matter() -> None:
    tags = random_tags(300)
    turned = [own[::-1] for own in reversed(tags)]
    assert count_vocabulary(tags, min_count=2, size=20) == count_vocabulary(turned, min_count=2, size=20)


def test_ids_are_distinct_sorted_and_in_the_vocabulary() -> None:
    vocabulary = Vocabulary(labels=("cat", "dog", "sun"), count=(3, 2, 1))
    assert vocabulary.ids(("sun", "moon", "cat", "sun", "Cat")) == (0, 2)
    assert vocabulary.ids(()) == ()
    assert vocabulary.ids(("moon",)) == ()


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ([("a",), ("a", "b")], r"min_count=2 training images; the most frequent is 'a' on 2"),
        ([(), ()], r"there are no tags at all"),
    ],
)
def test_one_label_is_no_vocabulary(tags: list[tuple[str, ...]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        count_vocabulary(tags, min_count=2, size=10)


def by_formula(targets: list[tuple[int, ...]], count: tuple[int, ...], threshold: float) -> list[float]:
    """r(label) = max(1, sqrt(t / f)), f its share of the labelled images; r(image) = max over its labels, 1 without."""
    images = sum(map(bool, targets))
    per_label = [max(1.0, math.sqrt(threshold / (n / images))) for n in count]
    return [max((per_label[label] for label in own), default=1.0) for own in targets]


@pytest.mark.parametrize(("ratio", "untagged"), [(5 / 3, 0.1), (1.0, 0.1), (1.05, 0.0), (4.0, 0.1), (2.5, 0.7)])
def test_repeat_factors_are_the_formula_at_the_threshold_that_gives_the_ratio(ratio: float, untagged: float) -> None:
    tags = random_tags(300, untagged=untagged)
    vocabulary = count_vocabulary(tags, min_count=1, size=1000)
    targets = [vocabulary.ids(own) for own in tags]
    factors = repeat_factors(targets, vocabulary.count, ratio=ratio)
    drawn = [factor for factor, ids in zip(factors, targets, strict=True) if ids]
    assert sum(drawn) / len(drawn) == pytest.approx(ratio, rel=1e-9), "over the images that WSP draws from"
    assert min(factors) >= 1
    assert all(factor == 1 for factor, own in zip(factors, targets, strict=True) if not own)
    # recover the threshold from any repeated image, then every image must follow the formula
    if ratio > 1:
        top = max(range(len(targets)), key=lambda image: factors[image])
        rarest = min(vocabulary.count[label] for label in targets[top])
        threshold = factors[top] ** 2 * rarest / len(drawn)
        assert factors == pytest.approx(by_formula(targets, vocabulary.count, threshold), rel=1e-6)


def test_rarer_is_never_repeated_less() -> None:
    targets = [(0,)] * 60 + [(0, 1)] * 30 + [(2,)] * 9 + [(3, 0)]
    factors = repeat_factors(targets, (91, 30, 9, 1), ratio=5 / 3)
    common, less, rare, rarest = factors[0], factors[60], factors[90], factors[99]
    assert 1 <= common <= less < rare < rarest
    assert rarest / rare == pytest.approx(math.sqrt(9 / 1))


def test_bad_ratios_are_refused() -> None:
    with pytest.raises(ValueError, match=r"resample_ratio=0\.9 must be at least 1"):
        repeat_factors([(0,), (1,)], (1, 1), ratio=0.9)
    with pytest.raises(ValueError, match="no image has one"):
        repeat_factors([(), ()], (), ratio=2.0)


labelled = st.lists(st.tuples(st.integers(1, 10_000), st.integers(0, 500)), min_size=1, max_size=30).filter(
    lambda pairs: any(n for _, n in pairs)
)


@settings(max_examples=100, deadline=None)
@given(pairs=labelled, ratio=st.floats(1.001, 8.0))
def test_the_threshold_is_the_root_that_scipy_finds(pairs: list[tuple[int, int]], ratio: float) -> None:
    frequency = np.array([f / 10_000 for f, _ in pairs])
    rarest = np.array([n for _, n in pairs])
    images = rarest.sum()

    def excess(root: float) -> float:
        return float((np.maximum(1, root / np.sqrt(frequency)) * rarest).sum() - ratio * images)

    found = solve_threshold(frequency, rarest, ratio=ratio)
    assert math.sqrt(found) == pytest.approx(brentq(excess, 0, ratio * images, xtol=1e-13), rel=1e-6)


@pytest.mark.parametrize("rule", ["sqrt", "instance"])
def test_partitions_give_the_factors_of_the_whole(rule: RepeatRule) -> None:
    rng = random.Random(3)
    rows = [sorted(rng.sample(range(12), rng.randint(0, 4))) for _ in range(400)]
    images = [sum(label in own for own in rows) for label in range(12)]
    tags = [n * (1 + label % 3) for label, n in enumerate(images)]
    total = sum(bool(own) for own in rows)
    frequency = label_frequencies(images, total, rule=rule, instances=tags)
    expected = [
        n / total if rule == "sqrt" else math.sqrt(n / total * t / sum(tags)) for n, t in zip(images, tags, strict=True)
    ]
    assert frequency.tolist() == pytest.approx(expected)
    parts = [pyarrow.array(rows[at : at + 150], pyarrow.list_(pyarrow.int32())) for at in range(0, 400, 150)]
    rarest = [rarest_labels(part, frequency) for part in parts]
    assert [n for part in rarest for n in part] == [
        min(own, key=lambda one: frequency[one], default=-1) for own in rows
    ]
    numbers = sum((np.bincount(part[part >= 0], minlength=12) for part in rarest), np.zeros(12, dtype=int))
    threshold = solve_threshold(frequency, numbers, ratio=5 / 3)
    factors = np.concatenate([factors_of(part, frequency, threshold) for part in rarest])
    assert factors[[bool(own) for own in rows]].mean() == pytest.approx(5 / 3)
    by_loop = [max((max(1, math.sqrt(threshold / frequency[one])) for one in own), default=1) for own in rows]
    assert factors.tolist() == pytest.approx(by_loop)
    if rule == "sqrt":
        assert factors.tolist() == pytest.approx(repeat_factors([tuple(own) for own in rows], images, ratio=5 / 3))


def test_instances_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="needs the tags of each of 2 labels; there are 0"):
        label_frequencies([3, 4], 10, rule="instance")


def test_rows_without_labels_have_no_rarest() -> None:
    empty = pyarrow.array([[], None, [1]], pyarrow.list_(pyarrow.int32()))
    assert rarest_labels(empty, np.array([0.5, 0.1])).tolist() == [-1, -1, 1]
