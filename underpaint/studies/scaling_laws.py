"""Errors of the study ``scaling`` as curves, with power laws where there are enough points."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from underpaint.results.scaling import Against, CurvePoint, LawEntry, LawParameters, LawPoint, ModelEntry
from underpaint.results.study import COMPARED_SPLITS, ScoreRow, StageRow
from underpaint.studies.power_laws import PowerLaw, fit_power_law
from underpaint.studies.scaling_designs import GRID, Point

PROTOCOLS = ("finetune", "linear", "lowshot")
CURVE_POINTS = 24
"""Places at which a law and its band are recorded, evenly spaced in the logarithm."""

Key = tuple[str, str, Point]
"""Arm, protocol and point."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Errors and costs that the laws are fitted to."""

    errors: Mapping[Key, float]  # mean over the tasks of the protocol and over seeds
    images: Mapping[Point, float]  # mean over seeds
    flops: Mapping[tuple[str, Point], float]  # of all stages of an arm, mean over seeds
    models: Sequence[ModelEntry]

    @property
    def shares(self) -> list[float]:
        return sorted({point.share for point in self.images})

    def curve(self, arm: str, protocol: str, points: Sequence[Point], against: Against) -> list[LawPoint]:
        """The measured points among these, from left to right."""
        known = [point for point in points if (arm, protocol, point) in self.errors]
        return [
            {"at": self._at(point, against), "x": self._x(arm, point, against), "y": self.errors[arm, protocol, point]}
            for point in known
        ]

    def _at(self, point: Point, against: Against) -> str:
        return f"{self.images[point]:,.0f} images" if against == "images" else point.model

    def _x(self, arm: str, point: Point, against: Against) -> float:
        if against == "images":
            return self.images[point]
        if against == "train_flops":
            return self.flops[arm, point]
        return float(next(model["parameters"] for model in self.models if model["width"] == point.width))


def errors_of(rows: Mapping[Point, Sequence[ScoreRow]]) -> dict[Key, float]:
    """The error of every arm in every protocol: 1 minus the mean over tasks of the mean over seeds."""
    values: dict[Key, list[float]] = {}
    for point, scores in rows.items():
        for row in scores:
            if row["protocol"] in PROTOCOLS and row["split"] in COMPARED_SPLITS:
                values.setdefault((row["arm"], row["protocol"], point), []).append(row["value"])
    return {key: 1 - statistics.fmean(each) for key, each in values.items()}


def flops_of(stages: Mapping[Point, Sequence[StageRow]]) -> dict[tuple[str, Point], float]:
    """Training FLOPs of all stages of every arm, mean over seeds."""
    total: dict[tuple[str, Point], dict[int, float]] = {}
    for point, lines in stages.items():
        for line in lines:
            of_arm = total.setdefault((line["arm"], point), {})
            of_arm[line["seed"]] = of_arm.get(line["seed"], 0.0) + line["train_flops"]
    return {key: statistics.fmean(by_seed.values()) for key, by_seed in total.items()}


def law_entries(measured: Measured) -> list[LawEntry]:
    """Errors of the arms of the grid along images, for every model, and along models, on all images."""
    entries: list[LawEntry] = []
    widths = [model["width"] for model in measured.models]
    for arm, protocol in arms_and_protocols(measured):
        for width in widths:
            points = [Point(width=width, share=share) for share in measured.shares]
            entries.append(_entry(measured, arm, protocol, points, "images"))
        along: tuple[Against, ...] = ("parameters", "train_flops")
        points = [Point(width=width, share=1.0) for width in widths]
        entries += [_entry(measured, arm, protocol, points, against) for against in along]
    return [entry for entry in entries if entry["points"]]


def arms_and_protocols(measured: Measured) -> Iterator[tuple[str, str]]:
    """The pairs that have errors, arms in the order of the grid."""
    known = {(arm, protocol) for arm, protocol, _ in measured.errors}
    return ((arm.name, protocol) for protocol in PROTOCOLS for arm in GRID if (arm.name, protocol) in known)


def _entry(measured: Measured, arm: str, protocol: str, points: Sequence[Point], against: Against) -> LawEntry:
    curve = measured.curve(arm, protocol, points, against)
    law, reason = fitted(curve)
    return {
        "arm": arm,
        "protocol": protocol,
        "against": against,
        "model": points[0].model if against == "images" else "",
        "points": curve,
        "law": None if law is None else parameters_of(law),
        "curve": [] if law is None else _drawn(law),
        "reason": reason,
    }


def fitted(points: Sequence[LawPoint]) -> tuple[PowerLaw | None, str]:
    """The law through the points, or None and the reason."""
    try:
        return fit_power_law([point["x"] for point in points], [point["y"] for point in points]), ""
    except ValueError as error:
        return None, str(error)


def parameters_of(law: PowerLaw) -> LawParameters:
    return {"offset": law.offset, "factor": law.factor, "exponent": law.exponent, "deviation": law.deviation}


def _drawn(law: PowerLaw) -> list[CurvePoint]:
    low, high = math.log(min(law.x)), math.log(max(law.x))
    places = [math.exp(low + (high - low) * step / (CURVE_POINTS - 1)) for step in range(CURVE_POINTS)]
    bands = [(x, law.band(x)) for x in places]
    return [{"x": x, "value": band.value, "low": band.low, "high": band.high} for x, band in bands]
