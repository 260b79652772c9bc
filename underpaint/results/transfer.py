"""The fields of ``results.json`` that the study ``transfer`` adds."""

from __future__ import annotations

from typing import TypedDict


class TaskValue(TypedDict):
    """The score of an encoder on one task, with its interval."""

    arm: str
    task: str  # as ``summary`` names it; with " restricted" where only the classes of the dataset may be answered
    mean: float
    low: float
    high: float
    n_seeds: int


class AxisValue(TypedDict):
    """The mean over datasets of an encoder under one protocol: its place on an axis of the radar."""

    arm: str
    protocol: str  # such as ``linear`` or ``5-shot vpt``
    datasets: int
    mean: float
    low: float
    high: float


class TransferEntry(TypedDict):
    """Scores of encoders that were trained elsewhere."""

    tasks: list[TaskValue]
    axes: list[AxisValue]
    left_out: list[str]  # each with its reason
