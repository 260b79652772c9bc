"""Progress of a long step and the estimated time left, on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

from underpaint.messages import duration, say

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

Item = TypeVar("Item")

PLAIN_EVERY = 10.0
"""Seconds between two lines where standard error is not a terminal."""
DRAW_EVERY = 0.1
"""Seconds between two pictures of the bar where it is one."""


class Progress:
    """A bar on a terminal; elsewhere a plain line now and then, and none of a step that is over at once.

    No thread draws the bar, since a step may start processes: it moves only when ``update`` is called.
    """

    def __init__(
        self,
        step: str,
        *,
        total: int,
        unit: str,
        done: int = 0,
        seconds_left: Callable[[], float | None] | None = None,
    ) -> None:
        """``done`` of ``total`` units were done before; they say nothing about the speed of those to come.

        Units of different length need ``seconds_left``, which knows better than their number; None is "not yet".
        """
        self._step, self._total, self._unit, self._before = step, total, unit, done
        self._seconds_left = seconds_left
        self._started = self._drawn = time.monotonic()
        self._has_spoken = False
        self._bar = _bar(step, total=total, unit=unit, done=done) if sys.stderr.isatty() else None

    @property
    def seconds(self) -> float:
        """Time since the step began."""
        return time.monotonic() - self._started

    def update(self, done: int, note: str = "") -> None:
        """Show that so many units are done; ``note`` stands beside the count."""
        now, is_last = time.monotonic(), done >= self._total
        since = now - self._drawn
        if self._bar is not None:
            if since >= DRAW_EVERY or is_last:
                self._drawn = now
                task = self._bar.task_ids[0]
                self._bar.update(task, completed=done, note=note, left=self._left(done), refresh=True)
        elif since >= PLAIN_EVERY or (is_last and self._has_spoken):
            self._drawn, self._has_spoken = now, True
            said = [f"{done:,}/{self._total:,} {self._unit}", *([note] if note else []), f"{self._left(done)} left"]
            say(f"{self._step}: {'  '.join(said)}")

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.stop()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _left(self, done: int) -> str:
        if self._seconds_left is not None:
            seconds = self._seconds_left()
            return "?" if seconds is None else duration(seconds)
        taken = done - self._before
        return duration(self.seconds / taken * max(self._total - done, 0)) if taken > 0 else "?"


def progress(items: Iterable[Item], step: str, *, total: int, unit: str) -> Iterator[Item]:
    """Pass ``total`` items through and show how many have come."""
    with Progress(step, total=total, unit=unit) as shown:
        for done, item in enumerate(items, 1):
            yield item
            shown.update(done)


def _bar(step: str, *, total: int, unit: str, done: int) -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f} {task.fields[unit]}"),
        TextColumn("{task.fields[note]}", markup=False),
        TextColumn("{task.fields[left]} left"),
    )
    bar = Bar(*columns, console=Console(stderr=True), auto_refresh=False)
    bar.add_task(step, total=total, completed=done, unit=unit, note="", left="?")
    bar.start()
    return bar
