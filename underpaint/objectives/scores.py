"""Chunked cross-entropy statistics: logsumexp, label logits and argmax of a linear head without storing all logits.

The scores of a million labels are larger than the network that makes them. In chunks, the way forward keeps one number
per image and what the image's own labels score; the way back computes each chunk of scores anew and writes its part of
the head's gradient. The results are the same: only the order of the sums differs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from underpaint.core import PAD_LABEL

Reduction = Literal["logsumexp", "softplus"]

SCORES = 2**24
"""Scores that may exist at once, 64 MiB in fp32: a batch with more of them is scored in chunks of labels. So is one
whose head has more weights than that to be cast by autocast: in chunks no copy of all of them is made."""

CHUNK = 2**22
"""Scores of a chunk, and weights: both stay in the cache between two uses. The best of 2^19 to 2^26 on a processor: a
quarter more time than the whole in fp32, for the scores made twice, and a third less in bf16, whose casts are shorter.
"""


class Scores(NamedTuple):
    """A row of scores for each image, reduced to what losses are made of; differentiable but for ``best``."""

    log_partition: Float[Tensor, " b"]  # log-sum-exp over all labels, or the sum of their softplus
    total: Float[Tensor, " b"]
    label_logits: Float[Tensor, "b l"]  # of the labels that the image has, 0 where they are padded
    argmax: Int64[Tensor, " b"]  # label with the highest score


def is_chunked(images: int, width: int, labels: int, *, casts: bool) -> bool:
    """The rule; ``casts`` where the weights are in another type than their products."""
    return images * labels > SCORES or (casts and width * labels > SCORES)


def chunk_of(images: int, width: int) -> int:
    """Labels of one chunk."""
    return max(1, CHUNK // max(images, width))


def score(head: nn.Linear, feature: Float[Tensor, "b d"], labels: Int64[Tensor, "b l"], reduction: Reduction) -> Scores:
    """Scores of ``head``, in chunks of labels where the rule says so."""
    casts = _product_type(head.weight) != head.weight.dtype
    if not is_chunked(len(feature), head.in_features, head.out_features, casts=casts):
        return reduce(head(feature).float(), labels, reduction)
    statistics: Any = _InChunks.apply(feature, head.weight, head.bias, labels, reduction)
    return Scores(*statistics)


def _product_type(weight: Tensor) -> torch.dtype:
    device = weight.device.type
    autocast = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)  # meta tensors have none
    return torch.get_autocast_dtype(device) if autocast else weight.dtype


def reduce(scores: Float[Tensor, "b k"], labels: Int64[Tensor, "b l"], reduction: Reduction) -> Scores:
    """The reduced form of the scores of all labels."""
    return Scores(
        log_partition=_reduce(scores, reduction),
        total=scores.sum(dim=1),
        label_logits=scores.gather(1, labels.clamp(min=0)) * (labels != PAD_LABEL),
        argmax=scores.argmax(dim=1),
    )


def _reduce(scores: Tensor, reduction: Reduction) -> Tensor:
    return scores.logsumexp(dim=1) if reduction == "logsumexp" else F.softplus(scores).sum(dim=1)


class _InChunks(torch.autograd.Function):
    """The four fields of Scores from features and the head's weights; products in the type that autocast would take."""

    @staticmethod
    def forward(
        ctx: Any, feature: Tensor, weight: Tensor, bias: Tensor, labels: Tensor, reduction: Reduction
    ) -> tuple[Tensor, ...]:
        ctx.dtype = _product_type(weight)
        ctx.reduction = reduction
        ctx.set_materialize_grads(False)
        with torch.autocast(feature.device.type, enabled=False):
            log_partition, total, label_logits, argmax = _forward(
                feature.to(ctx.dtype), weight, bias, labels, reduction
            )
        ctx.save_for_backward(feature, weight, bias, labels, log_partition)
        ctx.mark_non_differentiable(argmax)
        return log_partition, total, label_logits, argmax

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, to_reduced: Tensor | None, to_total: Tensor | None, to_picked: Tensor | None, _: None
    ) -> tuple[Tensor | None, ...]:
        feature, weight, bias, labels, log_partition = ctx.saved_tensors
        low = feature.to(ctx.dtype)
        to_feature = torch.zeros_like(feature, dtype=log_partition.dtype) if ctx.needs_input_grad[0] else None
        to_weight, to_bias = torch.empty_like(weight), torch.empty_like(bias)
        with torch.autocast(feature.device.type, enabled=False):
            for part, scores in _chunks(low, weight, bias):
                gradient = _to_scores(scores, log_partition, to_reduced, ctx.reduction)
                if to_total is not None:
                    gradient += to_total[:, None]
                if to_picked is not None:
                    place, inside = _places(labels, part)
                    gradient.scatter_add_(1, place, to_picked * inside)
                to_bias[part] = gradient.sum(dim=0)
                gradient = gradient.to(ctx.dtype)
                to_weight[part] = gradient.T @ low
                if to_feature is not None:
                    to_feature += gradient @ weight[part].to(ctx.dtype)
                del scores, gradient  # before the next chunk is made
        return to_feature, to_weight, to_bias, None, None


def _forward(
    feature: Tensor, weight: Tensor, bias: Tensor, labels: Tensor, reduction: Reduction
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    exact = torch.promote_types(feature.dtype, torch.float32)
    total = feature.new_zeros(len(feature), dtype=exact)
    log_partition = torch.full_like(total, -torch.inf) if reduction == "logsumexp" else torch.zeros_like(total)
    label_logits = torch.zeros_like(labels, dtype=exact)
    highest, argmax = torch.full_like(total, -torch.inf), torch.zeros_like(total, dtype=torch.int64)
    for part, scores in _chunks(feature, weight, bias):
        chunk = _reduce(scores, reduction)
        log_partition = torch.logaddexp(log_partition, chunk) if reduction == "logsumexp" else log_partition + chunk
        total += scores.sum(dim=1)
        place, inside = _places(labels, part)
        label_logits += scores.gather(1, place) * inside
        value, index = scores.max(dim=1)
        argmax = torch.where(value > highest, index + part.start, argmax)
        highest = torch.maximum(value, highest)
        del scores  # before the next chunk is made
    return log_partition, total, label_logits, argmax


def _chunks(feature: Tensor, weight: Tensor, bias: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Labels from and to, and their scores, exact in the sums that follow."""
    size, exact = chunk_of(*feature.shape), torch.promote_types(feature.dtype, torch.float32)
    for first in range(0, len(weight), size):
        part = slice(first, min(first + size, len(weight)))
        yield part, F.linear(feature, weight[part].to(feature.dtype), bias[part].to(feature.dtype)).to(exact)


def _places(labels: Tensor, part: slice) -> tuple[Tensor, Tensor]:
    """Column of each label within a chunk, and whether it lies in the chunk; padding lies in none."""
    inside = (labels >= part.start) & (labels < part.stop)
    return (labels - part.start).clamp(0, part.stop - part.start - 1), inside


def _to_scores(scores: Tensor, log_partition: Tensor, to_reduced: Tensor | None, reduction: Reduction) -> Tensor:
    """Gradient of the reduction for a chunk of scores, in their place."""
    if to_reduced is None:
        return scores.zero_()
    slope = scores.sub_(log_partition[:, None]).exp_() if reduction == "logsumexp" else scores.sigmoid_()
    return slope.mul_(to_reduced[:, None])
