"""A training step of one rank among many, simulated in one process: no memory is filled, nothing is sent, no GPU.

FSDP2 itself shards fake tensors (sizes without storage) over a fake process group, and torch's tracker adds up what
lives. It stands on private parts of torch (``_tools``, ``FakeStore``), so it checks the closed form of memory.py and
does not replace it. Three known gaps are avoided: the device mesh is made outside of fake mode, devices are "cpu" (CUDA
needs a driver), and the optimizer's state is counted from its tensors, since the tracker counts it on all ranks
together.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from underpaint.core import as_objective, example_batch
from underpaint.models.recompute import make_lean
from underpaint.plan.parallel_layout import NODE, Layout
from underpaint.plan.parameters import assumed_data
from underpaint.run import Run
from underpaint.run.bare_steps import bare_loop
from underpaint.training import parallel
from underpaint.training.loop import _forward_backward as forward_backward  # pyright: ignore[reportPrivateUsage]
from underpaint.training.optim import build_optimizer
from underpaint.training.ranks import Ranks


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """Bytes of rank 0, and how long it took to find out."""

    weights: int
    gradients: int
    optimizer: int
    peak: int  # of the first forward and backward pass, before the optimizer has a state
    seconds: float


def dry_run(run: Run, layout: Layout, *, microbatch: int, labels: int) -> DryRun:
    """One step of rank 0 under FSDP2 or HSDP.

    Raises:
        ValueError: for a layout that shards nothing, or in a process that trains with others already.
    """
    if layout.shards == 1:
        raise ValueError(f"a dry run simulates fsdp or hsdp, not {layout.kind}")
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.distributed._tools.fsdp2_mem_tracker import FSDPMemTracker

    started = time.perf_counter()
    with torch.device("meta"):
        network = run.objective.build(assumed_data(labels))
    with _fake_ranks(layout) as ranks:
        # Before fake mode: FSDP cuts each parameter into as many pieces as ranks, which is quick on meta alone.
        _shard(network, layout, ranks, bf16=run.settled_precision != "fp32")
        with FakeTensorMode(allow_non_fake_inputs=True):
            _to_fake(network)
            batch = example_batch(run.objective.inputs, microbatch)
            tracker = FSDPMemTracker(network)
            tracker.track_inputs((batch,))
            with tracker:
                forward_backward(network, iter((batch,)), bare_loop(run, steps=1))
            local = _local(network)
            optimizer = build_optimizer(local, run.optim, layer_of=lambda name: 0)
            optimizer.step()
    state = [value for entry in optimizer.state.values() for value in entry.values() if torch.is_tensor(value)]
    return DryRun(
        weights=_bytes(local.parameters()),
        gradients=_bytes(p.grad for p in local.parameters() if p.grad is not None),
        optimizer=_bytes(value for value in state if value.ndim),  # not the counters of steps
        peak=tracker.get_tracker_snapshot("peak")[torch.device("cpu")]["Total"],
        seconds=time.perf_counter() - started,
    )


@contextmanager
def _fake_ranks(layout: Layout) -> Iterator[Ranks]:
    from torch.testing._internal.distributed.fake_pg import FakeStore

    if dist.is_initialized():
        raise ValueError("this process belongs to a process group; a dry run needs a process without one")
    dist.init_process_group("fake", rank=0, world_size=layout.ranks, store=FakeStore())
    try:
        yield Ranks(world=layout.ranks)
    finally:
        dist.destroy_process_group()


def _shard(network: nn.Module, layout: Layout, ranks: Ranks, *, bf16: bool) -> None:
    """Shard and prepare the network as ``run.execute`` does."""
    blocks = as_objective(network).blocks()
    config = parallel.ParallelConfig(layout=layout.kind, node=NODE, checkpoint_activations=layout.checkpointing)
    parallel.shard(network, config, ranks=ranks, device=torch.device("cpu"), blocks=blocks, bf16=bf16)
    parallel.prepare_blocks(blocks, config, make_lean=make_lean)


def _to_fake(network: nn.Module) -> None:
    """Fake tensors on "cpu" in the place of those on meta (``to_empty`` does not work in fake mode)."""
    for module in network.modules():
        for name, value in list(module.named_parameters(recurse=False)):
            assert isinstance(value, DTensor)
            piece = torch.empty_like(value.to_local(), device="cpu")
            fake = DTensor.from_local(
                piece, value.device_mesh, value.placements, run_check=False, shape=value.shape, stride=value.stride()
            )
            module.register_parameter(name, nn.Parameter(fake, requires_grad=value.requires_grad))
        for name, value in list(module.named_buffers(recurse=False)):
            module.register_buffer(name, torch.empty_like(value, device="cpu"))


def _local(network: nn.Module) -> nn.Module:
    """The pieces of this rank as parameters of their own, with their gradients."""
    local = nn.ParameterList()
    for parameter in network.parameters():
        assert isinstance(parameter, DTensor)
        piece = nn.Parameter(parameter.to_local().detach(), requires_grad=parameter.requires_grad)
        if isinstance(parameter.grad, DTensor):
            piece.grad = parameter.grad.to_local()
        local.append(piece)
    return local


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(value.numel() * value.element_size() for value in tensors)
