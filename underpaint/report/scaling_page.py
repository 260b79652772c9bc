"""The page of the study ``scaling``: curves of the error with their laws, the prediction, trends and gains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from underpaint.report import headline, html_tables
from underpaint.report.ablations_page import axis_parts
from underpaint.report.arms import Mark, marks
from underpaint.report.dots import contrast_legend
from underpaint.report.folders import StudyFolder
from underpaint.report.frame import Chart, Key
from underpaint.report.headline import Difference, Verdict, points
from underpaint.report.law_charts import law_chart
from underpaint.results.scaling import LawEntry, LawParameters, Outcome, PredictedError, PredictionEntry, ScalingEntry

TITLES = {"finetune": "Finetuned", "linear": "Linear probe", "lowshot": "Low-shot"}
ALONG = {"images": "images", "parameters": "parameters", "train_flops": "training FLOPs"}


@dataclass(frozen=True, kw_only=True)
class LawRow:
    """A law as a row of a table."""

    arm: str
    along: str
    points: int
    law: LawParameters | None
    note: str


@dataclass(frozen=True, kw_only=True)
class ProtocolPart:
    """The section of a protocol."""

    name: str
    title: str
    charts: tuple[Chart, ...]
    laws: tuple[LawRow, ...]
    legend: tuple[Key, ...]


@dataclass(frozen=True, kw_only=True)
class PredictedRow:
    """A predicted error, and what was measured."""

    arm: str
    protocol: str
    points: int
    value: float
    low: float
    high: float
    outcome: Outcome | None


@dataclass(frozen=True, kw_only=True)
class PredictionPart:
    """The section of the prediction."""

    sentences: tuple[str, ...]
    rows: tuple[PredictedRow, ...]


@dataclass(frozen=True, kw_only=True)
class TrendLine:
    """A trend as a row of a table."""

    title: str
    protocol: str
    unit: str
    difference: Difference


def content(study: StudyFolder) -> dict[str, object]:
    """Values for the template ``scaling.html.j2``, beside those that every study's page has.

    Raises:
        ValueError: if the results hold no laws.
    """
    scaling = study.results.get("scaling")
    if scaling is None:
        raise ValueError(f"{study.path} holds results of the study of scale without 'scaling'")
    by_arm = marks(study.meaning.values())
    contrasts = headline.study_contrasts(study.results)
    parts = axis_parts(study, by_arm, contrasts)
    drawn, trends = {entry["arm"] for entry in scaling["laws"]}, _trends(study)
    return {
        "models": scaling["models"],
        "protocols": _protocols(scaling, by_arm),
        "prediction": _prediction(scaling.get("prediction")),
        "trends": trends,
        "lead": lead(scaling, trends),
        "caveat": headline.caveat(contrasts),
        "notes": list(dict.fromkeys(axis["note"] for axis in study.results["data"].get("axes", ()) if axis["note"])),
        "parts": parts,
        "arms": study.arms,
        "contrasts": contrasts,
        "marks": by_arm,
        "tasks": len({html_tables.task_key(row) for row in study.results["rows"]}),
        "legend": _legend(study, by_arm, sorted(drawn, key=study.arms.index)),
        "contrast_legend": contrast_legend(contrasts, by_arm),
        "cost": html_tables.measuring_cost(study.staged),
        "measuring": html_tables.measuring_cost(study.measuring),
    }


def lead(scaling: ScalingEntry, trends: Sequence[TrendLine]) -> str:
    """The sentence at the top: what came of the prediction, and whether the gain grows with the model."""
    said = [_lead_of_prediction(scaling.get("prediction"))]
    slopes = (line for line in trends if line.difference.contrast == "gain_by_size" and not line.protocol)
    if (slope := next(slopes, None)) is not None:
        size = f"{points(slope.difference.mean)} points {slope.unit}"
        verdicts: dict[Verdict, str] = {
            "above": f"The gain by pre-pretraining grows with the model, by {size}.",
            "below": f"The gain by pre-pretraining shrinks with the model, by {size}.",
            "across": f"Whether the gain by pre-pretraining grows with the model cannot be told from noise ({size}).",
        }
        said.append(verdicts[slope.difference.verdict])
    return " ".join(said)


def _lead_of_prediction(entry: PredictionEntry | None) -> str:
    if entry is None or not entry["prediction"]["predicted"]:
        return "The points are too few to predict the largest one."
    outcomes = entry["outcomes"]
    if not outcomes:
        return "The largest point is predicted from the smaller ones and not run yet."
    inside = sum(outcome["inside"] for outcome in outcomes)
    worst = max(outcomes, key=lambda outcome: abs(outcome["missed"]))
    return (
        f"At the largest point, which was predicted before it was run, {inside} of {len(outcomes)} errors lie within "
        f"the 95% bands of the laws; the largest miss is {points(worst['missed'])} points."
    )


def _protocols(scaling: ScalingEntry, by_arm: Mapping[str, Mark]) -> list[ProtocolPart]:
    parts: list[ProtocolPart] = []
    for protocol in dict.fromkeys(entry["protocol"] for entry in scaling["laws"]):
        laws = [entry for entry in scaling["laws"] if entry["protocol"] == protocol]
        charts = [
            law_chart(f"Error at {model['model']}", "images", along_it, by_arm)
            for model in scaling["models"]
            if (
                along_it := [
                    entry for entry in laws if entry["against"] == "images" and entry["model"] == model["model"]
                ]
            )
        ]
        for along in ("parameters", "train_flops"):
            along_it = [entry for entry in laws if entry["against"] == along and len(entry["points"]) > 1]
            if along_it:
                charts.append(law_chart(f"Error on all images, by {ALONG[along]}", ALONG[along], along_it, by_arm))
        parts.append(
            ProtocolPart(
                name=protocol,
                title=TITLES.get(protocol, protocol),
                charts=tuple(charts),
                laws=tuple(map(_law_row, laws)),
                legend=tuple(
                    Key(name=by_arm[arm].label, mark=by_arm[arm]) for arm in dict.fromkeys(law["arm"] for law in laws)
                ),
            )
        )
    return parts


def _law_row(entry: LawEntry) -> LawRow:
    along = ALONG[entry["against"]] + (f", {entry['model']}" if entry["model"] else ", all images")
    law = entry["law"]
    rises = "the error rises" if law is not None and law["factor"] < 0 else ""
    note = entry["reason"] or rises
    return LawRow(arm=entry["arm"], along=along, points=len(entry["points"]), law=law, note=note)


def _prediction(entry: PredictionEntry | None) -> PredictionPart:
    if entry is None or not entry["prediction"]["predicted"]:
        return PredictionPart(sentences=("The points are too few to predict the largest one.",), rows=())
    prediction = entry["prediction"]
    seeds = ", ".join(map(str, prediction["seeds"]))
    where = f"{prediction['model']} on {prediction['images']:,.0f} images"
    sentences = [f"Written {prediction['date']}, from seeds {seeds}: the errors of {where}."]
    if entry["begun"]:
        order = "after" if entry["begun"] > prediction["date"] else "before"
        sentences.append(f"The first run of this point began {entry['begun']}, {order} the prediction was written.")
    else:
        sentences.append("This point is not run yet; the same command with --largest runs it.")
    outcomes = {(outcome["arm"], outcome["protocol"]): outcome for outcome in entry["outcomes"]}
    rows = [_predicted_row(error, outcomes.get((error["arm"], error["protocol"]))) for error in prediction["predicted"]]
    return PredictionPart(sentences=tuple(sentences), rows=tuple(rows))


def _predicted_row(error: PredictedError, outcome: Outcome | None) -> PredictedRow:
    return PredictedRow(
        arm=error["arm"],
        protocol=TITLES.get(error["protocol"], error["protocol"]),
        points=len(error["points"]),
        value=error["value"],
        low=error["low"],
        high=error["high"],
        outcome=outcome,
    )


def _trends(study: StudyFolder) -> list[TrendLine]:
    return [
        TrendLine(
            title=row["title"],
            protocol=TITLES.get(row["protocol"], row["protocol"]),
            unit=row["unit"],
            difference=Difference(
                contrast=row["trend"],
                task=row["protocol"],
                mean=row["mean"],
                low=row["low"],
                high=row["high"],
                method=row["method"],
                detectable=row.get("detectable"),
            ),
        )
        for row in study.results.get("trends", [])
    ]


def _legend(study: StudyFolder, by_arm: Mapping[str, Mark], arms: Sequence[str]) -> list[Key]:
    return [Key(name=by_arm[arm].label, mark=by_arm[arm], meaning=study.meaning[arm]["description"]) for arm in arms]
