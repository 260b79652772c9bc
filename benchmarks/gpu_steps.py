"""Training steps of the published recipes on one device: images per second, share of the peak, memory beside the plan.

The real loop takes the steps (its norm of the gradients, its checks of the loss, its optimizer), on noise that lies in
the memory of the device. Weights are drawn on the device, since their values change no time.
"""

from __future__ import annotations

import gc
import itertools
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from plan_memory import noise
from torch import Tensor, nn

from underpaint.core import Batch
from underpaint.models.mae_decoder import DecoderConfig
from underpaint.models.recompute import make_lean
from underpaint.objectives.classify import ClassifyConfig
from underpaint.objectives.mae import MAEConfig
from underpaint.plan import make_plan
from underpaint.plan.accelerators import GPUS
from underpaint.plan.parameters import assumed_data
from underpaint.recipes.mae_recipes import mae
from underpaint.recipes.wsp_recipes import wsp
from underpaint.run import Run, bare_steps
from underpaint.training import float8
from underpaint.training.loop import TrainState
from underpaint.training.optim import build_optimizer
from underpaint.training.parallel import prepare_blocks

GIB = 1 << 30
LABELS = 28_000
TAGS = 5
ACCUMULATION = 4
"""Microbatches of a step: the recipes take 16 to 64, whose steps are too long to be repeated in minutes."""
REPEATS = 3
VARIANTS = ("eager", "compiled", "lean", "checkpointed", "float8")


@dataclass(frozen=True, kw_only=True)
class Case:
    """A recipe at a size, and how its blocks are prepared."""

    stage: str
    size: str
    microbatch: int
    variant: str = "eager"

    @property
    def name(self) -> str:
        return f"train {self.stage} {self.size} {self.variant}"

    def run(self, accumulation: int = ACCUMULATION) -> Run:
        """The published recipe with so many microbatches a step."""
        run = mae(self.size) if self.stage == "mae" else wsp(self.size)
        batch = accumulation * self.microbatch
        parallel = replace(
            run.parallel,
            layout="single",
            compile=self.variant in ("compiled", "float8"),
            recompute_pointwise=self.variant == "lean",
            checkpoint_activations=self.variant == "checkpointed",
        )
        return replace(
            run,
            objective=_lightened(run) if self.size == "vit_smoke8" else run.objective,
            budget=replace(run.budget, batch_size=batch, microbatch=self.microbatch),
            precision="float8" if self.variant == "float8" else "bf16",
            parallel=parallel,
        )


def _lightened(run: Run) -> Any:
    """For a rehearsal on a processor."""
    objective = run.objective
    if isinstance(objective, MAEConfig):
        return replace(objective, decoder=DecoderConfig(width=16, depth=1, heads=2))
    assert isinstance(objective, ClassifyConfig)
    return objective


def state_of(run: Run, device: str) -> TrainState:
    """The network and optimizer of a run, with random weights."""
    with torch.device("meta"):
        network = run.objective.build(assumed_data(LABELS))
    if run.precision == "float8":
        float8.convert(network, network.blocks())
    network.to_empty(device=device)
    fill(network)
    prepare_blocks(network.blocks(), run.parallel, make_lean=make_lean)
    return TrainState(network, build_optimizer(network, run.optim, layer_of=network.layer_of))


@torch.no_grad()
def fill(network: nn.Module) -> None:
    """Matrices and tokens of deviation 0.02, norms of 1, biases of 0."""
    for name, value in network.named_parameters():
        if value.ndim > 1:
            value.normal_(std=0.02)
        else:
            value.fill_(1.0 if name.endswith("weight") else 0.0)
    for buffer in network.buffers():
        buffer.fill_(1)


def batch_of(run: Run, device: str, count: int) -> dict[str, Tensor]:
    labels = torch.randint(LABELS, (count, TAGS), device=device)
    return noise(run.objective.encoder, count, device=device) | {"labels": labels}


def take_steps(state: TrainState, batches: Iterator[Batch], run: Run, steps: int) -> list[float]:
    """So many more steps of the real loop; the losses. Returns when the device has done them."""
    losses: list[Tensor] = []
    bare_steps.take_steps(
        state,
        batches,
        run,
        steps=steps,
        accumulation=run.budget.accumulation(),
        rate=1e-5,
        log=lambda values: losses.append(values["loss"].detach()),
    )
    return torch.stack(losses).tolist()  # waits for the device


def measure(case: Case, device: str, *, seconds: float) -> dict[str, Any]:
    """Medians over REPEATS stretches of steps, each of about so many seconds, after two steps that warm up."""
    run = case.run()
    release(device)
    before = torch.cuda.memory_allocated() if device == "cuda" else 0
    batches = itertools.repeat(batch_of(run, device, case.microbatch))
    started = time.perf_counter()
    state = state_of(run, device)
    built = time.perf_counter()
    take_steps(state, batches, run, 1)
    first = time.perf_counter()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    take_steps(state, batches, run, 1)
    one = time.perf_counter() - first
    steps = max(1, round(seconds / one))
    rates: list[float] = []
    losses: list[float] = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        losses += take_steps(state, batches, run, steps)
        rates.append(steps * run.budget.batch_size / (time.perf_counter() - begin))
    peak = torch.cuda.max_memory_allocated() - before if device == "cuda" else 0
    reserved = torch.cuda.max_memory_reserved() if device == "cuda" else 0
    del state
    release(device)
    flops = run.objective.flops_per_sample(assumed_data(LABELS))
    return {
        "case": {"stage": case.stage, "size": case.size, "microbatch": case.microbatch, "variant": case.variant},
        "batch": run.budget.batch_size,
        "steps": steps,
        "images_per_second": statistics.median(rates),
        "rates": rates,
        "flops_per_image": flops,
        "flops_per_second": statistics.median(rates) * flops,
        "peak_bytes": peak,
        "reserved_bytes": reserved,
        "build_seconds": built - started,
        "first_step_seconds": first - built,
        "losses": [losses[0], losses[-1]],
        "plan": planned(case, run),
    }


def planned(case: Case, run: Run) -> dict[str, Any]:
    """Plan of a case by ``underpaint plan`` for the GPU here, or for an H100 where its table lacks the GPU."""
    plan = make_plan(
        run,
        (
            f"budget.microbatch={case.microbatch}",
            "parallel.layout=single",
            f"parallel.checkpoint_activations={str(case.variant == 'checkpointed').lower()}",
        ),
        device=plan_device(),
    )
    return {
        "device": plan.device.name,
        "images_per_second": plan.batch_size / plan.step.seconds,
        "peak_bytes": plan.memory.peak,
        "moment": plan.memory.moment,
    }


def plan_device() -> str:
    """The name that `plan` has for this GPU."""
    if not torch.cuda.is_available():
        return "h100"
    properties = torch.cuda.get_device_properties(0)
    words = properties.name.lower().replace("-", " ").split()
    known = [name for name in GPUS if name.partition("-")[0] in words]
    return min(known, key=lambda name: abs(GPUS[name].memory - properties.total_memory), default="h100")


def release(device: str) -> None:
    """Give memory and compiled code of the case before back."""
    gc.collect()
    if device == "cuda":  # nothing is compiled on a processor, where this would only import the compiler
        torch.compiler.reset()
        torch.cuda.empty_cache()
