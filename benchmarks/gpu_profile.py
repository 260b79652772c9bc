"""Time of a training step on the device: its kernels by name and by kind, and its idle time."""

from __future__ import annotations

import itertools
import time
from collections import defaultdict
from typing import Any

from gpu_steps import Case, batch_of, release, state_of, take_steps

KINDS = (
    ("attention", ("flash", "fmha", "attention", "cudnn_generated")),
    ("matrix products", ("gemm", "nvjet", "cutlass", "cublas", "matmul", "wgmma", "mm_")),
    ("convolution", ("conv", "wgrad", "dgrad", "implicit")),
    ("optimizer and norms of gradients", ("multi_tensor", "adam", "lpnorm", "foreach")),
    ("layer norm", ("layer_norm", "layernorm", "gammabeta")),
    ("compiled pointwise", ("triton",)),
    ("copies and casts", ("copy", "memcpy", "cat", "memset", "fill")),
    ("reductions", ("reduce", "sum", "norm")),
    ("pointwise", ("elementwise", "gelu", "vectorized")),
)
LISTED = 25


def profiled(case: Case, device: str) -> dict[str, Any]:
    """One step of the loop: milliseconds by kind and by kernel, and the share of the time without a kernel."""
    from torch.profiler import ProfilerActivity, profile

    run = case.run()
    release(device)
    state, batches = state_of(run, device), itertools.repeat(batch_of(run, device, case.microbatch))
    take_steps(state, batches, run, 3)
    begin = time.perf_counter()
    take_steps(state, batches, run, 1)
    plain = time.perf_counter() - begin
    kinds = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device == "cuda" else [])
    with profile(activities=kinds) as profiler:
        take_steps(state, batches, run, 1)
    del state
    release(device)
    kernels: dict[str, float] = defaultdict(float)
    counts: dict[str, int] = defaultdict(int)
    for event in profiler.key_averages():
        spent = event.self_device_time_total if device == "cuda" else event.self_cpu_time_total
        on_device = str(event.device_type).endswith("CUDA") if device == "cuda" else True
        if spent and on_device:
            kernels[event.key] += spent / 1000
            counts[event.key] += event.count
    by_kind: dict[str, float] = defaultdict(float)
    for name, milliseconds in kernels.items():
        by_kind[kind_of(name)] += milliseconds
    busy = sum(kernels.values())
    return {
        "case": case.name,
        "microbatch": case.microbatch,
        "step_ms": 1000 * plain,
        "kernel_ms": busy,
        "idle_share": max(0.0, 1 - busy / (1000 * plain)),
        "kernels": sum(counts.values()),
        "by_kind": dict(sorted(by_kind.items(), key=lambda pair: -pair[1])),
        "largest": [
            {"name": name[:160], "ms": milliseconds, "count": counts[name]}
            for name, milliseconds in sorted(kernels.items(), key=lambda pair: -pair[1])[:LISTED]
        ],
    }


def kind_of(kernel: str) -> str:
    """The first kind of which a word stands in the kernel's name."""
    name = kernel.lower()
    return next((kind for kind, words in KINDS if any(word in name for word in words)), "other")
