"""What people read while a command works."""

from __future__ import annotations

import sys


def say(message: str) -> None:
    """One line for people, on standard error, so that standard output stays free for results."""
    print(message, file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """``1h02m``, ``3m05s`` or ``12s``."""
    seconds = round(seconds)
    if seconds >= 3600:
        return f"{seconds // 3600}h{seconds % 3600 // 60:02d}m"
    return f"{seconds // 60}m{seconds % 60:02d}s" if seconds >= 60 else f"{seconds}s"
