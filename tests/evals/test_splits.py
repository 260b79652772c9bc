"""Held-out training images and few-shot splits."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch

from underpaint.evals.class_splits import few_shot, hold_out
from underpaint.evals.features import LabelledFeatures


def half(family: list[str], y: list[int]) -> LabelledFeatures:
    n = len(y)
    return LabelledFeatures(
        x=torch.zeros(n, 1),
        y=torch.tensor(y),
        image=tuple(f"{i:03d}.png" for i in range(n)),
        family=tuple(family),
    )


def permuted(data: LabelledFeatures, order: list[int]) -> LabelledFeatures:
    return replace(
        data,
        x=data.x[order],
        y=data.y[order],
        image=tuple(data.image[i] for i in order),
        family=tuple(data.family[i] for i in order),
    )


CLASSES = [i % 7 for i in range(140)]
VARIANTS = half([f"f{i // 14}-{i % 7}" for i in range(140)], CLASSES)  # 10 families of 2 images in each of 7 classes


def test_holds_out_a_fifth_of_each_class_by_whole_families() -> None:
    fitting, tuning = hold_out(VARIANTS, share=0.2, key=1)
    assert sorted(fitting + tuning) == list(range(140))
    assert not {VARIANTS.family[i] for i in fitting} & {VARIANTS.family[i] for i in tuning}
    assert Counter(CLASSES[i] for i in tuning) == dict.fromkeys(range(7), 4)


def test_small_classes_share_the_held_out_images_and_keep_half() -> None:
    data = half([str(i) for i in range(41)], [0] + [1 + i // 2 for i in range(40)])  # one lone image, twenty pairs
    fitting, tuning = hold_out(data, share=0.2, key=3)
    assert abs(len(tuning) - 8) <= 1
    assert {int(y) for y in data.y[fitting]} == set(range(21))


def test_one_huge_family_stays_whole() -> None:
    data = half(["tones"] * 98 + [f"f{i}" for i in range(42)], [0] * 98 + [i % 2 for i in range(42)])
    fitting, tuning = hold_out(data, share=0.2, key=0)
    assert set(range(98)) <= set(fitting)
    assert 20 <= len(tuning) <= 30


def test_nothing_to_spare_is_an_error() -> None:
    with pytest.raises(ValueError, match="too few to spare any"):
        hold_out(half(["a", "b"], [0, 1]), share=0.2, key=0)


@pytest.mark.parametrize("shots", [1, 3, 5, 50])
def test_few_shot_takes_at_most_k_of_each_class_and_spreads_over_families(shots: int) -> None:
    rows = few_shot(VARIANTS, shots=shots, key=9)
    assert Counter(CLASSES[i] for i in rows) == dict.fromkeys(range(7), min(shots, 20))
    families = Counter(VARIANTS.family[i] for i in rows)
    assert len(families) == 7 * min(shots, 10)


def test_fewer_shots_are_nested_in_more() -> None:
    assert set(few_shot(VARIANTS, shots=2, key=4)) < set(few_shot(VARIANTS, shots=5, key=4))


def test_splits_follow_names_and_keys_not_the_order_of_rows() -> None:
    order = torch.randperm(140, generator=torch.Generator().manual_seed(0)).tolist()
    other = permuted(VARIANTS, order)

    def names(data: LabelledFeatures, rows: list[int]) -> set[str]:
        return {data.image[i] for i in rows}

    assert names(VARIANTS, few_shot(VARIANTS, shots=5, key=2)) == names(other, few_shot(other, shots=5, key=2))
    assert names(VARIANTS, hold_out(VARIANTS, share=0.2, key=2)[1]) == names(
        other, hold_out(other, share=0.2, key=2)[1]
    )
    assert few_shot(VARIANTS, shots=5, key=2) != few_shot(VARIANTS, shots=5, key=3)
    assert hold_out(VARIANTS, share=0.2, key=2) != hold_out(VARIANTS, share=0.2, key=3)
