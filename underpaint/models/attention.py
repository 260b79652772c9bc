"""Scaled dot-product attention, and the one rule that says which kernel computes it.

torch's fused attention is right on accelerators. On processors its backward pass is slow for the short sequences of
images, most of all in bf16: batched products over a few samples at a time, whose scores stay in the cache, are faster
there at equal mathematics. Both keep q, k and v for the way back and compute the probabilities anew.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

SCORES = 2**20
"""Scores that one batched product may have: 4 MiB in fp32, the best of 2^16 to 2^30 (``benchmarks/attention.py``)."""

FP32_KEYS, BF16_TOKENS = 8192, 1024
"""Up to so many tokens times the width of a head in fp32, and so many tokens in bf16, the products were faster."""


def uses_products(device: str, dtype: torch.dtype, tokens: int, width: int) -> bool:
    """The rule, for training; ``tokens`` are those attended to, ``width`` is that of one head."""
    if device != "cpu":
        return False
    return tokens <= BF16_TOKENS if dtype == torch.bfloat16 else tokens * width <= FP32_KEYS


def attention(*packed: Float[Tensor, "b _tokens _parts heads w"]) -> Float[Tensor, "b m heads w"]:
    """softmax(q k' / sqrt(w)) v by the faster kernel: always the fused one without gradients and in exported graphs.

    ``packed`` are q, k and v as their projections return them: (b, n, 3, heads, w), or, from one set of tokens to
    another, (b, m, 1, heads, w) and (b, n, 2, heads, w). Taken apart and put together by the caller they would be
    copied three times as often.
    """
    _, tokens, _, _, width = packed[-1].shape
    device, dtype = packed[0].device.type, packed[0].dtype
    trained = torch.is_grad_enabled() and any(values.requires_grad for values in packed)
    if trained and not torch.compiler.is_exporting() and uses_products(device, dtype, tokens, width):
        output: Any = Products.apply(*packed)
        return output
    q, k, v = (part for values in packed for part in values.permute(2, 0, 3, 1, 4).unbind(0))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2)


class Products(torch.autograd.Function):
    """Attention as batched products over slices of the batch; never more than SCORES scores exist at once."""

    @staticmethod
    def forward(ctx: Any, *packed: Tensor) -> Tensor:
        by_head = [values.permute(2, 0, 3, 1, 4).contiguous() for values in packed]  # products would copy each slice
        ctx.save_for_backward(*by_head)
        q, k, v = (part for values in by_head for part in values)
        out = packed[0].new_empty(packed[0][:, :, 0].shape)
        with torch.autocast(q.device.type, enabled=False):
            for part in _slices(q, k):
                out[part] = (_probabilities(q[part], k[part]) @ v[part]).transpose(1, 2)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        by_head = ctx.saved_tensors
        q, k, v = (part for values in by_head for part in values)
        gradient = gradient.transpose(1, 2).contiguous()
        packed = tuple(_packed_like(values) for values in by_head)
        to_q, to_k, to_v = (part for values in packed for part in values.permute(2, 0, 3, 1, 4).unbind(0))
        scale = 1 / math.sqrt(q.shape[-1])
        with torch.autocast(q.device.type, enabled=False):
            for part in _slices(q, k):
                probabilities, given = _probabilities(q[part], k[part]), gradient[part]
                to_v[part] = probabilities.transpose(-2, -1) @ given
                to_probabilities = given @ v[part].transpose(-2, -1)
                to_scores = torch.ops.aten._softmax_backward_data(to_probabilities, probabilities, -1, q.dtype)
                to_q[part] = _product(to_scores, k[part], scale)
                to_k[part] = _product(to_scores.transpose(-2, -1), q[part], scale)
        return packed


def _probabilities(q: Tensor, k: Tensor) -> Tensor:
    return _product(q, k.transpose(-2, -1), 1 / math.sqrt(q.shape[-1])).softmax(dim=-1)


def _product(a: Tensor, b: Tensor, scale: float) -> Tensor:
    """A @ b * scale, scaled within the product: by itself that is another way through all scores."""
    product = torch.baddbmm(a.new_empty(1, 1, 1), a.flatten(0, 1), b.flatten(0, 1), beta=0, alpha=scale)
    return product.unflatten(0, a.shape[:2])


def _packed_like(by_head: Float[Tensor, "parts b heads n w"]) -> Float[Tensor, "b n parts heads w"]:
    parts, b, heads, n, w = by_head.shape
    return by_head.new_empty(b, n, parts, heads, w)


def _slices(q: Tensor, k: Tensor) -> Iterator[slice]:
    b, heads, m, _ = q.shape
    size = max(1, SCORES // (heads * m * k.shape[2]))
    return (slice(first, first + size) for first in range(0, b, size))
