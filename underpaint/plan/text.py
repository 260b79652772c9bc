"""A plan as text for people."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import asdict

from underpaint.messages import duration
from underpaint.plan.accelerators import GIB
from underpaint.plan.estimate import Plan
from underpaint.plan.parallel_layout import NODE
from underpaint.plan.rates import Calibration

FIRST_NODE = "FIRST_NODE"
"""Stands in a printed command for the name of the machine that all others can reach."""


def render(plan: Plan) -> str:
    """Some twenty lines: the verdict, memory by part, time and money, the command, and what was assumed."""
    return "\n".join(_lines(plan))


def render_rates(rates: Calibration) -> str:
    """The rates that ``calibrate`` measured: the device, a line for each type, and one for memory."""
    lines = [f"{rates.device}, {rates.threads} threads, torch {rates.torch}, {rates.date}"]
    for kind, by_side in rates.matmul.items():
        shown = ", ".join(f"{rate / 1e9:,.1f} at {side}" for side, rate in by_side.items())
        lines.append(f"  {kind} products, GFLOP/s by side: {shown}")
    lines.append(f"  additions into new memory: {3 * rates.add / 1e9:,.1f} GB/s read and written")
    return "\n".join(lines)


def _lines(plan: Plan) -> Iterator[str]:
    layout, device = plan.layout, plan.device
    machines = f"{layout.ranks} x {device.name}" if not device.is_cpu else "this machine's processor"
    yield f"{plan.recipe} on {machines}: {'fits' if plan.fits else 'does not fit'}, {layout}"
    yield f"  parameters      {plan.params:,}"
    yield f"  FLOPs           {plan.flops_per_sample:.3g} a sample, {plan.flops_per_sample * plan.samples:.3g} in all"
    yield f"  batch           {plan.batch_size:,} = {plan.microbatch} x {layout.ranks} ranks x {plan.accumulation}"
    peak, moment = plan.memory.peak, plan.memory.moment
    yield f"  memory          {peak / GIB:.2f} of {device.usable / GIB:.2f} GiB a rank, at {moment}"
    for name, size in asdict(plan.memory).items():
        if name not in ("peak", "moment") and size:
            yield f"    {name:13} {size / GIB:8.2f} GiB"
    speed = plan.samples / plan.seconds
    yield f"  time            {duration(plan.seconds)} for {plan.samples:,} samples, {speed:,.0f} images/s"
    step = plan.step
    bound = "computation" if step.computing >= step.exchanging else "communication"
    parts = f"computation {step.computing:.3g}, communication {step.exchanging:.3g}, update {step.update:.3g}"
    yield f"  step            {step.seconds:.3g} s, bound by {bound} ({parts})"
    if plan.reading:
        evaluations = f", {duration(plan.evaluating)} for held-out losses in all" if plan.evaluating else ""
        yield f"  reading         {plan.reading:.3g} s a step{evaluations}"
    rate = plan.data_bytes / plan.seconds
    yield f"  data            {plan.data_bytes / 1e12:,.3g} TB to read, {rate / 1e6:,.1f} MB/s"
    money = f", {plan.cost:,.2f} at {plan.price:g} an hour" if plan.price else ""
    yield f"  {'hours    ' if device.is_cpu else 'GPU hours'}       {plan.gpu_hours:,.1f}{money}"
    command = _command(plan)
    yield f"  command         {command}"
    if FIRST_NODE in command:
        yield f"                  on every node, with the name of the first for {FIRST_NODE}"
    yield "assumed:"
    for line in plan.assumptions:
        yield f"  {line}"


def _command(plan: Plan) -> str:
    layout = plan.layout
    fields = [*plan.fields, f"budget.microbatch={plan.microbatch}"]
    if layout.kind != "single":
        fields.insert(0, f"parallel.layout={layout.kind}")
    if layout.checkpointing:
        fields.append("parallel.checkpoint_activations=true")
    return shlex.join([*_start(layout.ranks), "train", plan.recipe, *fields])


def _start(ranks: int) -> list[str]:
    """The words that start so many processes, on whole nodes of at most NODE of them."""
    if ranks == 1:
        return ["underpaint"]
    each = max(count for count in range(1, NODE + 1) if ranks % count == 0)
    meeting = [] if ranks == each else ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"{FIRST_NODE}:29400"]
    return ["torchrun", "--nnodes", str(ranks // each), "--nproc-per-node", str(each), *meeting, "-m", "underpaint"]
