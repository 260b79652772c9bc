"""Rendezvous of the ranks of one start of a run, in a store that may remember earlier starts.

torchrun keeps one store over its restarts. Keys of the start before are still there, and a rank that is quicker than
the one it reads of would connect to an address where nobody listens any more, or take an old NCCL id. So the ranks
first agree on a name for this start, and talk under it (pytorch issue 135712; the count of restarts will not do, since
each machine has its own).
"""

from __future__ import annotations

import secrets
import time
from datetime import timedelta

from torch.distributed.distributed_c10d import PrefixStore, Store

_PAUSE = 0.002  # seconds per rank between two looks of one: a store answers some ten thousand questions a second


def meet(store: Store, *, rank: int, world: int, timeout: timedelta) -> Store:
    """The part of the store that belongs to this start alone.

    Every rank writes a token that it has just drawn; rank 0 joins them to a name, and again while a token changes,
    until all ranks have answered with that name. So every token in it is of a rank that lives.

    Raises:
        TimeoutError: when some rank did not come.
    """
    token, deadline = secrets.token_hex(8), time.monotonic() + timeout.total_seconds()
    store.set(f"start/token/{rank}", token)
    proposed = agreed = ""
    while token not in agreed.split("-"):
        if rank == 0:
            tokens = "-".join(_values(store, "token", world))
            if tokens != proposed:
                store.set("start/proposed", proposed := tokens)
            if _values(store, "answer", world, but_first=True) == [proposed] * (world - 1):
                store.set("start/agreed", proposed)
        elif token in (seen := _value(store, "proposed")).split("-") and seen != proposed:
            store.set(f"start/answer/{rank}", proposed := seen)
        agreed = _value(store, "agreed")
        if time.monotonic() > deadline:
            raise TimeoutError(f"rank {rank} waited {timeout} for the other ranks of {world}; are all of them started?")
        time.sleep(min(1.0, world * _PAUSE))
    return PrefixStore(agreed, store)


def _values(store: Store, kind: str, world: int, *, but_first: bool = False) -> list[str]:
    return [_value(store, f"{kind}/{rank}") for rank in range(int(but_first), world)]


def _value(store: Store, name: str) -> str:
    """Current value of a key, "" if it has none: a plain ``get`` would wait for it."""
    key = f"start/{name}"
    return store.get(key).decode() if store.check([key]) else ""
