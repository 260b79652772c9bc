"""Runs: declared, built and executed, and what they leave on disk (`record`, `outputs`)."""

from underpaint.run.budget import Budget, Cadence
from underpaint.run.declare import DataConfig, ObjectiveConfig, Run, encoder_of
from underpaint.run.execute import execute
from underpaint.training.devices import choose_device
from underpaint.training.monitor import OutOfSpace

__all__ = [
    "Budget",
    "Cadence",
    "DataConfig",
    "ObjectiveConfig",
    "OutOfSpace",
    "Run",
    "choose_device",
    "encoder_of",
    "execute",
]
