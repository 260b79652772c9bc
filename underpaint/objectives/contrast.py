"""Losses of pairs of images and texts within a batch: softmax over all pairs (CLIP) and sigmoid of each (SigLIP).

Rows are the pairs of this rank (``b``), columns those of all ranks (``k``). Texts with equal token ids are positives of
each other's images: such pairs cannot be told apart. A pair of weight 0 (a bad record) is left out of rows and columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.distributed as dist
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

PairLoss = Literal["softmax", "sigmoid"]
LARGEST_SCALE = 100.0
"""Largest factor of the cosines (CLIP): an unlimited one grows until the loss is not finite."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Pairs:
    """Embeddings of length 1 of the pairs of this rank, and of all ranks."""

    image: Float[Tensor, "b e"]
    text: Float[Tensor, "b e"]
    all_images: Float[Tensor, "k e"]
    all_texts: Float[Tensor, "k e"]
    valid: Bool[Tensor, " k"]
    positive: Bool[Tensor, "b k"]
    """Whether a pair's text is equal to that of the column, which is valid."""


def gather_pairs(
    image: Float[Tensor, "b e"],
    text: Float[Tensor, "b e"],
    *,
    ids: Int64[Tensor, "b l"],
    weight: Float[Tensor, " b"],
    over_ranks: bool,
) -> Pairs:
    """The pairs of this rank beside those of all ranks, in the order of the ranks; gradients reach all of them.

    ``over_ranks`` is false in evaluation, where every rank has the same batch.
    """
    first, all_images, all_texts, all_ids, all_weights = 0, image, text, ids, weight
    if over_ranks and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        first = dist.get_rank() * len(ids)
        all_images, all_texts = _gathered(image), _gathered(text)
        all_ids, all_weights = _from_all(ids), _from_all(weight)
    group = torch.unique(all_ids, dim=0, return_inverse=True)[1]
    valid = all_weights > 0
    positive = (group[first : first + len(ids), None] == group[None, :]) & valid
    return Pairs(image=image, text=text, all_images=all_images, all_texts=all_texts, valid=valid, positive=positive)


def softmax_loss(pairs: Pairs, scale: Float[Tensor, ""]) -> Float[Tensor, " b"]:
    """Mean of both directions' cross-entropies: each image among all texts, and each text among all images.

    The target is the same for all positives of a row, and sums to 1 (InfoNCE where there is one).
    """
    return (
        _cross_entropy(scale * pairs.image @ pairs.all_texts.T, pairs)
        + _cross_entropy(scale * pairs.text @ pairs.all_images.T, pairs)
    ) / 2


def _cross_entropy(logits: Float[Tensor, "b k"], pairs: Pairs) -> Float[Tensor, " b"]:
    # the lowest number, not -inf: a batch of bad records alone has weight 0 everywhere, and must not give NaN
    logits = logits.masked_fill(~pairs.valid, torch.finfo(logits.dtype).min)
    target = pairs.positive / pairs.positive.sum(dim=1, keepdim=True).clamp(min=1)
    return -(target * logits.log_softmax(dim=1)).sum(dim=1)


def sigmoid_loss(pairs: Pairs, scale: Float[Tensor, ""], bias: Float[Tensor, ""]) -> Float[Tensor, " b"]:
    """Sum over all texts of the binary cross-entropy of "this text belongs to this image" (SigLIP)."""
    logits = scale * pairs.image @ pairs.all_texts.T + bias
    return (F.softplus(torch.where(pairs.positive, -logits, logits)) * pairs.valid).sum(dim=1)


def clamped_scale(log_scale: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """Factor of the cosines, at most 100, in fp32 at least, since ``ln 100`` rounds up in fp16 and bf16.

    Above the limit the gradient reaches the parameter only where a step would lower it, so that it can come back.
    """
    scale = _ClampedExp.apply(log_scale if log_scale.dtype == torch.float64 else log_scale.float())
    assert isinstance(scale, Tensor)
    return scale


class _ClampedExp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        scale = x.exp().clamp(max=LARGEST_SCALE)
        ctx.save_for_backward(scale)
        return scale

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        (scale,) = ctx.saved_tensors
        return scale * torch.where(scale >= LARGEST_SCALE, gradient.clamp(min=0), gradient)


def _from_all(values: Tensor) -> Tensor:
    """The rows of all ranks, in the order of the ranks."""
    parts = [torch.empty_like(values) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, values.contiguous())
    return torch.cat(parts)


def _gathered(values: Float[Tensor, "b e"]) -> Float[Tensor, "k e"]:
    gathered = _Gather.apply(values)
    assert isinstance(gathered, Tensor)
    return gathered


class _Gather(torch.autograd.Function):
    """Rows of all ranks; the gradient of a row is the sum of those that all ranks have for it."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        ctx.count = len(values)
        return _from_all(values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        total = gradient.clone()
        dist.all_reduce(total)
        first = dist.get_rank() * ctx.count
        return total[first : first + ctx.count]
