"""Regions of images: anchors at every place, features pooled from them, and samples of them for a loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from underpaint import keyed_random

Boxes = Float[Tensor, "_n 4"]
"""Left, top, right and bottom in pixels of the network's input."""


def anchors_at(
    places: tuple[int, int], stride: int, *, side: float, ratios: Sequence[float], device: torch.device
) -> Boxes:
    """Anchors of one level, by rows, columns and ratios (height over width), each of the area ``side`` squared.

    Their centres are at multiples of the stride, the first at (0, 0), and nothing is rounded, as in detectron2.
    """
    ratio = torch.tensor(list(ratios), device=device)
    width, height = side * ratio**-0.5, side * ratio**0.5
    around = torch.stack([-width, -height, width, height], dim=1) / 2
    rows, columns = (torch.arange(count, device=device) * float(stride) for count in places)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    centre = torch.stack([x, y, x, y], dim=-1).view(-1, 1, 4)
    return (centre + around).view(-1, 4)


def pool_regions(
    levels: Sequence[Float[Tensor, "b c _rows _columns"]],
    boxes: Sequence[Boxes],
    *,
    strides: Sequence[int],
    side: int,
) -> Float[Tensor, "regions c side side"]:
    """Features of the boxes of all images, each from the level whose stride fits its size (ROIAlign, aligned).

    A box of 14 strides a side belongs to the third level, one of twice the side to the next (FPN, equation 1).
    """
    from torchvision.ops import roi_align  # its package imports torch's compiler: seconds, for runs without boxes too

    image = [torch.full((len(part), 1), float(index), device=part.device) for index, part in enumerate(boxes)]
    rois = torch.cat([torch.cat([number, part], dim=1) for number, part in zip(image, boxes, strict=True)])
    level = level_of(rois[:, 1:], middle_stride=strides[2], count=len(levels))
    pooled, places = [], []
    for index, (features, stride) in enumerate(zip(levels, strides, strict=True)):
        place = torch.where(level == index)[0]
        pooled.append(
            roi_align(features.float(), rois[place], side, spatial_scale=1 / stride, sampling_ratio=0, aligned=True)
        )
        places.append(place)
    return torch.cat(pooled)[torch.cat(places).argsort()]


def level_of(boxes: Boxes, *, middle_stride: int, count: int) -> Int64[Tensor, " n"]:
    """Index of each box's level among ``count``."""
    side = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sqrt()
    return (2 + torch.log2(side / (14 * middle_stride) + 1e-8)).floor().clamp(0, count - 1).long()


def sample_balanced(
    positive: Int64[Tensor, " p"],
    negative: Int64[Tensor, " n"],
    *,
    count: int,
    positive_share: float,
    draw: Float[Tensor, " all"],
) -> tuple[Int64[Tensor, " _p"], Int64[Tensor, " _n"]]:
    """Up to ``count`` of both together, of the positive ones at most a share, of the negative ones what is left.

    ``draw`` holds a uniform number of each candidate; those with the smallest are taken.
    """
    positive = _smallest(positive, draw, int(count * positive_share))
    return positive, _smallest(negative, draw, count - len(positive))


def _smallest(candidates: Int64[Tensor, " n"], draw: Float[Tensor, " all"], count: int) -> Int64[Tensor, " _n"]:
    return candidates[draw[candidates].argsort(stable=True)[:count]]


def draw_of(key: int, position: Int64[Tensor, ""], count: int) -> Float[Tensor, " count"]:
    """A uniform number for each candidate of the image at this position of the stream."""
    return keyed_random.uniform(key, position[None], count)[0]
