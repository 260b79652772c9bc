"""The memory of training steps as torch's own storages tell it."""

from __future__ import annotations

import weakref
from dataclasses import replace
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from underpaint.core import DataInfo
from underpaint.models.recompute import make_lean
from underpaint.run import Run
from underpaint.training.optim import build_optimizer
from underpaint.training.parallel import prepare_blocks


class Live(TorchDispatchMode):
    """Adds up the storages that are alive: each counts from the operation that made it until it is freed."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[int, int] = {}
        self.total = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor) and id(leaf.untyped_storage()) not in self.sizes:
                storage = leaf.untyped_storage()
                self.sizes[id(storage)] = storage.nbytes()
                self.total += storage.nbytes()
                weakref.finalize(storage, self.drop, id(storage))
        self.peak = max(self.peak, self.total)
        return out

    def drop(self, key: int) -> None:
        self.total -= self.sizes.pop(key)


def live_peak(run: Run, data_info: DataInfo, batch: dict[str, Any], *, checkpointing: bool = False) -> int:
    """Most bytes alive in two optimizer steps on a microbatch, the network and its optimizer included."""
    with Live() as live:
        network: Any = run.objective.build(data_info)
        blocks = network.blocks()
        prepare_blocks(
            blocks, replace(run.parallel, layout="single", checkpoint_activations=checkpointing), make_lean=make_lean
        )
        optimizer = build_optimizer(network, run.optim, layer_of=network.layer_of)
        batch = {name: value.clone() for name, value in batch.items()}
        for _ in range(2):
            for _ in range(run.budget.batch_size // run.budget.microbatch):
                with torch.autocast("cpu", dtype=torch.bfloat16, enabled=run.precision == "bf16"):
                    loss = network(batch).loss
                loss.backward()
                del loss
            optimizer.step()
            optimizer.zero_grad()
    return live.peak
