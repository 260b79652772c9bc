"""The engine of the evaluations of this process: its device, its workers, and the processes that share its images."""

from __future__ import annotations

from underpaint.data.feature_store import Staff
from underpaint.data.image_options import MAX_WORKERS
from underpaint.evals.engine import Engine
from underpaint.training.devices import choose_device, usual_workers
from underpaint.training.ranks import join


def engine_for(workers: int | None = None) -> Engine:
    """An engine that keeps features in the cache; under torchrun the processes share the images.

    ``workers`` processes beside each of them decode; None is as many as usually help.

    Raises:
        ValueError: for a number of workers that is negative or very large.
    """
    ranks = join()
    workers = usual_workers(ranks.local_world) if workers is None else workers
    if not 0 <= workers <= MAX_WORKERS:
        raise ValueError(f"workers={workers} must lie between 0 and {MAX_WORKERS}; each is a process")
    device = choose_device("any", local_rank=ranks.local_rank)
    return Engine(device=device, staff=Staff(workers=workers, group=ranks), cached=True)
