"""Trackers of runs, MLflow and Weights & Biases: what they are given, and the protocol of both."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, runtime_checkable

TrackerName = Literal["mlflow", "wandb"]


class TrackedLine(NamedTuple):
    """A line of the log, as trackers take it."""

    step: int
    values: dict[str, float]
    time: float
    """Seconds since 1970 when it was read; a line that is sent again keeps it."""


@dataclass(frozen=True, kw_only=True)
class TrackedRun:
    """The run, as trackers show it."""

    name: str
    folder: Path
    fields: Mapping[str, object]
    """Values of the run's fields, groups nested."""


@runtime_checkable
class Tracker(Protocol):
    """Connection to one tracker; every method may raise whatever the tracker's package raises."""

    def open(self, run: TrackedRun, kept_id: str) -> str:
        """Begin a run, or go on with the one of ``kept_id`` unless that is ""; its id."""
        ...

    def send(self, lines: Sequence[TrackedLine]) -> None:
        """Add lines in the order of steps, all or none of them."""
        ...

    def close(self, *, finished: bool) -> None: ...


def require_trackers(names: Sequence[TrackerName]) -> None:
    """Raise ValueError for a tracker whose package is missing, with the extra that brings it."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise ValueError(f"log_to={name} needs the package {name}: pip install 'underpaint[{name}]'")
