"""Learning rate as a function of the samples seen.

``wsd`` is warm-up, stable, decay (Hu et al. 2024, arXiv 2404.06395), with the linear decay over a fifth of the budget
that Haegele et al. 2024 (arXiv 2405.18392) found as good as a cosine of that length.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from underpaint.config import LATER


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    kind: Literal["cosine", "wsd", "steps"] = "cosine"
    min_lr: float = 0.0  # the end of the decay, absolute
    cooldown: float = 0.2  # wsd: share of the budget over which the rate falls linearly to min_lr
    # steps: shares of the budget after which the distance to min_lr is multiplied by drop_factor
    drops: tuple[float, ...] = field(default=(), metadata=LATER)
    drop_factor: float = field(default=0.1, metadata=LATER)

    def __post_init__(self) -> None:
        if not 0 < self.cooldown <= 1:
            raise ValueError(f"schedule.cooldown={self.cooldown} must lie in (0, 1]")
        if list(self.drops) != sorted(self.drops) or not all(0 < share < 1 for share in self.drops):
            raise ValueError(f"schedule.drops={self.drops} must be rising shares of the budget between 0 and 1")
        if self.kind == "steps" and not self.drops:
            raise ValueError("schedule.kind=steps needs schedule.drops, for example 0.89,0.96")
        if not 0 < self.drop_factor < 1:
            raise ValueError(f"schedule.drop_factor={self.drop_factor} must lie in (0, 1)")


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Linear warm-up to ``peak``, then half a cosine, a plateau and a linear cooldown (wsd), or steps."""

    config: ScheduleConfig
    peak: float
    samples: int  # the whole budget
    warmup: int  # samples

    def __post_init__(self) -> None:
        if not 0 <= self.config.min_lr <= self.peak:
            raise ValueError(
                f"schedule.min_lr={self.config.min_lr} must lie between 0 and the peak rate, {self.peak:g}"
            )
        cooldown = self.config.cooldown * self.samples
        if self.config.kind == "wsd" and self.warmup + cooldown > self.samples:
            raise ValueError(
                f"warm-up ({self.warmup:,} samples) and schedule.cooldown={self.config.cooldown} ({cooldown:,.0f}) "
                f"overlap in a budget of {self.samples:,}; shorten one of them"
            )

    def __call__(self, seen: int) -> float:
        """The rate of the step that starts after ``seen`` samples (a warm-up's first step has rate 0, as in MAE)."""
        if seen < self.warmup:
            return self.peak * seen / self.warmup
        low = self.config.min_lr
        if self.config.kind == "steps":
            drops = sum(seen >= share * self.samples for share in self.config.drops)
            return low + (self.peak - low) * self.config.drop_factor**drops
        if self.config.kind == "cosine":
            progress = (seen - self.warmup) / (self.samples - self.warmup)
            return low + (self.peak - low) * 0.5 * (1 + math.cos(math.pi * progress))
        left = (self.samples - seen) / (self.config.cooldown * self.samples)
        return low + (self.peak - low) * min(1.0, left)
