"""The fields that the study ``scaling`` adds to ``results.json``, and those of its ``prediction.json``."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

PREDICTION_FILE = "prediction.json"

Against = Literal["images", "parameters", "train_flops"]
"""Quantity that a law goes along."""


class LawPoint(TypedDict):
    """A point of a law: the error of an arm, mean over tasks and seeds."""

    at: str  # as printed
    x: float
    y: float


class CurvePoint(TypedDict):
    """The law's value at ``x`` with its 95% band."""

    x: float
    value: float
    low: float
    high: float


class LawParameters(TypedDict):
    """``y = offset + factor * x ** -exponent``."""

    offset: float
    factor: float
    exponent: float
    deviation: float  # of the points from the law


class LawEntry(TypedDict):
    """The error of one arm in one protocol along one quantity, with the law where there are enough points."""

    arm: str
    protocol: str
    against: Against
    model: str  # the width it belongs to; "" along widths
    points: list[LawPoint]
    law: LawParameters | None
    curve: list[CurvePoint]
    reason: str  # that there is no law; "" where there is one


class PredictedError(TypedDict):
    """The predicted error of an arm at the largest point, and the points that the prediction follows from."""

    arm: str
    protocol: str
    points: list[LawPoint]
    value: float
    low: float
    high: float


class Prediction(TypedDict):
    """``prediction.json``, which is written before the largest point is run."""

    format: int
    date: str
    seeds: list[int]
    model: str
    images: float
    predicted: list[PredictedError]


class Outcome(TypedDict):
    """A predicted error beside the one that was measured."""

    arm: str
    protocol: str
    value: float
    low: float
    high: float
    measured: float
    missed: float  # measured minus predicted
    inside: bool  # the 95% band of the prediction


class PredictionEntry(TypedDict):
    """The prediction, and what came of it once the largest point was run."""

    prediction: Prediction
    begun: str  # when the first run of the largest point began; "" before that
    outcomes: list[Outcome]


class ModelEntry(TypedDict):
    """A model of the grid."""

    model: str
    width: int
    depth: int
    parameters: int  # of the encoder


class ScalingEntry(TypedDict):
    """The field ``scaling`` of ``results.json``."""

    models: list[ModelEntry]
    laws: list[LawEntry]
    prediction: NotRequired[PredictionEntry]
