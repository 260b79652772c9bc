"""The federated loss: of many classes only some count in an image, since annotators did not look for all (LVIS)."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

FREQUENCY_POWER = 0.5


def counted_classes(
    present: Int64[Tensor, " n"],
    frequency: Float[Tensor, " classes"],
    *,
    count: int,
    draw: Float[Tensor, " classes"],
) -> Float[Tensor, " classes"]:
    """1 for the classes that count in the loss of an image, 0 for the others.

    These are its own classes, filled to ``count`` by a draw without repetition in proportion to the square root of the
    number of images of each class. The background is one of ``count``, as in detectron2. ``draw`` holds uniform
    numbers: the class with the smallest ``-log(draw) / weight`` comes first (Efraimidis and Spirakis).
    """
    counted = torch.zeros_like(frequency)
    counted[present] = 1
    missing = max(0, count - 1 - int(counted.sum()))
    weight = frequency**FREQUENCY_POWER
    race = -torch.log(1 - draw) / weight  # infinite for a class without images
    race[counted > 0] = torch.inf
    chosen = race.argsort(stable=True)[:missing]
    counted[chosen[race[chosen] < torch.inf]] = 1
    return counted
