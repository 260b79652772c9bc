"""Messages to people while a command works: lines on standard error, durations and counts as text."""

from __future__ import annotations

import sys

_JOINERS = "\u200c\u200d"
"""Letters without width that names in Persian, and emoji, are made of."""


def say(message: str) -> None:
    """One line for people, on standard error, so that standard output stays free for results."""
    print(message, file=sys.stderr, flush=True)


def one_line(name: object) -> str:
    r"""A name as one line: line breaks, escapes and marks of direction become ``\n``, ``\x1b``, ``\u202e``."""
    return "".join(letter if letter.isprintable() or letter in _JOINERS else repr(letter)[1:-1] for letter in str(name))


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
