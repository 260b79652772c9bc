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


def attention(
    q: Float[Tensor, "b heads m w"], k: Float[Tensor, "b heads n w"], v: Float[Tensor, "b heads n w"]
) -> Float[Tensor, "b heads m w"]:
    """softmax(q k' / sqrt(w)) v by the faster kernel: always the fused one without gradients and in exported graphs."""
    trained = torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad)
    if trained and not torch.compiler.is_exporting() and uses_products(q.device.type, q.dtype, k.shape[2], k.shape[3]):
        found: Any = Products.apply(q, k, v)
        return found
    return F.scaled_dot_product_attention(q, k, v)


class Products(torch.autograd.Function):
    """Attention as batched products over slices of the batch; never more than SCORES scores exist at once."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        ctx.save_for_backward(q, k, v)
        out = _empty_like(q)
        with torch.autocast(q.device.type, enabled=False):
            for part in _slices(q, k):
                out[part] = _probabilities(q[part], k[part]) @ v[part]
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        q, k, v = ctx.saved_tensors
        scale = 1 / math.sqrt(q.shape[-1])
        to_q, to_k, to_v = _empty_like(q), _empty_like(k), _empty_like(v)
        with torch.autocast(q.device.type, enabled=False):
            for part in _slices(q, k):
                probabilities, given = _probabilities(q[part], k[part]), gradient[part]
                to_v[part] = probabilities.transpose(-2, -1) @ given
                to_probabilities = given @ v[part].transpose(-2, -1)
                to_scores = torch.ops.aten._softmax_backward_data(to_probabilities, probabilities, -1, q.dtype)
                to_q[part] = _product(to_scores, k[part], scale)
                to_k[part] = _product(to_scores.transpose(-2, -1), q[part], scale)
        return to_q, to_k, to_v


def _probabilities(q: Tensor, k: Tensor) -> Tensor:
    return _product(q, k.transpose(-2, -1), 1 / math.sqrt(q.shape[-1])).softmax(dim=-1)


def _product(a: Tensor, b: Tensor, scale: float) -> Tensor:
    """A @ b * scale, scaled within the product: by itself that is another way through all scores."""
    found = torch.baddbmm(a.new_empty(1, 1, 1), a.flatten(0, 1), b.flatten(0, 1), beta=0, alpha=scale)
    return found.unflatten(0, a.shape[:2])


def _empty_like(x: Tensor) -> Tensor:
    """With the heads of a token side by side, as they lie in q, k and v: the projections need no copy."""
    b, heads, n, w = x.shape
    return x.new_empty(b, n, heads, w).transpose(1, 2)


def _slices(q: Tensor, k: Tensor) -> Iterator[slice]:
    b, heads, m, _ = q.shape
    size = max(1, SCORES // (heads * m * k.shape[2]))
    return (slice(first, first + size) for first in range(0, b, size))
