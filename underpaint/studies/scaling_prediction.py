"""Prediction of the largest point of the study ``scaling`` from the smaller ones, written before it is run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from underpaint import files
from underpaint.results.check import checked
from underpaint.results.run import read_environment
from underpaint.results.scaling import PREDICTION_FILE, Outcome, PredictedError, Prediction, PredictionEntry
from underpaint.studies.scaling_designs import GRID, Point
from underpaint.studies.scaling_laws import Measured, arms_and_protocols, fitted

FORMAT = 1


def predict(measured: Measured, largest: Point, *, seeds: Sequence[int]) -> Prediction:
    """The errors at the largest point by the laws through the smaller points of the same model.

    An arm whose points are too few for a law is left out.
    """
    predicted: list[PredictedError] = []
    smaller = [Point(width=largest.width, share=share) for share in measured.shares if share < 1]
    for arm, protocol in arms_and_protocols(measured):
        points = measured.curve(arm, protocol, smaller, "images")
        law, _ = fitted(points)
        if law is not None:
            value, low, high = law.prediction(measured.images[largest])
            predicted.append(
                {"arm": arm, "protocol": protocol, "points": points, "value": value, "low": low, "high": high}
            )
    return {
        "format": FORMAT,
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seeds": list(seeds),
        "model": largest.model,
        "images": measured.images[largest],
        "predicted": predicted,
    }


def keep_prediction(folder: Path, prediction: Prediction, largest: Point) -> None:
    """Write ``prediction.json``; one that says the same keeps its date, and none changes once the point is begun."""
    earlier = read_prediction(folder)
    if earlier is not None and (_is_same(earlier, prediction) or begun(folder, largest)):
        return
    files.write_json(folder / PREDICTION_FILE, prediction)


def read_prediction(folder: Path) -> Prediction | None:
    """``prediction.json``, None where it is missing.

    Raises:
        ValueError: if it is damaged; the message names the field.
    """
    path = folder / PREDICTION_FILE
    return checked(Prediction, files.read_json(path), where=str(path)) if path.is_file() else None


def require_prediction(folder: Path, seeds: Sequence[int]) -> None:
    """Raise ValueError where the largest point would be run without a prediction for these seeds."""
    prediction = read_prediction(folder)
    if prediction is None:
        raise ValueError(
            f"{folder / PREDICTION_FILE} is missing: run the study without --largest first, which predicts the largest "
            f"point from the smaller ones"
        )
    if missing := sorted(set(seeds) - set(prediction["seeds"])):
        raise ValueError(
            f"{folder / PREDICTION_FILE} predicts seeds {prediction['seeds']} and not {missing}; run these without "
            f"--largest first"
        )


def begun(folder: Path, largest: Point) -> str:
    """When the first run of the largest point began; "" where none has."""
    runs = [run for arm in GRID for run in sorted(folder.glob(largest.run_of(arm.name, 0)[:-1] + "*"))]
    environments = [environment for run in runs if (environment := read_environment(run)) is not None]
    return min((environment["starts"][0]["time"] for environment in environments), default="")


def _is_same(first: Prediction, second: Prediction) -> bool:
    return (first["seeds"], first["predicted"]) == (second["seeds"], second["predicted"])


def outcome_of(folder: Path, measured: Measured, largest: Point) -> PredictionEntry | None:
    """The prediction beside the measured errors, as far as they are there; None without a prediction."""
    prediction = read_prediction(folder)
    if prediction is None:
        return None
    outcomes: list[Outcome] = []
    for entry in prediction["predicted"]:
        error = measured.errors.get((entry["arm"], entry["protocol"], largest))
        if error is not None:
            outcomes.append(
                {
                    "arm": entry["arm"],
                    "protocol": entry["protocol"],
                    "value": entry["value"],
                    "low": entry["low"],
                    "high": entry["high"],
                    "measured": error,
                    "missed": error - entry["value"],
                    "inside": entry["low"] <= error <= entry["high"],
                }
            )
    return {"prediction": prediction, "begun": begun(folder, largest), "outcomes": outcomes}
