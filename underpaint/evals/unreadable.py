"""A remark about images of an evaluation that could not be read."""

from __future__ import annotations

from collections.abc import Sequence

_SHOWN = 3


def unreadable_images(
    paths: Sequence[str], *, total: int, what: str, wrong: bool = False, noun: str = "images"
) -> list[str]:
    """The remark: how many of how many, whether they count as ``wrong``, and the first by name; none without any."""
    if not paths:
        return []
    shown = ", ".join(map(repr, paths[:_SHOWN]))
    named = f"such as {shown}" if len(paths) > _SHOWN else shown
    counted = " and count as wrong" if wrong else ""
    return [f"{len(paths)} of {total} {what} {noun} could not be read{counted}: {named}"]
