"""The device of a run, and what it can do."""

from __future__ import annotations

import os
import sys

import torch


def usable_cpus() -> int:
    """The CPUs that this process may run on: fewer than the machine's under ``taskset`` or in a container's set."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


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


def remark_on(precision: str, device: torch.device) -> str:
    """A sentence where the precision is only emulated, and slower than fp32; "" where there is nothing to say."""
    if precision == "fp32" or device.type != "cpu":
        return ""
    able = torch.cpu.get_capabilities()
    if any(value for name, value in able.items() if "bf16" in name):
        return ""
    return (
        f"this processor ({able.get('cpu_name', 'unnamed')}) has no bf16 instructions and only emulates them; "
        "precision=fp32 is quicker here"
    )
