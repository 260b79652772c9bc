"""The device of a run, and what it can do."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path

import torch

MOST_WORKERS = 8
"""More processes that decode rarely make an encoder faster."""


def usable_cpus(*, proc: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> int:
    """The CPUs that this process may use: fewer than the machine's under ``taskset``, in a container's set, or under a
    quota of its control group (rounded up), as ``docker run --cpus`` and Kubernetes set.
    """
    count = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    quota = cpu_quota(proc, root)
    return count if quota is None else max(1, min(count, math.ceil(quota)))


def cpu_quota(proc: Path, root: Path) -> float | None:
    """The smallest quota of CPUs of this process's control groups and of those above; None without one.

    ``proc`` lists the groups (``cgroups(7)``): version 2 gives ``cpu.max``, version 1 ``cpu.cfs_quota_us``.
    """
    try:
        groups = [line.split(":", 2) for line in proc.read_text().splitlines()]
    except OSError:
        return None
    quotas: list[float] = []
    for number, controllers, path in (group for group in groups if len(group) == 3):
        if number != "0" and "cpu" not in controllers.split(","):
            continue
        top = root if number == "0" else root / controllers
        inside = [top / path.strip("/"), *(top / path.strip("/")).parents]
        for folder in (folder for folder in inside if folder.is_relative_to(top)):
            quotas += [quota] if (quota := _quota_of(folder)) is not None else []
    return min(quotas, default=None)


def _quota_of(folder: Path) -> float | None:
    """The quota that the files of one group set; None where there is none, "max" or -1."""
    try:
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        return float(quota) / float(period) if quota not in ("max", "-1") else None
    except (OSError, ValueError, ZeroDivisionError):
        return None


def choose_device(name: str, *, local_rank: int = 0) -> torch.device:
    """The device to train on; "any" is the first of CUDA, MPS and CPU that is there.

    Raises:
        ValueError: if the named device is not on this machine.
    """
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "any":
        name = next(kind for kind, there in present.items() if there)
    if not present[name]:
        there = ", ".join(kind for kind, there in present.items() if there)
        raise ValueError(f"device={name} is not available here; this machine has {there}")
    return torch.device(name, local_rank) if name == "cuda" and local_rank else torch.device(name)


def usual_workers(processes: int = 1) -> int:
    """Processes that decode images for each of so many encoders of this machine."""
    return min(MOST_WORKERS, usable_cpus() // processes)
