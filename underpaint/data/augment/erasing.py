"""Random erasing (Zhong et al. 2017) as in published finetuning: a rectangle of a normalised image becomes noise."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from underpaint.data.augment.draws import Draws

AREA = (0.02, 1 / 3)
"""Range of the rectangle's share of the image."""
ASPECT = (0.3, 1 / 0.3)
"""Range of the ratio of its height to its width, uniform in the logarithm."""
ATTEMPTS = 10


def erase(image: Float[Tensor, "c h w"], *, probability: float, seed: int) -> None:
    """Fill a random rectangle of the normalised image with N(0, 1), in place, with this probability."""
    box = erased_box(image.shape[-2], image.shape[-1], probability=probability, draws=Draws(seed))
    if box is not None:
        top, left, height, width = box
        noise = torch.randn(len(image), height, width, generator=torch.Generator().manual_seed(seed))
        image[:, top : top + height, left : left + width] = noise


def erased_box(height: int, width: int, *, probability: float, draws: Draws) -> tuple[int, int, int, int] | None:
    """Top, left, height and width of the rectangle; None where nothing is erased, or no attempt fits."""
    if draws.uniform() >= probability:
        return None
    for _ in range(ATTEMPTS):
        area = draws.uniform(*AREA) * height * width
        aspect = math.exp(draws.uniform(math.log(ASPECT[0]), math.log(ASPECT[1])))
        h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if h < height and w < width:
            return draws.whole(height - h + 1), draws.whole(width - w + 1), h, w
    return None
