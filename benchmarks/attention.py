"""Measure the rule of ``underpaint/models/attention.py``: batched products against torch's fused attention.

    python benchmarks/attention.py [--threads 2] [--repeats 9]

Forward and backward of both, in alternation; medians. A row where the rule chooses the slower one by more than a tenth
is marked, and the exit code is then 1. Run it where nothing else runs.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from underpaint.models.attention import Products, uses_products

# samples, tokens, heads, width of a head: encoder and decoder of small recipes, ViT-B, L and H at 224 px and above
CASES = (
    (128, 10, 4, 24),
    (128, 37, 4, 24),
    (128, 17, 6, 32),
    (128, 65, 6, 32),
    (128, 65, 4, 32),
    (16, 50, 12, 64),
    (16, 197, 16, 32),
    (16, 197, 12, 64),
    (8, 257, 16, 80),
    (4, 400, 12, 64),
    (2, 785, 12, 64),
)


def fused(qkv: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(*qkv.permute(2, 0, 3, 1, 4).unbind(0)).transpose(1, 2)


def seconds(kernel: Callable[..., Tensor], qkv: Tensor, gradient: Tensor) -> float:
    started = time.perf_counter()
    torch.autograd.grad(kernel(qkv).flatten(2), qkv, gradient)
    return time.perf_counter() - started


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    wrong = 0
    print(f"torch {torch.__version__}, {options.threads} threads, medians of {options.repeats} alternating repeats")
    print(
        f"{'type':9} {'samples':>7} {'tokens':>6} {'heads':>5} {'width':>5} {'fused':>9} {'products':>9} {'ratio':>6}"
    )
    for dtype in (torch.float32, torch.bfloat16):
        for b, n, heads, w in CASES:
            numbers = torch.Generator().manual_seed(0)
            qkv = torch.randn(b, n, 3, heads, w, generator=numbers).to(dtype).requires_grad_()
            gradient = torch.randn(b, n, heads * w, generator=numbers).to(dtype)
            kernels = (fused, Products.apply)
            rounds = [[seconds(kernel, qkv, gradient) for kernel in kernels] for _ in range(options.repeats + 2)]
            whole, products = (statistics.median(times) for times in zip(*rounds[2:], strict=True))
            ratio = whole / products
            chosen = ratio if uses_products("cpu", dtype, n, w) else 1 / ratio
            wrong += chosen < 0.9
            name = str(dtype).removeprefix("torch.")
            print(
                f"{name:9} {b:7} {n:6} {heads:5} {w:5} {1e3 * whole:6.1f} ms {1e3 * products:6.1f} ms {ratio:5.2f}x"
                f"{'  <- the rule chooses the slower one' if chosen < 0.9 else ''}",
                flush=True,
            )
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
