"""Layouts of a network on ranks: a copy on each (DDP), sharded over all (FSDP2), or sharded inside each node (HSDP).

The loop does not know. It calls ``TrainState.network``; what differs is what is passed in.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from underpaint.config import LATER
from underpaint.core import Step
from underpaint.training import sharded_tensors
from underpaint.training.ranks import Ranks

Layout = Literal["single", "ddp", "fsdp", "hsdp"]


@dataclass(frozen=True, kw_only=True)
class ParallelConfig:
    """Layout of a run on the processes that torchrun starts; in one process every layout is the plain network."""

    layout: Layout = "ddp"  # single refuses to be started more than once
    node: int = 8  # hsdp: ranks that share one copy of the weights
    checkpoint_activations: bool = False  # recompute each block in the backward pass
    # Norms and GELU alone: two fifths less of what blocks keep (price: docs/results/training_speed.md).
    recompute_pointwise: bool = field(default=False, metadata=LATER)
    compile: bool = False  # torch.compile each block
    hang_seconds: float = 1800.0  # without a step, evaluation or checkpoint: stacks are printed, the process ends
    slow_factor: float = 3.0  # a rank that takes so many times the median time for a phase is named

    def __post_init__(self) -> None:
        if self.recompute_pointwise and self.compile:
            raise ValueError(
                "parallel.recompute_pointwise=true has no effect with parallel.compile=true, whose compiler decides by "
                "itself what to keep; set one of them"
            )
        if self.node < 1:
            raise ValueError(f"parallel.node={self.node} must be at least 1")
        if self.hang_seconds <= 0 or self.slow_factor <= 1:
            raise ValueError(
                f"parallel.hang_seconds={self.hang_seconds} must be positive, "
                f"parallel.slow_factor={self.slow_factor} above 1"
            )

    def require(self, ranks: Ranks) -> None:
        """Raise ValueError for a number of processes that the layout cannot have."""
        if self.layout == "single" and ranks.world > 1:
            raise ValueError(f"parallel.layout=single, but {ranks.world} processes were started; choose ddp or fsdp")
        if self.layout == "hsdp" and ranks.world > 1 and ranks.world % self.node:
            raise ValueError(
                f"parallel.layout=hsdp shards inside nodes of parallel.node={self.node}, which does not divide the "
                f"{ranks.world} processes"
            )

    def shards(self, ranks: Ranks) -> bool:
        """Whether ranks hold different parts of the weights."""
        return ranks.world > 1 and self.layout in ("fsdp", "hsdp")


def prepare_blocks(
    blocks: Sequence[nn.Module], config: ParallelConfig, *, make_lean: Callable[[nn.Module], None]
) -> None:
    """Recomputation, checkpointing and compilation, block by block; the names of the parameters stay as they are.

    ``make_lean`` swaps in the form of a block that recomputes norms and GELU (models/recompute.py).
    """
    for block in blocks:
        if config.recompute_pointwise:
            make_lean(block)
        if config.checkpoint_activations:
            _recompute(block)
        if config.compile:
            block.compile()


def _recompute(block: nn.Module) -> None:
    """Draws are passed in (drop_path), so that no state of a generator needs to be kept."""
    forward = block.forward

    def recomputed(*given: Any, **named: Any) -> Any:
        return checkpoint(forward, *given, use_reentrant=False, preserve_rng_state=False, **named)

    block.forward = recomputed


class Replicated(DistributedDataParallel):
    """DDP that shares gradients in the last microbatch of a step only."""

    def __init__(self, objective: nn.Module, *, accumulation: int) -> None:
        with warnings.catch_warnings():  # its new name is not in all releases of torch that we take
            warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
            super().__init__(objective, broadcast_buffers=False)  # the loop averages running statistics itself
        self.accumulation, self.calls = accumulation, 0

    def forward(self, *given: object, **named: object) -> Step:
        self.calls += 1
        self.require_backward_grad_sync = self.calls % self.accumulation == 0
        step = super().forward(*given, **named)
        assert isinstance(step, Step)
        return step


def shard(
    objective: nn.Module,
    config: ParallelConfig,
    *,
    ranks: Ranks,
    device: torch.device,
    blocks: Sequence[nn.Module],
    bf16: bool,
) -> None:
    """FSDP2 in place: each block is a group, the rest of the encoder another, and what stands around it the last.

    With ``bf16`` weights travel and compute in bf16; gradients are reduced, and the optimizer's weights kept, in fp32.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    if config.layout == "hsdp":
        shape, names = (ranks.world // config.node, config.node), ("replicate", "shard")
    else:
        shape, names = (ranks.world,), ("shard",)
    mesh = init_device_mesh(device.type, shape, mesh_dim_names=names)
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if bf16 else None, reduce_dtype=torch.float32, cast_forward_inputs=False
    )
    encoder = objective.encoder
    assert isinstance(encoder, nn.Module)
    if bf16:  # evaluations run without autocast, which weights that arrive in bf16 do not fit
        for module in (objective, encoder):
            module.forward = torch.autocast(device.type, dtype=torch.bfloat16)(module.forward)
    for module in (*blocks, encoder, objective):
        fully_shard(module, mesh=mesh, mp_policy=policy)


def fill(objective: nn.Module, values: Mapping[str, Callable[[], Tensor]], device: torch.device) -> None:
    """Give memory to a network of ``meta`` tensors, and its values by name; each rank keeps its part."""
    objective.to_empty(device=device)
    for name, tensor in (*objective.named_parameters(), *objective.named_buffers()):
        sharded_tensors.fill(tensor, values[name]())
