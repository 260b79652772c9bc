"""Mean loss of an objective on held-out batches, during training."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from torch import nn

from underpaint import core
from underpaint.evals.mode import evaluation_mode


class HeldoutLoss:
    """The objective's own loss per held-out image; an ``Evaluator``.

    The batches are fixed, and draws such as MAE's masks depend on their positions only: every call, of every run with
    the same seed, asks the same question.
    """

    needs: ClassVar[type] = core.Objective

    def __init__(self, batches: Iterable[core.Batch]) -> None:
        """``batches`` lie on the CPU and go to the objective's device one by one.

        Raises:
            ValueError: if they hold no image that could be read.
        """
        self.batches = tuple(batches)
        self.images = sum(float(batch["weight"].sum()) for batch in self.batches)
        if not self.images:
            raise ValueError("the held-out loss has no readable image to be measured on; check the held-out images")

    def __call__(self, objective: nn.Module) -> dict[str, float]:
        device = next(objective.parameters()).device
        total = 0.0
        with evaluation_mode(objective, device):
            for batch in self.batches:
                # The loss of a batch is sum(weight * loss) / size; undo its denominator to weigh every image alike.
                total += float(objective(core.on_device(batch, device)).loss) * len(batch["weight"])
        return {"heldout_loss": total / self.images}
