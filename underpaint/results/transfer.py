"""The fields of ``results.json`` that the study ``transfer`` adds."""

from __future__ import annotations

from typing import TypedDict


class Estimate(TypedDict):
    """A value with its interval."""

    mean: float
    low: float | None  # null where nothing was resampled: average precision over many images and classes
    high: float | None


class TaskValue(Estimate):
    """The score of an encoder on one task."""

    arm: str
    task: str  # as ``summary`` names it; with " restricted" where only the classes of the dataset may be answered
    n_seeds: int


class AxisValue(Estimate):
    """The mean over datasets of an encoder under one protocol: its place on an axis of the radar."""

    arm: str
    protocol: str  # such as ``linear`` or ``5-shot vpt``; ``detection`` and ``detection_mask`` are average precisions
    datasets: int


class TransferEntry(TypedDict):
    """Scores of encoders that were trained elsewhere."""

    tasks: list[TaskValue]
    axes: list[AxisValue]
    left_out: list[str]  # each with its reason
