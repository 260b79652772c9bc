"""Bytes that autograd keeps of a training step, layer by layer, in closed form: the ground of the memory plan.

Counted for the blocks of this package as they stand in ``models/``, in the units ``b`` samples, ``n`` tokens, ``d``
width. Inputs of matrix products are kept in the type of the computation; attention keeps q, k, v, its output and one
fp32 number per query and head (the flash and memory-efficient kernels of CUDA; those of ``models/attention.py`` on a
processor keep the same or a little less; never the n x n scores).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from underpaint.models.mae_decoder import DecoderConfig

FP32 = 4


@dataclass(frozen=True, kw_only=True)
class Types:
    """Bytes of one number."""

    compute: int  # in matrix products
    stream: int  # between the blocks: fp32 under autocast alone, the compute type where FSDP gathers bf16 weights
    norm: int  # input of a normalisation as it is kept; autocast on CUDA makes an fp32 copy of it
    lean: bool = False  # blocks compute norms, GELU and bf16 copies of their weights again (models/recompute.py)


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One stretch of the forward pass, in its order; all sizes in bytes."""

    parameters: tuple[str, ...]  # prefixes of the names of its parameters
    saved: int  # kept from its forward to its backward pass
    forward: int = 0  # further bytes at the peak of its forward pass
    graphless: int = 0  # bytes at the peak of its forward pass when nothing is kept
    backward: int = 0  # further bytes at the peak of its backward pass, while ``saved`` is all there
    source: int = 0  # its input, the part of ``saved`` that remains under checkpointing
    block: bool = False  # a transformer block: checkpointed and sharded as one
    pieces: bool = False  # autocast casts its weights piece by piece, and again on the way back
    recast: bool = False  # the same, each weight whole


def frozen(layers: Iterable[Layer]) -> list[Layer]:
    """Layers without a backward pass: nothing is kept."""
    return [replace(each, saved=0, source=0, forward=each.graphless or each.forward, backward=0) for each in layers]


def block(
    name: str, size: tuple[int, int, int], shape: tuple[int, int], types: Types, *, drop_path: bool = False
) -> Layer:
    """A pre-norm block for ``size`` (samples, tokens, width) with ``shape`` (heads, MLP ratio)."""
    (b, n, d), (heads, ratio), c = size, shape, types.compute
    tokens = b * n
    residual = tokens * d * types.stream
    copy = tokens * d * c if c < types.stream else 0
    statistics = tokens * (4 + heads) * FP32  # mean and deviation of two norms, log-sum-exp of attention
    # inputs of both norms; inputs of qkv (1), attention (3), proj (1), fc1 (1), GELU and fc2 (ratio each)
    kept = (4 + ratio if types.lean else 6 + 2 * ratio) * c
    branch = c if types.lean and not drop_path else types.norm  # the second input, or what is added to the first
    # in fc2, the first product of the way back: incoming gradient and its copies, gradient of the hidden layer; and
    # where GELU is computed again, that of what it was given
    hidden = tokens * d * ratio * c * (2 if types.lean else 1)
    return Layer(
        parameters=(name,),
        saved=tokens * d * (types.norm + branch + kept) + statistics,
        forward=residual + tokens * d * c,  # what fc2 returns, and the sum
        # input, sum after attention, second norm and its copy, hidden layer before and after GELU
        graphless=3 * residual + copy + tokens * d * 2 * ratio * c,
        backward=residual + copy + (residual if drop_path else 0) + hidden,
        source=residual,
        block=True,
        recast=types.lean,
    )


def cross_block(name: str, size: tuple[int, int, int], decoder: DecoderConfig, types: Types) -> Layer:
    """A block of a cross decoder on ``size`` (tokens that read, tokens that are read, width)."""
    (tokens, context, d), ratio, c = size, decoder.mlp_ratio, types.compute
    residual = tokens * d * types.stream
    copy = tokens * d * c if c < types.stream else 0
    # inputs of both norms; inputs of q (1), attention (1), proj (1), fc1 (1), GELU and fc2 (ratio each); k and v, and
    # in bf16 the copy of the context that they are made of
    kept = (2 + ratio if types.lean else 4 + 2 * ratio) * c
    copied = c if c < types.stream and not types.lean else 0
    hidden = tokens * d * ratio * c * (2 if types.lean else 1)
    return Layer(
        parameters=(name,),
        saved=tokens * d * (types.norm + (c if types.lean else types.norm) + kept)
        + context * d * (2 * c + copied)
        + tokens * 4 * FP32,
        forward=residual + tokens * d * c,
        graphless=3 * residual + copy + tokens * d * 2 * ratio * c,
        backward=residual + copy + hidden + context * d * types.stream,
        source=residual,
        block=True,
        recast=types.lean,
    )


def relative_block(
    name: str,
    places: tuple[int, int],
    shape: tuple[int, int, int],
    types: Types,
    *,
    further: int,
    tables: int,
    drop_path: bool,
) -> Layer:
    """A block with relative positions as ``further`` channels of q, k and v in all heads (detectors, videos).

    ``places`` are those of the residual stream and those of all windows, ``shape`` is (width, heads, MLP ratio);
    ``tables`` is the number of tables of positions, each of which keeps a copy of q.
    """
    (tokens, padded), (d, heads, ratio), c = places, shape, types.compute
    residual = tokens * d * types.stream
    wide = padded * (d + further) * c  # a query, key, value or output with its further channels
    # inputs of qkv and of proj, copies of q; inputs of norms, of fc1, of GELU and of fc2
    attention = (2 + tables) * padded * d * c + 4 * wide + padded * heads * FP32
    mlp = tokens * d * (1 + 2 * ratio) * c
    hidden = tokens * d * ratio * c
    # fc2 comes back first; later its layers are gone, and all four wide tensors have gradients
    at_attention = max(0, 4 * wide + 2 * padded * d * c - mlp - tokens * d * types.norm)
    return Layer(
        parameters=(name,),
        saved=attention + mlp + 2 * tokens * d * types.norm + 4 * tokens * FP32,
        forward=residual + tokens * d * c,
        # beside the wide tensors all of qkv, its input, and the products of q with the tables
        graphless=3 * residual + max(hidden * 2, 4 * wide + padded * (4 * d + further) * c),
        backward=residual + (residual if drop_path else 0) + max(hidden, at_attention),
        source=residual,
        block=True,
    )
