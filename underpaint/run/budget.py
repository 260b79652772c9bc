"""Length of a run, division of its batches, and intervals of logging, saving and evaluation: all in samples."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from underpaint.config import LATER, OPERATIONAL

MAX_SAMPLES = 10**15
"""Largest budget in samples: 100,000 times the longest published run; positions of samples are 63-bit numbers."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Length of training in samples, so that another batch size changes only the number of steps."""

    samples: int
    batch_size: int = 256  # samples of one optimizer step
    microbatch: int = field(default=256, metadata=OPERATIONAL)  # samples of one forward pass on one rank
    warmup: int = 0  # samples
    # Passes over the images in place of samples, which follow when the data are opened; the warm-up keeps its share.
    epochs: float = field(default=0.0, metadata=LATER)

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.microbatch < 1:
            raise ValueError(
                f"budget.batch_size={self.batch_size} and budget.microbatch={self.microbatch} must be at least 1"
            )
        if self.samples < self.batch_size:
            raise ValueError(f"budget.samples={self.samples} is less than one batch of batch_size={self.batch_size}")
        if self.samples > MAX_SAMPLES:
            raise ValueError(
                f"budget.samples={self.samples:.3g} is more than {MAX_SAMPLES:.0e}, the most that a run can count"
            )
        if not 0 <= self.warmup < self.samples:
            raise ValueError(
                f"budget.warmup={self.warmup} must be shorter than budget.samples={self.samples}, and not negative; "
                f"set both, for example budget.warmup={self.samples // 10}"
            )

        if not 0 <= self.epochs < math.inf:
            raise ValueError(
                f"budget.epochs={self.epochs} must be a number of passes over the images, or 0 for samples"
            )

    @property
    def steps(self) -> int:
        """Number of optimizer steps.

        Raises:
            ValueError: for epochs, whose samples are not known before the data are opened.
        """
        if self.epochs:
            raise ValueError(f"budget.epochs={self.epochs:g} needs the data to be counted; set budget.samples instead")
        return self.samples // self.batch_size

    def for_images(self, images: int) -> Budget:
        """The budget in samples, if there are so many images to train on.

        Raises:
            ValueError: for epochs that are less than one batch.
        """
        if not self.epochs:
            return self
        samples = round(self.epochs * images)
        if samples < self.batch_size:
            raise ValueError(
                f"budget.epochs={self.epochs:g} of {images:,} images are less than one batch of {self.batch_size}; "
                f"give more epochs, or a smaller budget.batch_size and budget.microbatch"
            )
        return replace(self, samples=samples, warmup=self.warmup * samples // self.samples, epochs=0.0)

    @property
    def forward_size(self) -> int:
        """The microbatch, or the whole batch where that is smaller."""
        return min(self.microbatch, self.batch_size)

    def accumulation(self, world: int = 1) -> int:
        """Microbatches that one of so many ranks takes for a step.

        Raises:
            ValueError: if the batch cannot be divided so.
        """
        if self.batch_size % world:
            raise ValueError(f"budget.batch_size={self.batch_size} cannot be shared by {world} processes equally")
        share = self.batch_size // world
        if share % min(self.microbatch, share):
            among = f" by each of {world} processes: batch_size={share}" if world > 1 else f" batch_size={share}"
            raise ValueError(f"budget.microbatch={self.microbatch} does not divide{among}")
        return share // min(self.microbatch, share)


@dataclass(frozen=True, kw_only=True)
class Cadence:
    """Intervals of the log, checkpoints and evaluations, in samples."""

    log: int = field(default=1_000, metadata=OPERATIONAL)
    save: int = field(default=100_000, metadata=OPERATIONAL)
    keep: int = field(default=10_000_000, metadata=OPERATIONAL)  # checkpoints that are never deleted
    # Samples after which a checkpoint is saved and never deleted: shorter runs can branch there (run/branches.py).
    save_at: tuple[int, ...] = field(default=(), metadata=OPERATIONAL | LATER)
    evaluate: int = field(default=100_000, metadata=OPERATIONAL)
    asynchronous: bool = field(default=False, metadata=OPERATIONAL)  # write checkpoints beside the training

    def __post_init__(self) -> None:
        for name in ("log", "save", "keep", "evaluate"):
            if getattr(self, name) < 1:
                raise ValueError(f"cadence.{name}={getattr(self, name)} must be at least 1 (samples)")
        if any(samples < 1 for samples in self.save_at):
            raise ValueError(f"cadence.save_at={self.save_at} must name numbers of samples of at least 1")

    def steps(self, samples: int, budget: Budget) -> int:
        return max(1, samples // budget.batch_size)

    def evaluations(self, budget: Budget) -> int:
        """Number of evaluations: one at every interval and one at the end."""
        return -(-budget.steps // self.steps(self.evaluate, budget))

    def save_at_steps(self, budget: Budget) -> frozenset[int]:
        """Steps of ``save_at``: the last whole batch of each."""
        return frozenset(self.steps(samples, budget) for samples in self.save_at)
