"""A remark about images of an evaluation that could not be read."""

from __future__ import annotations

from collections.abc import Sequence

_SHOWN = 3


def unreadable_images(paths: Sequence[str], *, total: int, what: str) -> list[str]:
    """The remark: how many of how many, and the first of them by name; none where all could be read."""
    if not paths:
        return []
    shown = ", ".join(map(repr, paths[:_SHOWN]))
    named = f"such as {shown}" if len(paths) > _SHOWN else shown
    return [f"{len(paths)} of {total} {what} images could not be read: {named}"]
