"""Views of an image with its objects: large-scale jitter for training, the whole image for evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Num, UInt8
from torch import Tensor
from torch.nn import functional as F

from underpaint import keyed_random
from underpaint.core import UNKNOWN_MASK
from underpaint.data.detection.shapes import Shape, mask_over

SMALLEST_SIDE = 1e-5
"""Objects less wide or high in a view, in pixels, are left out of it, as in detectron2."""


@dataclass(frozen=True, kw_only=True)
class Placement:
    """How a view shows an image: resized, perhaps mirrored, and from some place on; its lower right may be empty."""

    resized: tuple[int, int]
    """Height and width of the whole image in pixels of the view."""
    offset: tuple[int, int]
    """Top and left of the view in the resized, perhaps mirrored, image."""
    extent: tuple[int, int]
    """Height and width of the part of the view that shows the image."""
    mirrored: bool


def jittered(
    height: int, width: int, *, size: tuple[int, int], scale: tuple[float, float], flip: bool, seed: int
) -> Placement:
    """Large-scale jitter (Ghiasi et al. 2021): a random size, a random crop of larger images, and mirroring.

    The image, fitted into ``size`` times a factor drawn from ``scale``, is cut to ``size`` at a place drawn for each
    axis; a smaller one lies in the upper left corner. (detectron2 draws one number for both axes.)
    """
    factor, down, right = (keyed_random.mix(seed, number) / 2**64 for number in range(1, 4))
    resized = fitted(height, width, size, scale[0] + (scale[1] - scale[0]) * factor)
    free = (max(resized[0] - size[0], 0), max(resized[1] - size[1], 0))
    return Placement(
        resized=resized,
        offset=(round(free[0] * down), round(free[1] * right)),
        extent=(min(resized[0], size[0]), min(resized[1], size[1])),
        mirrored=flip and bool(keyed_random.mix(seed, 0) & 1),
    )


def whole(height: int, width: int, *, size: tuple[int, int]) -> Placement:
    """The whole image, as large as ``size`` allows."""
    resized = fitted(height, width, size, 1.0)
    return Placement(resized=resized, offset=(0, 0), extent=resized, mirrored=False)


def fitted(height: int, width: int, size: tuple[int, int], factor: float) -> tuple[int, int]:
    """Height and width of the image fitted into ``factor`` times ``size``, its shape kept."""
    scale = min(size[0] * factor / height, size[1] * factor / width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def show(image: Num[Tensor, "c h w"], placement: Placement) -> Num[Tensor, "c out_h out_w"]:
    """The part of the view that shows the image; bilinear with antialiasing, 8-bit images stay 8-bit."""
    resized = F.interpolate(image[None], size=placement.resized, mode="bilinear", align_corners=False, antialias=True)[
        0
    ]
    resized = resized.flip(-1) if placement.mirrored else resized
    (top, left), (high, wide) = placement.offset, placement.extent
    return resized[:, top : top + high, left : left + wide]


def moved(boxes: Float[Tensor, "n 4"], stored: tuple[int, int], placement: Placement) -> Float[Tensor, "n 4"]:
    """Boxes of the stored image in pixels of the view, cut off at its border; some may be empty."""
    down, across = (new / old for new, old in zip(placement.resized, stored, strict=True))
    boxes = boxes * torch.tensor([across, down, across, down])
    if placement.mirrored:
        boxes = torch.stack(
            [placement.resized[1] - boxes[:, 2], boxes[:, 1], placement.resized[1] - boxes[:, 0], boxes[:, 3]], dim=1
        )
    (top, left), (high, wide) = placement.offset, placement.extent
    boxes = boxes - torch.tensor([left, top, left, top])
    return torch.minimum(boxes.clamp(min=0), torch.tensor([wide, high, wide, high], dtype=boxes.dtype))


def visible(boxes: Float[Tensor, "n 4"], most: int) -> Tensor:
    """Places of the boxes that are not empty, of the largest ``most`` where there are more, ascending."""
    sides = boxes[:, 2:] - boxes[:, :2]
    kept = torch.where((sides > SMALLEST_SIDE).all(dim=1))[0]
    if len(kept) > most:
        kept = kept[sides[kept].prod(dim=1).argsort(descending=True, stable=True)[:most]].sort().values
    return kept


def masks_over(
    shapes: Sequence[Shape], boxes: Float[Tensor, "n 4"], stored: tuple[int, int], placement: Placement, side: int
) -> UInt8[Tensor, "n side side"]:
    """Mask of each object over its box in the view: its shape at the centres of ``side`` x ``side`` cells.

    An object without a shape has UNKNOWN_MASK everywhere.
    """
    down, across = (old / new for new, old in zip(placement.resized, stored, strict=True))
    step = (np.arange(side) + 0.5) / side
    masks = np.zeros((len(shapes), side, side), dtype=np.uint8)
    for mask, shape, (x0, y0, x1, y1) in zip(masks, shapes, boxes.double().tolist(), strict=True):
        if not shape:
            mask[:] = UNKNOWN_MASK
            continue
        x = placement.offset[1] + x0 + (x1 - x0) * step
        x = placement.resized[1] - x if placement.mirrored else x
        y = placement.offset[0] + y0 + (y1 - y0) * step
        mask[:] = mask_over(shape, x * across, y * down)
    return torch.from_numpy(masks)
