"""Comparison of the pixels of two images: their views are laid over each other to see if they show one picture.

A re-encoded, resized, cropped, mirrored copy, or one on another ground, differs little everywhere once it lies where
it should. False friends (two flags, two letters, two clocks, stars of five and of six points) may differ little on the
whole, but differ much in some place. So the greatest of four differences counts, each as a share of the most that
copies show: on average, in the worst place, in correlation, and in shape. The limits were chosen on transformed
drawings and photographs and on pairs of the collections.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional as F

from underpaint.data.near_duplicates.fingerprints import FULL, SIDE, Views

MEAN_LIMIT = 0.05
"""Largest mean absolute difference of near duplicates' values, in [0, 1], where anything is drawn."""
PLACE_LIMIT = 0.12
"""Largest mean absolute difference of near duplicates in the worst of the overlapping squares of PLACE pixels."""
PLACE = 4
"""Side of the compared squares in pixels."""
CORRELATION_LIMIT = 0.08
"""Largest value for near duplicates of one minus the correlation of the values where anything is drawn."""
SHAPE_LIMIT = 0.12
"""Largest difference for near duplicates of the logarithms of their ratios of width to height."""

DUPLICATE = 1.0
"""Largest difference of near duplicates, as ``differences`` returns it."""
FARTHEST = 4.0
"""Largest difference, of pairs that do not fit over each other."""

_LEAST_OVERLAP = 0.7
_REACH = 0.22
"""Largest deviation of scales from 1 and of shifts from 0, in units in which views are 2 wide."""
_STEPS = 6
_INERTIA = 1.0
_CHUNK = 512
_INK = 0.1
_FAINTEST = 8.0
"""Largest factor by which faint drawings are made darker, without which they would all look alike."""
_LUMA = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)

_Batch = Float[Tensor, "n c h w"]


def differences(
    first: Views,
    second: Views,
    pairs: Int64[np.ndarray, "n 2"],
    *,
    mirrored: Bool[np.ndarray, " n"],
    scale: Float[np.ndarray, " n"],
) -> Float[np.ndarray, " n"]:
    """The difference of the images of each pair, from 0 (the same) over DUPLICATE (its limit) to FARTHEST.

    ``pairs`` holds indices into ``first`` and ``second``; ``mirrored`` says whether the second image is to be mirrored,
    and ``scale`` approximately what part of it the first one shows. The better of the two views counts.
    """
    smallest = np.full(len(pairs), FARTHEST)
    for view in range(2):
        first_pixels, second_pixels = first.pixels[:, view], second.pixels[:, view]
        usable = np.flatnonzero(~(first.flat[pairs[:, 0], view] | second.flat[pairs[:, 1], view]))
        ratio = np.log(first.ratio[pairs[:, 0], view] / second.ratio[pairs[:, 1], view])
        for start in range(0, len(usable), _CHUNK):
            some = usable[start : start + _CHUNK]
            a, b = _ink(first_pixels[pairs[some, 0]]), _ink(second_pixels[pairs[some, 1]])
            b = torch.where(torch.from_numpy(mirrored[some])[:, None, None, None], b.flip(-1), b)
            begin = torch.from_numpy(np.ones(len(some)) if view == FULL else scale[some])
            difference = _difference(a, b, begin, torch.from_numpy(ratio[some])).numpy()
            smallest[some] = np.minimum(smallest[some], difference)
    return smallest.round(3)  # so that no rounding error of another machine moves a pair over a limit


def _ink(pixels: np.ndarray) -> _Batch:
    """The darkness of pixels, 0 for white and 1 for black, slightly blurred, since copies are sharper or softer."""
    ink = 1 - torch.from_numpy(pixels).permute(0, 3, 1, 2).to(torch.float64) / 255
    row = torch.tensor([0.25, 0.5, 0.25], dtype=torch.float64)
    kernel = (row[:, None] * row).expand(3, 1, 3, 3)
    return F.conv2d(F.pad(ink, (1, 1, 1, 1), mode="replicate"), kernel, groups=3)


