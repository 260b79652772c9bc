"""Time of a training step, operation by operation, beside the time that its products would need.

    python benchmarks/account.py --size base --stage mae
    python benchmarks/account.py --size small --stage wsp --threads 1

One step of the real loop in bf16 under torch's profiler, the median of --repeats for each group of operations. `ideal`
is the FLOPs of the step at the rate of the best square product up to 4096, measured between the repeats: what a step of
nothing but perfect products would take.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys

import torch
from peers import best_product
from peers_steps import SIZES, WARM_UP, our_steps, run_of

from underpaint.plan.parameters import assumed_data

GROUPS = {
    "products of linear layers": ("mm", "addmm", "linear", "mkldnn_linear"),
    "attention": ("bmm", "baddbmm", "_softmax", "_softmax_backward_data", "Products", "ProductsBackward"),
    "casts and copies": ("copy_", "_to_copy", "to", "ToCopyBackward0", "contiguous", "clone"),
    "layer norms": ("native_layer_norm", "native_layer_norm_backward", "layer_norm", "NativeLayerNormBackward0"),
    "GELU": ("gelu", "gelu_backward", "GeluBackward0"),
    "sums of the residual stream and of gradients": ("add", "add_", "AddBackward0"),
    "bias gradients and other sums over rows": ("sum", "mean"),
    "scaling": ("mul", "mul_", "div", "div_"),
    "optimizer": ("_fused_adamw_", "_foreach_add_", "Optimizer.step#AdamW.step"),
    "norm of the gradients": ("linalg_vector_norm", "_foreach_norm"),
    "patches and tokens put together": ("index", "index_select", "gather", "cat", "scatter_add_", "index_put_"),
}
OTHER = "all else: views, masks, loss, Python"


def group_of(name: str) -> str:
    plain = name.removeprefix("aten::").removeprefix("autograd::engine::evaluate_function: ")
    return next((group for group, names in GROUPS.items() if plain in names), OTHER)


def account(stage: str, size: str, batch: int) -> dict[str, float]:
    """Seconds of one step by group; the first steps, in which the heap grows, are not in it."""
    from torch.profiler import ProfilerActivity, profile, schedule

    _, _, more = our_steps(stage, SIZES[size], batch, variant="bf16")
    more(1 + WARM_UP)
    with profile(
        activities=[ProfilerActivity.CPU], schedule=schedule(wait=0, warmup=1, active=1, repeat=1)
    ) as profiler:
        for _ in range(2):  # the profiler's own buffers come with the first
            more(1)
            profiler.step()
    found = dict.fromkeys((*GROUPS, OTHER), 0.0)
    for event in profiler.key_averages():
        found[group_of(event.key)] += event.self_cpu_time_total / 1e6
    return found


def main() -> int:
    options = _options()
    if options.threads:
        torch.set_num_threads(options.threads)
    batch, size = options.batch or SIZES[options.size].batch, SIZES[options.size]
    objective = run_of(options.stage, size, batch, "bf16").objective
    flops = batch * objective.flops_per_sample(assumed_data(size.labels))
    steps: list[dict[str, float]] = []
    ideals: list[float] = []
    for _ in range(options.repeats):
        ideals.append(flops / best_product(torch.bfloat16, options.size))
        steps.append(account(options.stage, options.size, batch))
    total = statistics.median(sum(step.values()) for step in steps)
    ideal = statistics.median(ideals)
    threads, load = torch.get_num_threads(), os.getloadavg()[0]
    print(f"{options.stage} {options.size}, batch {batch}, {threads} threads, load {load:.1f}")
    print("\n| operations | seconds | share |\n|---|---|---|")
    for group in sorted(steps[0], key=lambda name: -statistics.median(step[name] for step in steps)):
        seconds = statistics.median(step[group] for step in steps)
        print(f"| {group} | {seconds:.3f} | {seconds / total:.1%} |")
    print(f"| step | {total:.3f} | |\n| ideal ({flops / 1e9:.0f} GFLOP) | {ideal:.3f} | {ideal / total:.1%} |")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--stage", choices=("mae", "wsp"), default="mae")
    parser.add_argument("--size", choices=tuple(SIZES), default="base")
    parser.add_argument("--batch", type=int, default=0, help="(default: that of the size)")
    parser.add_argument("--threads", type=int, default=0, help="of torch (default: as it chooses)")
    parser.add_argument("--repeats", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
