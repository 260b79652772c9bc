"""The processes of one run, started by torchrun or alone: how they find each other, agree, and part.

Alone, every method is the identity. Messages between ranks are JSON; nothing is unpickled.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from underpaint.training.rendezvous import meet

T = TypeVar("T")

JOIN_SECONDS = 1800.0
"""Longest wait of a collective for the slowest rank (opening the data, an evaluation) before it is an error."""


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """Operations that the processes of a run do together."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1  # processes on this machine
    control: Any = field(default=None, repr=False)  # gloo group of its own: works beside NCCL, and in a thread

    @property
    def first(self) -> bool:
        """The rank that logs, locks the folder and writes reports."""
        return self.rank == 0

    def exchange(self, value: T) -> list[T]:
        """The values of all ranks, in order; anything JSON can hold. Every rank must call it."""
        if self.world == 1:
            return [value]
        content = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.world)]
        dist.all_gather(sizes, torch.tensor([len(content)]), group=self.control)
        longest = int(max(sizes))
        padded = torch.cat([content, torch.zeros(longest - len(content), dtype=torch.uint8)])
        parts = [torch.zeros(longest, dtype=torch.uint8) for _ in range(self.world)]
        dist.all_gather(parts, padded, group=self.control)
        return [json.loads(leave[: int(size)].numpy().tobytes()) for leave, size in zip(parts, sizes, strict=True)]

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on some rank; the same answer on all."""
        if self.world == 1:
            return flag
        value = torch.tensor([flag], dtype=torch.int32)
        dist.all_reduce(value, dist.ReduceOp.MAX, group=self.control)
        return bool(value)

    def mean(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Each tensor's mean over the ranks, in one message; what is not finite on one rank is so on all."""
        if self.world == 1 or not values:
            return dict(values)
        flat = torch.cat([value.detach().double().flatten() for value in values.values()])
        dist.all_reduce(flat)
        parts = (flat / self.world).split([value.numel() for value in values.values()])
        return {
            name: leave.view(value.shape).to(value.dtype)
            for (name, value), leave in zip(values.items(), parts, strict=True)
        }

    def broadcast_from_first(self, decide: Callable[[], T]) -> T:
        """Result of ``decide`` on rank 0 (a JSON value), on all ranks; the others wait for it, and fail with it.

        Raises:
            ValueError: on the others, where rank 0 raises ValueError or OSError.
        """
        if self.world == 1:
            return decide()
        if not self.first:
            answer = self.exchange({})[0]
            if "error" in answer:
                self.leave()
                raise ValueError(f"rank 0: {answer['error']}")
            return answer["value"]
        try:
            value = decide()
        except (ValueError, OSError) as error:
            self.exchange({"error": str(error)})
            self.leave()
            raise
        self.exchange({"value": value})
        return value

    def compare(self, value: T, require: Callable[[list[T]], None]) -> None:
        """Let every rank check the values of all; they fail together, with the ValueError of ``require``."""
        values = self.exchange(value)
        try:
            require(values)
        except ValueError:
            self.leave()
            raise

    def first_per_node(self, work: Callable[[], T]) -> T:
        """Do the same work on all ranks, first on the first of each machine, which fills caches for the others."""
        if self.local_rank == 0:
            done = work()
            self.exchange(None)
            return done
        self.exchange(None)
        return work()

    def leave(self) -> None:
        """Leave the group when the interpreter ends; all ranks have ended here, well or with the same error.

        Without it gloo's threads now and then abort a process at exit; after an error on one rank alone the others do
        not come here, and waiting for them would hang.
        """
        if self.world > 1:
            self.exchange(None)
            atexit.register(_leave)

    def new_channel(self) -> Ranks:
        """The same ranks with a channel of their own, for a thread that talks beside the main one."""
        if self.world == 1:
            return self
        return replace(self, control=_channel())


def join() -> Ranks:
    """The ranks this process belongs to, by the environment that torchrun sets, and scripts of srun can set."""
    return _joined() if int(os.environ.get("WORLD_SIZE", "1")) > 1 else Ranks()


@cache
def _joined() -> Ranks:
    world, local = int(os.environ["WORLD_SIZE"]), int(os.environ.get("LOCAL_RANK", "0"))
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(local)
    store, rank, _ = next(rendezvous("env://", timeout=_timeout()))
    store = meet(store, rank=rank, world=world, timeout=_timeout())
    backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=_timeout())
    return Ranks(
        rank=dist.get_rank(),
        world=world,
        local_rank=local,
        local_world=int(os.environ.get("LOCAL_WORLD_SIZE", world)),
        control=_channel(),
    )


def _channel() -> Any:
    return dist.new_group(backend="gloo", timeout=_timeout())


def _timeout() -> timedelta:
    return timedelta(seconds=JOIN_SECONDS)


def _leave() -> None:
    if dist.is_initialized():
        gc.collect()
        dist.destroy_process_group()
