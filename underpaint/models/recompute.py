"""Linear layers that keep what their input is made of, and not the input: norms and GELU are computed again on the way
back, which costs little arithmetic and saves more than a third of what a block keeps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.autograd.graph import get_gradient_edge
from torch.nn import functional as F

Before = Callable[..., Tensor]
"""From x, and the tensors it has of its own, to the input of the layer."""


def linear_after(
    before: nn.LayerNorm | Before | None,
    linear: nn.Linear,
    x: Float[Tensor, "b n _i"],
    *,
    sum_of: tuple[Tensor, Tensor] | None = None,
) -> Float[Tensor, "b n _o"]:
    """linear(before(x)); a layer with ``recomputes_input`` (set in training/parallel.py) keeps x and not before(x), and
    no bf16 copies of x and of its weight. Where x is the ``sum_of`` two tensors, these are kept: the first is kept
    anyway, and the second, what a branch returns, may be in bf16.

    A compiler decides this by itself, so compiled and exported graphs have the plain form.
    """
    if not (recomputes_input(linear) and x.requires_grad):
        return linear(x if before is None else before(x))
    first, second = sum_of or (x, None)
    given = (x, first.detach(), None if second is None else second.detach(), linear.weight, linear.bias)
    found: Any
    if isinstance(before, nn.LayerNorm):
        found = LinearAfter.apply(_norm(before), *given, before.weight, before.bias)
    else:
        found = LinearAfter.apply(before or _itself, *given)
    return found


def recomputes_input(linear: nn.Module) -> bool:
    """Whether it was asked for, and something is kept at all."""
    if torch.compiler.is_compiling() or torch.compiler.is_exporting() or not torch.is_grad_enabled():
        return False
    return getattr(linear, "recomputes_input", False)


def _itself(x: Tensor) -> Tensor:
    return x


def _norm(norm: nn.LayerNorm) -> Before:
    shape, eps = norm.normalized_shape, norm.eps
    return lambda x, weight, bias: F.layer_norm(x, shape, weight, bias, eps)


class LinearAfter(torch.autograd.Function):
    """Values and gradients are those of the plain form; bias gradients are summed by a product, which is faster."""

    @staticmethod
    def forward(
        ctx: Any,
        before: Before,
        x: Tensor,
        first: Tensor,
        second: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        *parameters: Tensor,
    ) -> Float[Tensor, ...]:
        device = x.device.type
        ctx.before, ctx.autocast = before, torch.is_autocast_enabled(device)
        ctx.dtype = torch.get_autocast_dtype(device) if ctx.autocast else weight.dtype
        ctx.save_for_backward(first, second, weight, *parameters)
        inside = before(x, *parameters).to(ctx.dtype)
        with torch.autocast(device, enabled=False):
            return F.linear(inside, weight.to(ctx.dtype), bias.to(ctx.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        first, second, weight, *parameters = ctx.saved_tensors
        x = first if second is None else first + second
        device = x.device.type
        leaves = [value.detach().requires_grad_() for value in (x, *parameters)]
        with torch.enable_grad(), torch.autocast(device, ctx.dtype, enabled=ctx.autocast):
            inside = ctx.before(*leaves).to(ctx.dtype)
        with torch.autocast(device, enabled=False):
            rows = gradient.flatten(0, -2)
            to_weight = (rows.t() @ inside.detach().flatten(0, -2)).to(weight.dtype)
            to_bias = (rows.new_ones(1, len(rows)) @ rows)[0].to(weight.dtype)
            shape, edge = inside.shape, get_gradient_edge(inside)
            del inside  # as large as its gradient, which needs the way back alone
            to_inside = (rows @ weight.to(ctx.dtype)).view(shape)
            to_x, *to_parameters = torch.autograd.grad(edge, leaves, to_inside)
        return None, to_x, None, None, to_weight, to_bias, *to_parameters
