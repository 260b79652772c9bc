"""Options of a run for strong augmentations, those of published finetuning (paper.md 2.2)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple

from underpaint.config import LATER
from underpaint.data.augment.draws import LARGEST_ALPHA

_PART = re.compile(r"(m|n|p|mstd|inc)(\d+(?:\.\d+)?)")


class RandAugmentSpec(NamedTuple):
    """A policy of RandAugment in timm's notation."""

    magnitude: float
    """Mean strength of an operation, from 0 to 10."""
    deviation: float
    """Standard deviation of the strength, which is cut off at 0 and 10."""
    operations: int
    """Number of operations drawn for an image, with replacement."""
    probability: float
    """Probability that a drawn operation is applied."""


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Augmentations beside random crop and mirror image; the defaults are none.

    Every draw follows from the position of its sample, so batches are equal in every bit with any number of workers and
    of processes, and after a restart. Repeated augmentation is ``data.views``.
    """

    rand: str = field(default="", metadata=LATER)  # RandAugment in timm's notation, such as rand-m9-mstd0.5-inc1
    erase: float = field(
        default=0.0, metadata=LATER
    )  # probability of random erasing, with noise N(0, 1) per pixel after normalisation
    mixup: float = field(default=0.0, metadata=LATER)  # parameter of mixup's beta distribution; 0 is none
    cutmix: float = field(default=0.0, metadata=LATER)  # parameter of CutMix's
    mix_probability: float = field(default=1.0, metadata=LATER)  # that a group of samples is mixed
    switch_probability: float = field(default=0.5, metadata=LATER)  # of CutMix, where there is mixup as well
    # Consecutive samples with one ratio, the first mixed with the last, and so on: a published batch of one process.
    mix_group: int = field(default=2, metadata=LATER)

    def __post_init__(self) -> None:
        self.rand_spec()
        for name in ("erase", "mix_probability", "switch_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"data.augment.{name}={getattr(self, name)} must be a probability between 0 and 1")
        for name in ("mixup", "cutmix"):
            if not 0 <= getattr(self, name) <= LARGEST_ALPHA:
                raise ValueError(f"data.augment.{name}={getattr(self, name)} must lie between 0 and {LARGEST_ALPHA}")
        if self.mix_group < 2 or self.mix_group % 2:
            raise ValueError(f"data.augment.mix_group={self.mix_group} must be an even number: samples mix in pairs")

    @property
    def mixes(self) -> bool:
        return self.mixup > 0 or self.cutmix > 0

    def rand_spec(self) -> RandAugmentSpec | None:
        """The policy of RandAugment; None without.

        Raises:
            ValueError: if it is not in timm's notation, or not the increasing one.
        """
        if not self.rand:
            return None
        name, *parts = self.rand.split("-")
        matches = [_PART.fullmatch(part) for part in parts]
        given = {match[1]: float(match[2]) for match in matches if match}
        usual = "; the published policy is rand-m9-mstd0.5-inc1"
        if name != "rand" or None in matches or len(given) < len(parts):
            raise ValueError(
                f"data.augment.rand={self.rand!r} is not a policy: write rand, m (magnitude), mstd, n (operations), p "
                f"(probability) and inc1, joined by '-'{usual}"
            )
        if given.get("inc") != 1:
            raise ValueError(
                f"data.augment.rand={self.rand!r}: only operations that get stronger with the magnitude are "
                f"there; add -inc1{usual}"
            )
        spec = RandAugmentSpec(
            magnitude=given.get("m", 10), deviation=given.get("mstd", 0), operations=int(given.get("n", 2)),
            probability=given.get("p", 0.5),
        )  # fmt: skip
        if not (0 <= spec.magnitude <= 10 and 1 <= spec.operations <= 16 and spec.probability <= 1):
            raise ValueError(f"data.augment.rand={self.rand!r}: m lies in 0 to 10, n in 1 to 16, p in 0 to 1{usual}")
        return spec
