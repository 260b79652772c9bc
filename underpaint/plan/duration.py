"""Seconds of one optimizer step on given ranks: computation, what the ranks exchange meanwhile, and the update."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from underpaint.core import DataInfo
from underpaint.costs.memory import FP32
from underpaint.plan.accelerators import LINK_SHARE, Device
from underpaint.plan.compute import measured_seconds, parts, update_seconds, work
from underpaint.plan.parallel_layout import NODE, Layout
from underpaint.plan.parameters import Parameters
from underpaint.plan.rates import rates_here
from underpaint.run import Run

ADAMW_BYTES = 7 * FP32
"""Read weight, gradient and two moments; write weight and moments."""


@dataclass(frozen=True, kw_only=True)
class StepTime:
    """Seconds of one optimizer step."""

    computing: float
    exchanging: float  # between ranks, at the same time
    update: float

    @property
    def seconds(self) -> float:
        return max(self.computing, self.exchanging) + self.update


def step_time(
    run: Run,
    parameters: Parameters,
    layout: Layout,
    *,
    device: Device,
    microbatch: int,
    data_info: DataInfo,
    flops: int,
) -> StepTime:
    """One optimizer step of ``batch_size`` samples; communication is hidden behind computation as far as it goes.

    Raises:
        ValueError: for "cpu" on a machine whose kept rates are damaged.
    """
    accumulation = run.budget.batch_size // (microbatch * layout.ranks)
    trained = parameters.trained
    if device.is_cpu:
        rates = rates_here()
        asked = work(run, data_info, microbatch=microbatch, checkpointing=layout.checkpointing)
        computing = accumulation * measured_seconds(asked, rates, run.settled_precision)
        update = update_seconds(parameters, rates, clipped=run.optim.clip < float("inf")) / layout.shards
    else:
        peak = device.fp32 if run.settled_precision == "fp32" else device.bf16
        asked_flops = flops + (recomputed_flops(run, data_info) if layout.checkpointing else 0)
        computing = accumulation * microbatch * asked_flops / (peak * device.mfu)
        update = ADAMW_BYTES * trained / layout.shards / device.bandwidth
    whole = parameters.size
    bf16 = run.settled_precision != "fp32"
    exchanging = _exchange_seconds(layout, device, weights=whole, gradients=trained, bf16=bf16)
    if layout.kind != "ddp":  # DDP shares gradients once a step
        exchanging *= accumulation
    return StepTime(computing=computing, exchanging=exchanging, update=update)


def recomputed_flops(run: Run, data_info: DataInfo) -> int:
    """FLOPs of one sample's second forward pass through the blocks."""
    return 2 * sum(part.recomputed_macs for part in parts(run, data_info))


def _exchange_seconds(layout: Layout, device: Device, *, weights: int, gradients: int, bf16: bool) -> float:
    """Seconds of communication for one microbatch (DDP: for a step) with ring algorithms, for so many parameters."""
    gathered = 2 * (2 if bf16 else FP32) * weights  # in the forward and again in the backward pass
    reduced = FP32 * gradients
    between = partial(_transfer, device=device)
    if layout.kind == "ddp":
        return between(2 * reduced, layout.ranks)
    if layout.kind == "fsdp":
        return between(gathered + reduced, layout.ranks)
    if layout.kind == "hsdp":
        over_network = 2 * reduced / NODE / (device.network * LINK_SHARE) * (layout.copies - 1) / layout.copies
        return max(between(gathered + reduced, NODE), over_network)  # on different wires
    return 0.0


def _transfer(size: float, ranks: int, *, device: Device) -> float:
    speed = device.link if ranks <= NODE else device.network
    return size * (ranks - 1) / ranks / (speed * LINK_SHARE)
