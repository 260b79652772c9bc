"""The page of the study ``convergence``: what MAE is worth in steps of WSP, frontiers over compute, and the grid."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from underpaint.report import headline, html_tables
from underpaint.report.arms import MARKS, SPARE, Mark
from underpaint.report.folders import StudyFolder
from underpaint.report.frame import Chart, Key
from underpaint.report.headline import Contrast, points
from underpaint.report.html_tables import Cell
from underpaint.report.value_charts import Measured, Series, value_chart
from underpaint.results.study import (
    BoundedEntry,
    ConvergenceEntry,
    EndEntry,
    FrontierEntry,
    Side,
    StudyResults,
    Summary,
    WorthEntry,
)

BOUNDS: dict[Side, str] = {"within": "", "below": "less than ", "above": "more than "}


@dataclass(frozen=True, kw_only=True)
class GridRow:
    """The ends with one budget of MAE: a cell per budget of WSP, None where that end was not run."""

    label: str
    mark: Mark
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True, kw_only=True)
class WorthRow:
    """Worth of the MAE of one end."""

    label: str
    worth: str
    interval: str
    equals: str
    ratio: str  # training FLOPs that WSP alone needs for the score, in those that were spent
    cost: Cell
    is_asked: bool


@dataclass(frozen=True, kw_only=True)
class FrontierRow:
    """Both frontiers at one number of training FLOPs."""

    flops: Cell
    wsp: Cell
    mae_wsp: Cell
    mae: str  # budgets of MAE that were chosen
    difference: Summary
    interval: str


def content(study: StudyFolder) -> dict[str, object]:
    """Values for the template ``convergence.html.j2``, beside those that every study's page has.

    Raises:
        ValueError: for results without the grid.
    """
    grid = study.results.get("convergence")
    if grid is None:
        raise ValueError(f"{study.path} holds results of page 'grid' without 'convergence'; run the study again")
    by_mae = _marks(grid["ends"])
    contrasts = headline.study_contrasts(study.results)
    columns = sorted({end["wsp"] for end in grid["ends"]})
    return {
        "grid": grid,
        "lead": " ".join(filter(None, (lead(grid), _lead_of_frontiers(grid["frontier"])))),
        "caveat": headline.caveat(contrasts),
        "tasks": len({html_tables.task_key(row) for row in study.results["rows"]}),
        "legend": [Key(name=_ladder_name(mae), mark=mark) for mae, mark in by_mae.items()],
        "by_compute": _by_compute(study.results, grid, by_mae),
        "by_length": _by_length(study.results, grid, by_mae),
        "frontiers": _frontier_chart(grid["frontier"]) if grid["frontier"] else None,
        "columns": [in_words(budget) for budget in columns],
        "rows": _grid_rows(study.results, grid["ends"], columns, by_mae),
        "worths": [_worth_row(worth, grid) for worth in grid["worths"]],
        "frontier_rows": [_frontier_row(entry) for entry in grid["frontier"]],
        "contrasts": [contrast for contrast in contrasts if contrast.mean is not None],
        "forgetting": _below_mae(contrasts),
        "cost": html_tables.measuring_cost(study.staged),
    }


def lead(grid: ConvergenceEntry) -> str:
    """Sentences on the worth that the study asks about, as far as it is known."""
    worth = next(entry for entry in grid["worths"] if entry["arm"] == grid["asked"])
    share = worth["worth"]["value"] / grid["wsp_samples"]
    size = f"{samples_text(worth['worth'])} samples of WSP ({BOUNDS[worth['worth']['side']]}{share:.2f} budgets)"
    ends = f"interval from {samples_text(worth['low'])} to {samples_text(worth['high'])}"
    cost = f"its compute would pay for {worth['cost']:,.0f}"
    return f"One budget of MAE before one of WSP is worth {size}; {ends}; {cost}. {verdict(worth)}"


def verdict(worth: WorthEntry) -> str:
    """A sentence on what the interval of a worth decides, against nothing and against the compute of the MAE."""
    low, high = worth["low"], worth["high"]
    least = -math.inf if low["side"] == "below" else low["value"]
    most = math.inf if high["side"] == "above" else high["value"]
    if least > worth["cost"]:
        return "So it is worth more than it costs."
    if least > 0:
        return "So it saves steps of WSP; whether it saves compute is not decided."
    if most < 0:
        return "So it costs steps of WSP instead of saving them."
    if most < worth["cost"]:
        return "So it is worth less than it costs; whether it saves steps of WSP is not decided."
    return "So it is not decided whether it saves steps of WSP."


def _lead_of_frontiers(frontier: Sequence[FrontierEntry]) -> str:
    """A sentence on where MAE then WSP lies above WSP alone at equal compute."""
    if not frontier:
        return ""
    sides = [_side(entry["difference"]) for entry in frontier]
    above, below, count = sides.count("above"), sides.count("below"), len(sides)
    width = frontier[-1]["train_flops"] / frontier[0]["train_flops"]
    return (
        f"At equal compute, at {count} points of a {width:.2g}-fold range of training FLOPs, the best of MAE then WSP "
        f"lies above WSP alone at {above}, below it at {below}, and cannot be told from it at {count - above - below}."
    )


def _side(difference: Summary) -> Side:
    low, high = difference["low"], difference["high"]
    if low is None or high is None:
        return "within"
    return "above" if low > 0 else "below" if high < 0 else "within"


def _below_mae(contrasts: Sequence[Contrast]) -> str:
    """A warning where WSP from scratch ends below the untrained encoder."""
    for contrast in contrasts:
        mean = contrast.mean
        if contrast.between("wsp", "untrained") and mean is not None and mean.verdict == "below":
            return (
                f"WSP alone ends {points(mean.mean)} points from the untrained encoder: steps of WSP that do harm are "
                "a poor measure of anything."
            )
    return ""


def samples_text(bound: BoundedEntry) -> str:
    """``12,300``, ``more than 288,000``."""
    return f"{BOUNDS[bound['side']]}{bound['value']:,.0f}".replace("-", "−")


def in_words(budget: float) -> str:
    """``1/10``, ``4``: a number of budgets."""
    return str(Fraction(budget).limit_denominator(100))


def _ladder_name(mae: float) -> str:
    return f"MAE × {in_words(mae)} then WSP" if mae else "WSP alone"


def _marks(ends: Sequence[EndEntry]) -> dict[float, Mark]:
    """The mark of every budget of MAE before WSP: those of the roles where there is one, spare ones in turn."""
    given, spare = {0.0: MARKS["wsp"], 1.0: MARKS["treatment"]}, iter(SPARE * len(ends))
    budgets = sorted({end["mae"] for end in ends})
    return {mae: replace(given.get(mae) or next(spare), label=_ladder_name(mae)) for mae in budgets}


def _ladders(results: StudyResults, grid: ConvergenceEntry) -> dict[float, list[tuple[EndEntry, float, float, float]]]:
    """The ends with WSP by their budget of MAE, each with its mean over tasks and the interval, in per cent."""
    means = {mean["arm"]: mean for mean in results["arm_means"]}
    ladders: dict[float, list[tuple[EndEntry, float, float, float]]] = {}
    for end in sorted(grid["ends"], key=lambda end: (end["mae"], end["wsp"])):
        if end["wsp"]:
            mean = means[end["arm"]]
            place = (end, 100 * mean["mean"], 100 * mean["low"], 100 * mean["high"])
            ladders.setdefault(end["mae"], []).append(place)
    return ladders


def _by_compute(results: StudyResults, grid: ConvergenceEntry, marks: Mapping[float, Mark]) -> Chart:
    """Mean over tasks against the training FLOPs of all stages, a line per budget of MAE."""
    series = _series(results, grid, marks, lambda end: math.log10(end["train_flops"]))
    unit, ticks = _flop_ticks([end["train_flops"] for end in grid["ends"] if end["wsp"]])
    label = f"training compute of all stages, {unit}s"
    return value_chart("Mean over tasks by training compute", label, series, ticks, base="", apart=0.0)


def _by_length(results: StudyResults, grid: ConvergenceEntry, marks: Mapping[float, Mark]) -> Chart:
    """Mean over tasks against the length of WSP, a line per budget of MAE."""
    series = _series(results, grid, marks, lambda end: math.log2(end["wsp"]))
    lengths = sorted({end["wsp"] for end in grid["ends"] if end["wsp"]})
    ticks = [(in_words(length), math.log2(length)) for length in lengths]
    return value_chart("Mean over tasks by length of WSP", "budgets of WSP", series, ticks, base="")


def _series(
    results: StudyResults,
    grid: ConvergenceEntry,
    marks: Mapping[float, Mark],
    place_of: Callable[[EndEntry], float],
) -> list[Series]:
    return [
        Series(
            name=_ladder_name(mae),
            mark=marks[mae],
            values=tuple(
                Measured(
                    x=place_of(end),
                    y=mean,
                    low=low,
                    high=high,
                    tip=f"{_ladder_name(mae)} × {in_words(end['wsp'])}: {mean:.1f} [{low:.1f}, {high:.1f}]",
                )
                for end, mean, low, high in ladder
            ),
        )
        for mae, ladder in _ladders(results, grid).items()
    ]


def _frontier_chart(frontier: Sequence[FrontierEntry]) -> Chart:
    """The difference of the frontiers against the training FLOPs, in percentage points."""
    unit, ticks = _flop_ticks([entry["train_flops"] for entry in frontier])
    measured = []
    for entry in frontier:
        difference = entry["difference"]
        low, high = difference["low"], difference["high"]
        measured.append(
            Measured(
                x=math.log10(entry["train_flops"]),
                y=100 * difference["mean"],
                low=None if low is None else 100 * low,
                high=None if high is None else 100 * high,
                tip=f"{html_tables.flops(entry['train_flops'])}: {interval(difference)}",
            )
        )
    series = [Series(name="MAE then WSP − WSP alone", mark=MARKS["treatment"], values=tuple(measured))]
    return value_chart("MAE then WSP − WSP alone", f"training compute, {unit}s", series, ticks, base="", zero=True)


def _flop_ticks(values: Sequence[float]) -> tuple[str, list[tuple[str, float]]]:
    """The unit of an axis of FLOPs, and ticks at 1, 2 and 5 times powers of ten around the values."""
    unit, power = html_tables.flop_unit(max(values))
    low, high = (math.log10(edge) - power for edge in (min(values), max(values)))
    steps = [(factor, exponent) for exponent in range(math.floor(low), math.ceil(high) + 1) for factor in (1, 2, 5)]
    places = [math.log10(factor) + exponent for factor, exponent in steps]
    first = max(place for place in places if place <= low + 1e-9)
    last = min(place for place in places if place >= high - 1e-9)
    return unit, [(f"{10**place:.3g}", place + power) for place in places if first <= place <= last]


def interval(difference: Summary) -> str:
    """``+1.2 [0.4, 2.0]``, in percentage points."""
    if difference["low"] is None or difference["high"] is None:
        return f"{points(difference['mean'])} (no interval)"
    return f"{points(difference['mean'])} [{points(difference['low'])}, {points(difference['high'])}]"


def _grid_rows(
    results: StudyResults, ends: Sequence[EndEntry], columns: Sequence[float], marks: Mapping[float, Mark]
) -> list[GridRow]:
    means = {mean["arm"]: mean for mean in results["arm_means"]}
    top = max(round(mean["mean"], 3) for mean in means.values())
    cells: dict[tuple[float, float], Cell] = {}
    for end in ends:
        mean = means[end["arm"]]
        cells[end["mae"], end["wsp"]] = Cell(
            text=f"{100 * mean['mean']:.1f}",
            value=mean["mean"],
            note=f"[{100 * mean['low']:.1f}, {100 * mean['high']:.1f}]",
            best=round(mean["mean"], 3) == top,
        )
    return [
        GridRow(label=f"MAE × {in_words(mae)}", mark=mark, cells=tuple(cells.get((mae, wsp)) for wsp in columns))
        for mae, mark in marks.items()
    ]


def _worth_row(worth: WorthEntry, grid: ConvergenceEntry) -> WorthRow:
    end = next(end for end in grid["ends"] if end["arm"] == worth["arm"])
    ratio = worth["equals"]["value"] / (worth["cost"] + end["wsp_samples"])
    return WorthRow(
        label=f"MAE × {in_words(end['mae'])} then WSP × {in_words(end['wsp'])}",
        worth=samples_text(worth["worth"]),
        interval=f"{samples_text(worth['low'])} to {samples_text(worth['high'])}",
        equals=samples_text(worth["equals"]),
        ratio=f"{BOUNDS[worth['equals']['side']]}{ratio:.2f}",
        cost=Cell(text=f"{worth['cost']:,.0f}", value=worth["cost"]),
        is_asked=worth["arm"] == grid["asked"],
    )


def _frontier_row(entry: FrontierEntry) -> FrontierRow:
    chosen = sorted(set(entry["mae"]))
    return FrontierRow(
        flops=Cell(text=html_tables.flops(entry["train_flops"]), value=entry["train_flops"]),
        wsp=Cell(text=f"{100 * entry['wsp']:.1f}", value=entry["wsp"]),
        mae_wsp=Cell(text=f"{100 * entry['mae_wsp']:.1f}", value=entry["mae_wsp"]),
        mae=", ".join(in_words(budget) for budget in chosen),
        difference=entry["difference"],
        interval=interval(entry["difference"]),
    )
