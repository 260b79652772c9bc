"""What a step frees is there for the next one: counted in pages that the system had to give."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import torch
from underpaint.training.allocator import keep_freed_memory

torch.set_num_threads(1)
if sys.argv[1] == "kept":
    keep_freed_memory()
def step():
    held = [torch.ones(1 << 24) for _ in range(4)]  # of 64 MiB: more than glibc ever keeps by itself
    del held
for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc that gives memory back")
def test_memory_that_a_step_freed_is_not_given_back() -> None:
    kept, default = ([pages_of(how) for _ in range(3)] for how in ("kept", "default"))
    assert min(kept) < 0.05 * min(default)  # where the heap lies is drawn at random, and so is what stays between


def pages_of(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True)
    return int(done.stdout)
