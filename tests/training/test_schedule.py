"""Learning rates against MAE's own formula (its util/lr_sched.py, in epochs)."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from underpaint.training.schedule import Schedule, ScheduleConfig


def mae_rate(epoch: float, *, lr: float, min_lr: float, warmup_epochs: float, epochs: float) -> float:
    if epoch < warmup_epochs:
        return lr * epoch / warmup_epochs
    progress = (epoch - warmup_epochs) / (epochs - warmup_epochs)
    return min_lr + (lr - min_lr) * 0.5 * (1.0 + math.cos(math.pi * progress))


def schedule(kind: Any = "cosine", *, min_lr: float = 0.0, cooldown: float = 0.2, warmup: int = 4_000) -> Schedule:
    config = ScheduleConfig(kind=kind, min_lr=min_lr, cooldown=cooldown)
    return Schedule(config=config, peak=2.4e-3, samples=100_000, warmup=warmup)


@pytest.mark.parametrize(("min_lr", "warmup"), [(0.0, 4_000), (1e-6, 4_000), (1e-4, 0), (0.0, 99_999)])
def test_cosine_is_maes(min_lr: float, warmup: int) -> None:
    rate = schedule(min_lr=min_lr, warmup=warmup)
    per_epoch = 1281  # samples; the formula is in epochs and must not care how many they are
    for seen in [*range(0, 100_000, 997), warmup, max(warmup - 1, 0), 100_000]:
        expected = mae_rate(
            seen / per_epoch, lr=2.4e-3, min_lr=min_lr, warmup_epochs=warmup / per_epoch, epochs=100_000 / per_epoch
        )
        assert rate(seen) == pytest.approx(expected, rel=1e-9, abs=1e-12), seen


def test_warmup_stable_decay() -> None:
    rate = schedule("wsd", min_lr=4e-4, cooldown=0.25)
    assert rate(0) == 0
    assert rate(1_000) == pytest.approx(2.4e-3 / 4)
    assert {rate(seen) for seen in range(4_000, 75_001, 71)} == {2.4e-3}
    assert rate(87_500) == pytest.approx((2.4e-3 + 4e-4) / 2)
    assert rate(100_000) == pytest.approx(4e-4)
    falling = [rate(seen) for seen in range(75_000, 100_001, 1_000)]
    steps = [before - after for before, after in pairwise(falling)]
    assert all(step == pytest.approx(steps[0]) for step in steps), "linear"
    assert steps[0] > 0


@pytest.mark.parametrize(("cooldown", "warmup", "min_lr"), [(0.2, 4_000, 0.0), (0.5, 50_000, 1e-4), (1.0, 0, 1e-6)])
def test_warmup_stable_decay_is_three_straight_lines(cooldown: float, warmup: int, min_lr: float) -> None:
    rate = schedule("wsd", min_lr=min_lr, cooldown=cooldown, warmup=warmup)
    corners = [0, warmup, 100_000 * (1 - cooldown), 100_000]
    seen = [*range(0 if warmup else 1, 100_000, 733), 100_000]
    expected = np.interp(seen, corners, [0.0, 2.4e-3, 2.4e-3, min_lr])
    assert [rate(each) for each in seen] == pytest.approx(list(expected), rel=1e-9, abs=1e-15)


@pytest.mark.parametrize(
    ("kind", "cooldown", "warmup"), [("cosine", 0.2, 4_000), ("wsd", 0.2, 4_000), ("wsd", 0.7, 30_000)]
)
def test_no_jumps(kind: str, cooldown: float, warmup: int) -> None:
    """A rate never moves faster from one batch to the next than the warm-up or the decay would take it."""
    rate = schedule(kind, cooldown=cooldown, warmup=warmup)
    values = [rate(seen) for seen in range(0, 100_001, 100)]
    steepest = 2.4e-3 * 100 * max(1 / warmup, 1.6 / (100_000 - warmup), 1 / (cooldown * 100_000))
    assert max(abs(a - b) for a, b in pairwise(values)) <= steepest * 1.01
    assert max(values) <= 2.4e-3
    assert min(values) >= 0


@pytest.mark.parametrize("cooldown", [0.0, -0.1, 1.5])
def test_cooldown_is_checked(cooldown: float) -> None:
    with pytest.raises(ValueError, match="cooldown"):
        ScheduleConfig(cooldown=cooldown)


def test_warmup_and_cooldown_may_not_overlap() -> None:
    schedule("wsd", cooldown=0.7, warmup=30_000)
    with pytest.raises(ValueError, match=r"schedule\.cooldown=0\.9 \(90,000\) overlap in a budget of 100,000"):
        schedule("wsd", cooldown=0.9, warmup=30_000)
    schedule("cosine", cooldown=0.9, warmup=30_000)


@pytest.mark.parametrize("min_lr", [-1e-6, 1e-2])
def test_the_end_lies_below_the_peak(min_lr: float) -> None:
    with pytest.raises(ValueError, match="min_lr"):
        schedule(min_lr=min_lr)
