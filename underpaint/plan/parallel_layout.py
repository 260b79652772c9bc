"""Layouts of a network on ranks: one process, DDP, FSDP2 (sharded over all) or HSDP (sharded inside each node)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["single", "ddp", "fsdp", "hsdp"]
KINDS: tuple[Kind, ...] = ("single", "ddp", "fsdp", "hsdp")
NODE = 8
"""GPUs of one node, as in the machines the large devices are sold in: an assumption of every plan."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    kind: Kind = "single"
    ranks: int = 1
    checkpointing: bool = False  # recompute each block in the backward pass

    def __post_init__(self) -> None:
        if self.ranks < 1:
            raise ValueError(f"gpus={self.ranks} must be at least 1")
        if self.kind not in KINDS:
            raise ValueError(f"layout={self.kind!r} is not one of {', '.join(KINDS)}")
        if (self.kind == "single") != (self.ranks == 1):
            raise ValueError(f"layout={self.kind} does not go with gpus={self.ranks}; one GPU is 'single'")
        if self.kind == "hsdp" and (self.ranks <= NODE or self.ranks % NODE):
            raise ValueError(f"layout=hsdp needs several whole nodes of {NODE} GPUs, not gpus={self.ranks}")

    @property
    def shards(self) -> int:
        """Ranks that share one copy of weights, gradients and optimizer state."""
        return {"single": 1, "ddp": 1, "fsdp": self.ranks, "hsdp": NODE}[self.kind]

    @property
    def copies(self) -> int:
        return self.ranks // self.shards

    def __str__(self) -> str:
        return self.kind + (" with checkpointing" if self.checkpointing else "")


def possible(ranks: int) -> list[Layout]:
    """Every layout of so many ranks, the simplest first."""
    kinds: list[Kind] = ["single"] if ranks == 1 else ["ddp", "fsdp"]
    if ranks > NODE and ranks % NODE == 0:
        kinds.append("hsdp")
    return [
        Layout(kind=kind, ranks=ranks, checkpointing=checkpointing) for checkpointing in (False, True) for kind in kinds
    ]
