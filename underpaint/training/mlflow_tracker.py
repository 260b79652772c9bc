"""MLflow as a tracker of runs: ``MLFLOW_TRACKING_URI`` and ``MLFLOW_EXPERIMENT_NAME`` say where, as everywhere."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from underpaint.training.trackers import TrackedLine, TrackedRun

EXPERIMENT = "underpaint"
MOST_METRICS, MOST_PARAMETERS = 1000, 100
"""Limits of MLflow for one request."""
LONGEST_VALUE = 500
"""Letters of a parameter."""


class MlflowTracker:
    """A run of MLflow, written through its client: nothing global of MLflow is touched."""

    def __init__(self) -> None:
        self.client: Any = None
        self.run = ""

    def open(self, run: TrackedRun, kept_id: str) -> str:
        """The id of the run."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # a report to MLflow's makers, which nobody asked for
        mlflow: Any = importlib.import_module("mlflow")
        self.client = mlflow.MlflowClient()
        if kept_id:
            self.run = kept_id
            self.client.update_run(kept_id, status="RUNNING")
            return kept_id
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        known = self.client.get_experiment_by_name(name)
        experiment = self.client.create_experiment(name) if known is None else known.experiment_id
        self.run = self.client.create_run(experiment, run_name=run.name).info.run_id
        parameters = [
            mlflow.entities.Param(_allowed(key), str(value)[:LONGEST_VALUE]) for key, value in _flat(run.fields)
        ]
        for some in _pieces(parameters, MOST_PARAMETERS):
            self.client.log_batch(self.run, params=some)
        return self.run

    def send(self, lines: Sequence[TrackedLine]) -> None:
        """Add metrics; a number that is there already, by name, step and time, is not added again."""
        metric: Any = importlib.import_module("mlflow.entities").Metric
        metrics = [
            metric(_allowed(name), value, round(1000 * line.time), line.step)
            for line in lines
            for name, value in line.values.items()
        ]
        for some in _pieces(metrics, MOST_METRICS):
            self.client.log_batch(self.run, metrics=some)

    def close(self, *, finished: bool) -> None:
        self.client.set_terminated(self.run, status="FINISHED" if finished else "KILLED")


def _flat(fields: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in fields.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _pieces(values: Sequence[Any], most: int) -> list[list[Any]]:
    return [list(values[start : start + most]) for start in range(0, len(values), most)]


def _allowed(name: str) -> str:
    """The name without the characters that MLflow refuses."""
    return re.sub(r"[^\w\-. /:]", "_", name)
