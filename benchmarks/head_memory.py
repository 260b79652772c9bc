"""Memory of one WSP step with very many labels: the head as a whole, and in chunks of labels.

    python benchmarks/head_memory.py
    python benchmarks/head_memory.py --labels 250000 --microbatch 32 --precision bf16

Each measurement is a process of its own. A `step` is the second of two of the real loop (AdamW, clipping); the first,
of one image, makes the state of the optimizer. `head` is the forward and backward pass of the head and its loss alone,
on features that are noise. `held` are the weights and their moments, `gradients` those of all weights: the same in both
cases, since AdamW and the clipping of the global norm want them whole. `beyond` is the most that is allocated on top of
these two, by torch's allocator; `resident` the growth of the process meanwhile, gradients included. Losses and
gradients have to agree; exits with 1 if they do not in fp32, or if the head in chunks takes more than a quarter.
"""

from __future__ import annotations

import argparse
import gc
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from plan_memory import allocated, case, noise, state_of
from torch import Tensor, nn

from underpaint.models.sizes import SIZES
from underpaint.objectives import scores
from underpaint.objectives.classify import softmax_cross_entropy, target_mass
from underpaint.run import Run
from underpaint.run.bare_steps import take_steps
from underpaint.training.loop import TrainState

MIB = 1 << 20
SHARE = 0.25
TAGS = 5
ROWS = 1000
"""Rows of the head's gradient, at even distances, that are compared."""


def main() -> int:
    options = _options()
    if options.case:
        print(json.dumps(measure(options, *options.case)))
        return 0
    print(f"{options.size}, {options.labels:,} labels, microbatch {options.microbatch}, {options.precision}; MiB")
    print(f"{'':14} {'held':>8} {'gradients':>9} {'beyond':>8} {'all':>8} {'resident':>9}   loss")
    shares: dict[str, float] = {}
    off = 0.0
    for stretch in ("head", "step"):
        whole, chunked = (_in_a_process(stretch, head) for head in ("whole", "chunked"))
        shares[stretch] = chunked["beyond"] / whole["beyond"]
        shares[f"{stretch} with all it holds"] = _total(chunked) / _total(whole)
        differences = (abs(a - b) for a, b in zip(whole["sample"], chunked["sample"], strict=True))
        off = max(off, *(each / max(map(abs, whole["sample"])) for each in differences))
        off = max(off, abs(whole["loss"] / chunked["loss"] - 1))
    print("; ".join(f"{name}: {share:.3f}" for name, share in shares.items()) + " of the whole")
    print(f"losses and gradients differ by at most {off:.1e} of the largest")
    return int(shares["head"] > SHARE or (options.precision == "fp32" and off > 1e-4))


def _total(row: dict[str, Any]) -> float:
    return row["held"] + row["gradients"] + row["beyond"]


def _in_a_process(stretch: str, head: str) -> dict[str, Any]:
    command = [sys.executable, __file__, *sys.argv[1:], "--case", stretch, head]
    row = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    columns = f"{row['held']:8.0f} {row['gradients']:9.0f} {row['beyond']:8.0f} {_total(row):8.0f}"
    print(f"{stretch} {head:9} {columns} {row['resident']:9.0f}   {row['loss']:.6f}", flush=True)
    return row


def measure(options: argparse.Namespace, stretch: str, head: str) -> dict[str, Any]:
    """One case, in MiB, with its loss and a sample of the head's gradient."""
    if head == "whole":
        scores.SCORES = sys.maxsize
    if stretch == "head":
        network, sample, work = head_alone(options)
        held = list(network.parameters())
    else:
        run = run_of(options)
        state = state_of(run, labels=options.labels, checkpointing=options.checkpointing)
        one_step(state, run, options.labels, size=1)
        network: Any = state.objective
        sample, work = sampled(network.head), partial(one_step, state, run, options.labels, size=options.microbatch)
        held = [*network.parameters(), *(v for s in state.optimizer.state.values() for v in s.values())]
    gc.collect()
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the largest resident set is counted anew
    losses: list[float] = []
    peak = allocated(lambda: losses.append(work())) / MIB
    gradients = sum(p.nbytes for p in network.parameters() if p.requires_grad) / MIB
    return {
        "held": sum(value.nbytes for value in held) / MIB,
        "gradients": gradients,
        "beyond": peak - gradients,
        "resident": _status("VmHWM") - before,
        "loss": losses[0],
        "sample": sample,
    }


def head_alone(options: argparse.Namespace) -> tuple[nn.Linear, list[float], Callable[[], float]]:
    """A head, a list to which the numbers of its gradient are added, and its forward and backward pass."""
    torch.manual_seed(0)
    head = nn.Linear(SIZES[options.size].width, options.labels)
    feature = torch.randn(options.microbatch, head.in_features, requires_grad=True)
    labels = torch.randint(0, options.labels, (options.microbatch, TAGS))

    def work() -> float:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=options.precision == "bf16"):
            found = scores.score(head, feature, labels, "logsumexp")
        mass = target_mass(labels, torch.ones(options.labels))
        loss = softmax_cross_entropy(found, mass, classes=options.labels).mean()
        loss.backward()
        return float(loss.detach())

    return head, sampled(head), work


def sampled(head: nn.Linear) -> list[float]:
    """A list to which each backward pass adds numbers of the head's gradient."""
    sample: list[float] = []
    rows = torch.arange(0, head.out_features, max(1, head.out_features // ROWS))

    def take(weight: Tensor) -> None:
        assert weight.grad is not None
        sample.extend(weight.grad[rows, 0].tolist())

    head.weight.register_post_accumulate_grad_hook(take)
    return sample


def run_of(options: argparse.Namespace) -> Run:
    """The published WSP recipe with a head that does not start at zero, one microbatch a step."""
    run = case("wsp", options.size, options.microbatch, precision=options.precision)
    objective: Any = run.objective
    return replace(run, objective=replace(objective, head_init_std=0.02))


def one_step(state: TrainState, run: Run, labels: int, *, size: int) -> float:
    """One more step of the loop, on images that are noise; the loss."""
    generator, losses = torch.Generator().manual_seed(state.step), list[float]()
    batch = noise(run.objective.encoder, size, generator)
    batch["labels"] = torch.randint(0, labels, (size, TAGS), generator=generator)
    take_steps(state, iter([batch]), run, steps=1, log=lambda values: losses.append(float(values["loss"])))
    return losses[0]


def _status(field: str) -> float:
    """MiB, from the kernel's account of this process."""
    found = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) / 1024


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--size", choices=tuple(SIZES), default="vit_b16")
    parser.add_argument("--labels", type=int, default=1_000_000)
    parser.add_argument("--microbatch", type=int, default=64)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--no-checkpointing", dest="checkpointing", action="store_false")
    parser.add_argument("--case", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
