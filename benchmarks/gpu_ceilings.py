"""Highest rates of a device: matrix products, copies in its memory, attention, operations bound by memory.

Products and attention are on random numbers; each rate is the median of some repeats, timed until the device is done.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from underpaint.models.attention import attention

REPEATS = 7
KERNELS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
}
# samples, tokens, heads, width of a head: encoder of WSP ViT-B and ViT-H, encoder and decoder of MAE ViT-B
SHAPES = {
    "wsp vit_b16": (128, 197, 12, 64),
    "wsp vit_h14": (64, 257, 16, 80),
    "mae vit_b16 encoder": (256, 50, 12, 64),
    "mae vit_b16 decoder": (256, 197, 16, 32),
}


def ceilings(device: str, *, dry: bool) -> dict[str, Any]:
    """FLOPs per second of products by side and of attention by kernel, bytes per second of what memory bounds."""
    sides = (256,) if dry else (512, 1024, 2048, 4096, 8192)
    types = {"bf16": torch.bfloat16} if dry else {"bf16": torch.bfloat16, "fp32": torch.float32}
    return {
        "products": {
            name: {str(side): _product(side, dtype, device) for side in sides if name == "bf16" or side <= 4096}
            for name, dtype in types.items()
        },
        "layers": {} if dry else {name: _linear(*shape, device) for name, shape in LINEARS.items()},
        "memory": _memory(device, dry=dry),
        "attention": {} if dry else {name: _attention(*shape, device) for name, shape in SHAPES.items()},
    }


# tokens, inputs, outputs: linear layers of the training steps themselves
LINEARS = {
    "vit_s16 fc1, 100,000 tokens": (100_864, 384, 1536),
    "mae decoder fc1, 50,000 tokens": (50_432, 512, 2048),
    "vit_b16 qkv, 50,000 tokens": (50_432, 768, 2304),
    "vit_b16 fc1, 50,000 tokens": (50_432, 768, 3072),
    "vit_l16 fc1, 25,000 tokens": (25_216, 1024, 4096),
    "vit_h14 fc1, 16,000 tokens": (16_448, 1280, 5120),
}


def _product(side: int, dtype: torch.dtype, device: str) -> float:
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return 2 * side**3 / seconds_of(lambda: a @ b, device, inner=4)


def _linear(rows: int, inside: int, outside: int, device: str) -> float:
    """The layer's three products: forward, and backward to its input and to its weight."""
    x, gradient = (torch.randn(rows, width, device=device).bfloat16() for width in (inside, outside))
    weight = torch.randn(outside, inside, device=device).bfloat16()

    def products() -> Any:
        return x @ weight.T, gradient @ weight, gradient.T @ x

    return 6 * rows * inside * outside / seconds_of(products, device)


def _memory(device: str, *, dry: bool) -> dict[str, float]:
    """Bytes read and written per second, forward and backward."""
    rows, width = (1 << 10 if dry else 1 << 17), 1024
    x = torch.randn(rows, width, device=device)
    low = x.bfloat16()
    leaf, low_leaf = x.clone().requires_grad_(), low.clone().requires_grad_()
    weight, bias = (torch.ones(width, device=device, requires_grad=True) for _ in range(2))
    size = x.numel()

    def norm() -> Any:
        return torch.autograd.grad(F.layer_norm(leaf, (width,), weight, bias), (leaf, weight, bias), x)

    def gelu() -> Any:
        return torch.autograd.grad(F.gelu(low_leaf), low_leaf, low)

    return {
        "copy": 8 * size / seconds_of(x.clone, device),
        "add": 12 * size / seconds_of(lambda: x + x.flip(0) if dry else x + leaf.detach(), device),
        "cast": 6 * size / seconds_of(x.bfloat16, device),
        "gelu of bf16": (4 + 6) * size / seconds_of(gelu, device),  # read, write; read both, write
        "layer norm of fp32": (8 + 12) * size / seconds_of(norm, device),
    }


def _attention(b: int, n: int, heads: int, width: int, device: str) -> dict[str, float]:
    """FLOPs per second of two products forward and five backward, by kernel; 0 where a kernel does not take it."""
    qkv = torch.randn(b, n, 3, heads, width, device=device).bfloat16().requires_grad_()
    gradient = torch.randn(b, n, heads, width, device=device).bfloat16()
    flops = 14 * b * heads * n * n * width

    def both() -> Any:
        return torch.autograd.grad(attention(qkv), qkv, gradient)

    rates = {"as chosen": flops / seconds_of(both, device)}
    for name, kernel in KERNELS.items():
        with sdpa_kernel(kernel):
            try:
                rates[name] = flops / seconds_of(both, device)
            except RuntimeError:  # "No available kernel"
                rates[name] = 0.0
    return rates


def seconds_of(work: Callable[[], Any], device: str, *, inner: int = 2) -> float:
    """The median of some repeats after two that warm up."""

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    work()
    work()
    times: list[float] = []
    for _ in range(REPEATS):
        wait()
        started = time.perf_counter()
        for _ in range(inner):
            work()
        wait()
        times.append((time.perf_counter() - started) / inner)
    return statistics.median(times)
