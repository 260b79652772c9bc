"""Lean transformer blocks: norms and GELU are computed again in the backward pass instead of being kept.

That costs little arithmetic and saves more than a third of what a block keeps. ``make_lean`` swaps the forward pass of
a whole block; values, gradients and the names of the parameters are those of the plain block (models/vit.py).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.autograd.graph import get_gradient_edge
from torch.nn import functional as F

from underpaint.models.attention import attention
from underpaint.models.mae_decoder import CrossBlock
from underpaint.models.vit import Attention, Block, dropped

Before = Callable[..., Tensor]
"""Maps x, and parameters if it has any, to the input of a linear layer."""


def make_lean(block: nn.Module) -> None:
    """Swap the forward pass of a block for its lean form, in place.

    Without gradients, and in graphs that a compiler or an exporter reads, the block stays plain: nothing is kept
    there, or the compiler decides by itself.

    Raises:
        ValueError: for a block of a class that has no lean form.
    """
    if not (isinstance(block, CrossBlock) or (isinstance(block, Block) and type(block.attn) is Attention)):
        raise ValueError(
            f"parallel.recompute_pointwise=true has no form for blocks of this class or with windows, "
            f"{type(block).__name__}; leave it false, or take parallel.checkpoint_activations=true"
        )
    plain: Callable[..., Tensor] = block.forward
    lean = partial(_lean_cross_block if isinstance(block, CrossBlock) else _lean_block, block)

    def forward(*given: Tensor | None) -> Tensor:
        compiled = torch.compiler.is_compiling() or torch.compiler.is_exporting()
        return plain(*given) if compiled or not torch.is_grad_enabled() else lean(*given)

    setattr(block, "forward", forward)  # noqa: B010  the two classes of blocks take different arguments


def _lean_block(
    block: Block, x: Float[Tensor, "b n d"], drop_path: Float[Tensor, "b 2"] | None = None
) -> Float[Tensor, "b n d"]:
    (b, n, d), attn = x.shape, block.attn
    qkv = linear_after(block.norm1, attn.qkv, x).view(b, n, 3, attn.heads, d // attn.heads)
    attended = dropped(linear_after(None, attn.proj, attention(qkv).flatten(2)), drop_path, branch=0)
    return _with_lean_mlp(block, x, attended, drop_path)


def _lean_cross_block(
    block: CrossBlock, x: Float[Tensor, "b m d"], context: Float[Tensor, "b n d"]
) -> Float[Tensor, "b m d"]:
    (b, m, d), n, attn = x.shape, context.shape[1], block.attn
    q = linear_after(block.norm1, attn.q, x).view(b, m, 1, attn.heads, d // attn.heads)
    kv = linear_after(None, attn.kv, context).view(b, n, 2, attn.heads, d // attn.heads)
    return _with_lean_mlp(block, x, linear_after(None, attn.proj, attention(q, kv).flatten(2)), None)


def _with_lean_mlp(
    block: Block | CrossBlock, x: Tensor, attended: Tensor, drop_path: Float[Tensor, "b 2"] | None
) -> Tensor:
    """The second half of a block: the sum of its input and its attention, and the MLP on top."""
    both = x + attended
    hidden = linear_after(block.norm2, block.mlp.fc1, both, sum_of=(x, attended))
    return both + dropped(linear_after(F.gelu, block.mlp.fc2, hidden), drop_path, branch=1)


def linear_after(
    before: nn.LayerNorm | Before | None,
    linear: nn.Linear,
    x: Float[Tensor, "b n _i"],
    *,
    sum_of: tuple[Tensor, Tensor] | None = None,
) -> Float[Tensor, "b n _o"]:
    """linear(before(x)) that keeps x and not before(x), and no bf16 copies of x and of the weight.

    If x is the ``sum_of`` two tensors, these are kept: the first is kept anyway, and the second, which a branch
    returns, may be in bf16. A layer of another class than nn.Linear (float8) keeps its input its own way.
    """
    if type(linear) is not nn.Linear or not x.requires_grad:
        return linear(x if before is None else before(x))
    first, second = sum_of or (x, None)
    kept = (x, first.detach(), None if second is None else second.detach(), linear.weight, linear.bias)
    if isinstance(before, nn.LayerNorm):
        return _apply(_norm(before), *kept, before.weight, before.bias)
    return _apply(before or _itself, *kept)


def _apply(*given: Before | Tensor | None) -> Tensor:
    out = LinearAfter.apply(*given)
    assert isinstance(out, Tensor)
    return out


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
