"""Messages to people while a command works: lines on standard error, durations and counts as text."""

from __future__ import annotations

import sys


def say(message: str) -> None:
    """One line for people, on standard error, so that standard output stays free for results."""
    print(message, file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """``2.6 days`` (from two on), ``1 h 02 min``, ``3 min 05 s``, ``12 s``, or ``1.5 s`` below ten seconds."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 172_800:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{seconds / 86_400:,.1f} days"


def counted(number: int, noun: str, plural: str = "") -> str:
    """``1 image`` or ``1,200 images``; ``plural`` is that of a noun which takes more than an s."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {plural or f'{noun}s'}"
