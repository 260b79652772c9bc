"""``precision=fastest``: fp32 or bf16, whichever a block of the run's encoder takes less time in on this machine.

No table of processors says it: some list instructions for bf16 and are slower with them than in fp32. The measurement
takes a second or two, once for each machine, version of torch, number of threads and width, and is kept in the cache
folder. A run keeps the precision of its first start.
"""

from __future__ import annotations

import itertools
import math
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from underpaint import files
from underpaint.data.cache import cache_folder
from underpaint.models.flops import block_macs
from underpaint.models.vit import Block, ViTConfig
from underpaint.run.declare import HasEncoder, Run
from underpaint.run.record import processor_name

FORMAT = 1
MOST_KEPT = 1_000
"""Measurements in the file of the cache folder; more are those of another use of it."""
GAIN = 1.05
"""bf16 must be so many times as fast as fp32, which has smaller rounding errors, to be chosen."""
ROUNDS = 5
CLEAR = 3.0
"""Ratio of the first two times, beyond which no further ones are taken: emulated bf16 is that slow."""
CPU_FLOPS, ACCELERATOR_FLOPS = 3e8, 3e11
"""FLOPs of the block that is timed, forward: some 10 ms on one core."""
USUAL = ViTConfig(size=(224, 224), width=384, heads=6)
"""The encoder that is timed for an objective that has none of ours."""
LONG = 1e12
"""Training FLOPs from which a run that names its precision is worth the measurement."""


MeasuredPrecision = Literal["fp32", "bf16"]


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds of one block, forward and backward, on the same tokens."""

    fp32: float
    bf16: float

    @property
    def fastest(self) -> MeasuredPrecision:
        return "bf16" if self.bf16 * GAIN < self.fp32 else "fp32"

    def __str__(self) -> str:
        return f"a block of its encoder takes {self.fp32 * 1e3:.3g} ms in fp32 and {self.bf16 * 1e3:.3g} in bf16"


def with_fastest_precision(run: Run, device: torch.device) -> Run:
    """The run with what is measured in place of ``precision=fastest``; any other precision stays.

    The number of threads is that of this process.
    """
    if run.precision != "fastest":
        return run
    return replace(run, precision=block_timing(run, device).fastest)


def precision_remark(run: Run, device: torch.device, *, flops: float) -> str:
    """A sentence on what the named precision costs here; "" for a short run, or where it costs nothing.

    ``flops`` are those of the whole training. On CUDA nothing is measured: a block of a large network would take
    memory that the run needs.
    """
    if run.precision not in ("fp32", "bf16") or flops < LONG or device.type == "cuda":
        return ""
    timing = block_timing(run, device)
    taken = {"fp32": timing.fp32, "bf16": timing.bf16}[run.precision]
    if timing.fastest == run.precision or taken <= GAIN * min(timing.fp32, timing.bf16):
        return ""
    more = taken / min(timing.fp32, timing.bf16) - 1
    return f"precision={run.precision} takes {more:,.0%} more time here than {timing.fastest}: {timing}"


def block_timing(run: Run, device: torch.device) -> Timing:
    """Times of a block of the run's encoder on this device; measured once, then kept."""
    encoder = run.objective.encoder if isinstance(run.objective, HasEncoder) else USUAL
    path, key = cache_folder() / "precision.json", _key(encoder, device)
    known = _kept(path)
    if key not in known:
        known[key] = measure_block(encoder, device)
        path.parent.mkdir(parents=True, exist_ok=True)
        latest = dict(itertools.islice(reversed(known.items()), MOST_KEPT))
        timings = {name: [timing.fp32, timing.bf16] for name, timing in reversed(latest.items())}
        files.write_json(path, {"format": FORMAT, "timings": timings})
    return known[key]


def _key(encoder: ViTConfig, device: torch.device) -> str:
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else processor_name() or platform.machine()
    block = f"{encoder.width} wide, {encoder.heads} heads, {encoder.mlp_ratio} times in the MLP"
    tokens = f"{1 + encoder.num_patches} tokens"
    return f"{device.type}: {machine}; torch {torch.__version__}; {torch.get_num_threads()} threads; {block}, {tokens}"


def _kept(path: Path) -> dict[str, Timing]:
    """Earlier measurements; a file that is damaged or of another version counts as none."""
    try:
        content = files.read_json(path) if path.is_file() else {}
        if content.get("format") != FORMAT:
            return {}
        kept = {
            str(key): Timing(fp32=float(fp32), bf16=float(bf16)) for key, (fp32, bf16) in content["timings"].items()
        }
    except (AttributeError, KeyError, TypeError, ValueError):
        return {}
    return {key: timing for key, timing in kept.items() if 0 < timing.fp32 < math.inf and 0 < timing.bf16 < math.inf}


def measure_block(encoder: ViTConfig, device: torch.device, clock: Callable[[], float] = time.perf_counter) -> Timing:
    """Medians of alternating passes through one block, forward and backward, as the training loop makes them."""
    block = Block(encoder.width, encoder.heads, encoder.mlp_ratio).to(device)
    weights = list(block.parameters())
    tokens = 1 + encoder.num_patches
    batch = (CPU_FLOPS if device.type == "cpu" else ACCELERATOR_FLOPS) / (
        2 * block_macs(tokens, encoder.width, encoder.mlp_ratio)
    )
    if batch < 1:  # large blocks: fewer tokens, so that an emulated precision takes a second and not a minute
        tokens, batch = max(16, int(tokens * batch)), 1
    x = torch.randn(round(batch), tokens, encoder.width, generator=torch.Generator().manual_seed(0)).to(device)

    def seconds(precision: MeasuredPrecision) -> float:
        started = clock()
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
            out = block(x)
        torch.autograd.grad(out.float().mean(), weights)
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
        return clock() - started

    first = Timing(fp32=_warm(seconds, "fp32"), bf16=_warm(seconds, "bf16"))
    if not 1 / CLEAR < first.bf16 / first.fp32 < CLEAR:
        return first
    rounds = [(seconds("fp32"), seconds("bf16")) for _ in range(ROUNDS)]
    fp32, bf16 = (statistics.median(times) for times in zip(*rounds, strict=True))
    return Timing(fp32=fp32, bf16=bf16)


def _warm(seconds: Callable[[MeasuredPrecision], float], precision: MeasuredPrecision) -> float:
    """The second pass, without what only the first one has to do; the first one alone where it took long."""
    first = seconds(precision)
    return first if first > 1 else min(first, seconds(precision))