def _difference(a: _Batch, b: _Batch, scale: Float[Tensor, " n"], ratio: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    darkest = torch.maximum(a.amax((1, 2, 3)), b.amax((1, 2, 3)))
    gain = (0.5 / darkest.clamp(min=1e-6)).clamp(1, _FAINTEST)[:, None, None, None]
    a, b = a * gain, b * gain
    still = torch.zeros_like(scale)
    start = torch.stack([scale, scale, still, still], 1)
    return torch.minimum(_apart(a, b, start, ratio), _apart(a, b, _laid_over(a, b, start), ratio))


def _apart(a: _Batch, b: _Batch, placing: Float[Tensor, "n 4"], ratio: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """The greatest of the four differences between ``a`` and ``b``, with ``b`` resampled by the placing."""
    moved, inside = _warped(b, placing)
    drawn = ((torch.maximum(a, moved).amax(1, keepdim=True) > _INK) & inside).to(a)
    error = (a - moved).abs().mean(1, keepdim=True) * inside
    count = drawn.sum((1, 2, 3)).clamp(min=PLACE * PLACE)
    measured = torch.stack(
        [
            (error * drawn).sum((1, 2, 3)) / count / MEAN_LIMIT,
            F.avg_pool2d(error, PLACE, PLACE // 2).amax((1, 2, 3)) / PLACE_LIMIT,
            (1 - _correlation(a, moved, drawn)) / CORRELATION_LIMIT,
            ((placing[:, 0] / placing[:, 1]).log() - ratio).abs() / SHAPE_LIMIT,
        ]
    )
    overlap = inside.to(a).mean((1, 2, 3))
    return torch.where(overlap >= _LEAST_OVERLAP, measured.amax(0), FARTHEST).clamp(max=FARTHEST)


def _correlation(a: _Batch, b: _Batch, drawn: Float[Tensor, "n 1 h w"]) -> Float[Tensor, " n"]:
    """The correlation over the drawn pixels and all channels; near 1 where neither varies, as in silhouettes."""
    count = 3 * drawn.sum((1, 2, 3), keepdim=True).clamp(min=1)
    a = (a - (a * drawn).sum((1, 2, 3), keepdim=True) / count) * drawn
    b = (b - (b * drawn).sum((1, 2, 3), keepdim=True) / count) * drawn
    little = 1e-4 * count[:, 0, 0, 0]
    common = (a * b).sum((1, 2, 3)) + little
    return common / ((a.square().sum((1, 2, 3)) * b.square().sum((1, 2, 3))).sqrt() + little)


def _laid_over(a: _Batch, b: _Batch, start: Float[Tensor, "n 4"]) -> Float[Tensor, "n 4"]:
    """Two scales and two shifts of ``b`` that lay it over ``a``, by Gauss-Newton on the grey values, within _REACH."""
    weights = _LUMA[None, :, None, None]
    a, b = (a * weights).sum(1, keepdim=True), (b * weights).sum(1, keepdim=True)
    wide, high = F.pad(b, (1, 1, 0, 0), mode="replicate"), F.pad(b, (0, 0, 1, 1), mode="replicate")
    slopes = torch.cat([b, wide[..., 2:] - wide[..., :-2], high[..., 2:, :] - high[..., :-2, :]], 1)
    slopes[:, 1:] *= SIDE / 4  # central differences, of a view that is 2 wide
    place = torch.linspace(-1 + 1 / SIDE, 1 - 1 / SIDE, SIDE, dtype=torch.float64)
    middle = torch.tensor([1.0, 1.0, 0.0, 0.0], dtype=torch.float64)
    inertia = _INERTIA * torch.eye(4, dtype=torch.float64)  # where little tells which way, stay at the start
    placing = start
    for _ in range(_STEPS):
        moved, inside = _warped(slopes, placing)
        value, right, down = (moved * inside).chunk(3, 1)
        error = (a * inside - value).flatten(1)[..., None]
        jacobian = torch.stack([right * place, down * place[:, None], right, down], -1).flatten(1, 3)
        transposed = jacobian.transpose(1, 2)
        slope = (transposed @ error)[..., 0] - _INERTIA * (placing - start)
        placing = placing + torch.linalg.solve(transposed @ jacobian + inertia, slope)
        placing = torch.minimum(torch.maximum(placing, middle - _REACH), middle + _REACH)
    return placing


def _warped(images: _Batch, placing: Float[Tensor, "n 4"]) -> tuple[_Batch, Bool[Tensor, "n 1 h w"]]:
    """The images resampled by the placing, and a mask of the pixels that lie inside them."""
    matrix = torch.zeros(len(images), 2, 3, dtype=images.dtype)
    matrix[:, 0, 0], matrix[:, 1, 1], matrix[:, :, 2] = placing[:, 0], placing[:, 1], placing[:, 2:]
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    inside = (grid.abs() <= 1).all(-1)[:, None]
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False), inside
