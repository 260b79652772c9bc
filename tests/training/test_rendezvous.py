"""Ranks that meet in a store with the remains of earlier starts."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from torch.distributed import HashStore, Store

from underpaint.training.rendezvous import meet


def start(store: Store, delays: list[float]) -> dict[int, str]:
    """One start: each rank comes after its delay, then writes where it is and reads where the first is."""

    def rank(number: int) -> str:
        time.sleep(delays[number])
        own = meet(store, rank=number, world=len(delays), timeout=timedelta(seconds=20))
        if number == 0:
            own.set("address", f"{time.monotonic_ns()}")
        return own.get("address").decode()

    with ThreadPoolExecutor(len(delays)) as pool:
        return dict(enumerate(pool.map(rank, range(len(delays)))))


@pytest.mark.parametrize("world", [2, 4])
def test_no_rank_reads_what_an_earlier_start_left(world: int) -> None:
    store, draw, met = HashStore(), random.Random(world), set()
    for _ in range(8):
        found = start(store, [draw.choice([0.0, 0.01, 0.1]) for _ in range(world)])
        assert len(set(found.values())) == 1, "all read of one start"
        met |= set(found.values())
    assert len(met) == 8, "and each start of its own"


def test_a_rank_that_came_and_died_is_not_waited_for() -> None:
    store = HashStore()
    with pytest.raises(TimeoutError, match="rank 1 waited"):
        meet(store, rank=1, world=3, timeout=timedelta(seconds=0.1))
    assert len(set(start(store, [0.0, 0.2, 0.1]).values())) == 1
