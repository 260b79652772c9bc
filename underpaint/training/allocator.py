"""Settings of glibc's allocator, so that it keeps the memory that a training step frees."""

from __future__ import annotations

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST = 1 << 30
"""Bytes: larger tensors still come from the system and go back to it, one by one."""

LARGEST_BEFORE_2_35 = 1 << 25
"""Older releases of glibc take no more."""


def keep_freed_memory() -> None:
    """Let glibc keep what is freed for the next step; other C libraries stay as they are.

    By default it returns the activations of each step to the system, which zeroes them, page by page, in the next one:
    a tenth of the processor time of a small network. The process keeps the largest size it has had.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    library = ctypes.CDLL(None)
    library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    if not library.mallopt(M_MMAP_THRESHOLD, LARGEST):
        library.mallopt(M_MMAP_THRESHOLD, LARGEST_BEFORE_2_35)
