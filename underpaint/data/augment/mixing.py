"""Mixup (Zhang et al. 2017) and CutMix (Yun et al. 2019): images of a batch are blended, or exchange a rectangle.

A published batch of one process has one ratio, and is mixed with itself in reverse order. Here the group that is mixed
so is a number of consecutive samples, so that it does not depend on the microbatch and on the number of processes.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from underpaint import keyed_random
from underpaint.core import LabelBatch
from underpaint.data.augment.draws import Draws
from underpaint.data.augment.options import Augment


class Mix(NamedTuple):
    """How a group of samples is mixed."""

    share: float
    """Share of each sample's own image; 1 where it is not mixed."""
    box: tuple[int, int, int, int] | None
    """Top, bottom, left and right of the rectangle that comes from the partner; None where images are blended."""


def draw_mix(augment: Augment, size: tuple[int, int], draws: Draws) -> Mix:
    """Draw ratio and rectangle of a group as timm's Mixup does, with CutMix's ratio corrected by the actual area."""
    if draws.uniform() >= augment.mix_probability:
        return Mix(1.0, None)
    cuts = augment.cutmix > 0 and (augment.mixup == 0 or draws.uniform() < augment.switch_probability)
    share = draws.beta(augment.cutmix if cuts else augment.mixup)
    if not cuts:
        return Mix(share, None)
    centre = draws.whole(size[0]), draws.whole(size[1])
    return cut_box(share, size, centre)


def cut_box(share: float, size: tuple[int, int], centre: tuple[int, int]) -> Mix:
    """The rectangle about a centre, cut off at the border, that leaves about ``share`` of the image."""
    ratio = math.sqrt(1 - share)
    sides: list[tuple[int, int]] = []
    for place, length in zip(centre, size, strict=True):
        side = int(length * ratio)
        sides.append((max(place - side // 2, 0), min(place + (side + 1) // 2, length)))
    (top, bottom), (left, right) = sides
    return Mix(1 - (bottom - top) * (right - left) / (size[0] * size[1]), (top, bottom, left, right))


def mix_batch(batch: LabelBatch, augment: Augment, *, key: int) -> None:
    """Mix the images of each group, in place, and give every sample the labels of its partner beside its own.

    A sample whose partner is a placeholder of a bad record is left as it is.
    """
    image, labels, weight = batch["image"], batch["labels"], batch["weight"]
    size = image.shape[-2], image.shape[-1]
    share = torch.ones(len(image))
    partner = torch.empty_like(labels)
    for start in range(0, len(image), augment.mix_group):
        group = slice(start, start + augment.mix_group)
        number = int(batch["position"][start]) // augment.mix_group
        mix = draw_mix(augment, size, Draws(keyed_random.sample_seed(key, number)))
        partner[group] = labels[group].flip(0)
        mixed = (weight[group] > 0) & (weight[group].flip(0) > 0)
        share[group] = torch.where(mixed, mix.share, 1.0)
        if mix.share < 1:
            image[group] = torch.where(mixed[:, None, None, None], mix_images(image[group], mix), image[group])
    batch["labels"] = torch.cat([labels, partner], dim=1)
    batch["share"] = share


def mix_images(image: Float[Tensor, "b c h w"], mix: Mix) -> Float[Tensor, "b c h w"]:
    """The group mixed with itself in reverse order."""
    if mix.box is None:
        return image.mul(mix.share).add_(image.flip(0).mul_(1 - mix.share))
    top, bottom, left, right = mix.box
    mixed = image.clone()
    mixed[:, :, top:bottom, left:right] = image.flip(0)[:, :, top:bottom, left:right]
    return mixed
