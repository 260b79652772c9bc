"""Training steps of other tools beside ours on one device: the same network, batch, autocast and fused AdamW."""

from __future__ import annotations

import importlib.metadata
import itertools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import peers_steps
import torch
from gpu_steps import REPEATS, Case, batch_of, release, state_of, take_steps
from torch import nn

PEERS = {"mae": ("transformers", "lightly"), "wsp": ("timm",)}


def contenders(stage: str, *, dry: bool) -> list[tuple[str, str]]:
    """Names and variants that can run here, ours first."""
    variants = ("bf16",) if dry else ("bf16", "compiled")
    there = [name for name in PEERS[stage] if find_spec(name) is not None]
    return [(name, variant) for variant in variants for name in ("ours", *there)]


def missing(stage: str) -> list[str]:
    return [name for name in PEERS[stage] if find_spec(name) is None]


@dataclass
class Contender:
    """A tool's training step that has been made ready, or why it could not be."""

    name: str
    variant: str
    more: Callable[[int], object] = lambda steps: None
    steps: int = 0
    peak: int = 0
    problem: str = ""
    rates: list[float] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        version = "" if self.name == "ours" else importlib.metadata.version(self.name)
        found: dict[str, Any] = {"name": self.name, "variant": self.variant, "version": version}
        if self.problem:
            return found | {"problem": self.problem}
        median = statistics.median(self.rates)
        return found | {"images_per_second": median, "rates": self.rates, "steps": self.steps, "peak_bytes": self.peak}


def beside(stage: str, device: str, *, seconds: float, dry: bool, batch: int) -> dict[str, Any]:
    """Images per second of each contender, going round all of them REPEATS times; one step is one microbatch."""
    release(device)
    ready = [
        _ready(Contender(*each), stage, device, seconds=seconds, dry=dry, batch=batch)
        for each in contenders(stage, dry=dry)
    ]
    for number in range(REPEATS):
        for contender in ready if number % 2 == 0 else ready[::-1]:
            if not contender.problem:
                begin = time.perf_counter()
                contender.more(contender.steps)
                contender.rates.append(contender.steps * batch / (time.perf_counter() - begin))
    return {"batch": batch, "missing": missing(stage), "rows": [contender.record() for contender in ready]}


def _ready(contender: Contender, stage: str, device: str, *, seconds: float, dry: bool, batch: int) -> Contender:
    """Build it, warm it up, measure its memory, and choose how many steps take about so many seconds."""
    cuda = device == "cuda"
    before = torch.cuda.memory_allocated() if cuda else 0
    try:
        more = (_ours if contender.name == "ours" else _peer)(
            contender.name, stage, contender.variant, device, batch, dry
        )
        more(2)
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        started = time.perf_counter()
        more(2)
        contender.steps = max(2, round(seconds / ((time.perf_counter() - started) / 2)))
    except (RuntimeError, TypeError, ValueError, ImportError, AttributeError) as error:
        contender.problem = f"{type(error).__name__}: {str(error).strip()[:200]}"
        return contender
    contender.peak = torch.cuda.max_memory_allocated() - before if cuda else 0
    contender.more = more
    return contender


def _ours(name: str, stage: str, variant: str, device: str, batch: int, dry: bool) -> Any:
    size = "vit_smoke8" if dry else "vit_b16"
    case = Case(stage=stage, size=size, microbatch=batch, variant="compiled" if variant == "compiled" else "eager")
    run = case.run(accumulation=1)
    state, batches = state_of(run, device), itertools.repeat(batch_of(run, device, batch))
    return lambda steps: take_steps(state, batches, run, steps)


def _peer(name: str, stage: str, variant: str, device: str, batch: int, dry: bool) -> Any:
    size = peers_steps.SIZES["smoke" if dry else "base"]
    given = {key: value.to(device) for key, value in peers_steps.batch_of(size, batch).items()}
    network, forward = peers_steps.peer(name, size, given)
    if variant == "compiled":
        nn.Module.compile(network)
    parameters: list[nn.Parameter] = list(nn.Module.parameters(network))
    optimizer = torch.optim.AdamW(parameters, lr=1e-5, weight_decay=0.05, fused=True)

    def more(steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            with torch.autocast(device, dtype=torch.bfloat16):
                loss = forward()
            loss.backward()
            optimizer.step()
        float(loss.detach())  # waits for the device

    return more
