"""Lay out the numbers of a study or a run as tables; every cell keeps the exact value beside the printed one."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from underpaint.messages import duration
from underpaint.report.folders import RunFolder, StudyFolder, is_number, stage_folder
from underpaint.results.run import RunResult
from underpaint.results.study import COMPARED_SPLITS, ScoreRow, StageRow, protocol_key

PROTOCOLS = {
    "knn": "kNN",
    "finetune": "finetuned",
    "attentive": "attentive (EP)",
    "video": "video finetuned",
    "video_attentive": "video attentive",
    "detection": "box AP",
    "detection_mask": "mask AP",
}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One number as printed, and as it stands in the file (mean over seeds where there are several)."""

    text: str
    value: float
    note: str = ""  # spread over seeds
    best: bool = False


@dataclass(frozen=True, kw_only=True)
class Column:
    """One task of the results table."""

    dataset: str
    protocol: str  # as printed, for example "5-shot"
    metric: str
    key: str  # as the study names the task in its summary
    n_test: int
    chance: Cell | None  # what guessing among the classes reaches, where their number is known
    cells: dict[str, Cell]  # by arm; arms that were not measured on the task are missing


def task_key(row: ScoreRow) -> str:
    """The name of a row's task, as ``summary`` has it: ``openmoji linear``, ``openmoji 5-shot vpt``."""
    protocol = protocol_key(row["protocol"], row["shots"])
    return " ".join(part for part in (row["dataset"], protocol, row["language"]) if part)


def task_name(task: str) -> str:
    """A task of ``summary`` as pages call it: ``digits kNN``."""
    dataset, *rest = task.split(" ")
    return " ".join([dataset, *(PROTOCOLS.get(word, word) for word in rest)])


def protocol_name(row: ScoreRow) -> str:
    name = protocol_key(PROTOCOLS.get(row["protocol"], row["protocol"]), row["shots"])
    return " ".join(part for part in (name, row["language"]) if part)


def results_columns(study: StudyFolder) -> list[Column]:
    """One column per task and metric, datasets together, in the order in which they come.

    Low-shot tasks are shown as the mean over their draws of training images; the single draws stay in results.json.
    """
    tasks: dict[tuple[str, str, str, str], list[ScoreRow]] = {}
    for row in study.results["rows"]:
        if row["split"] in COMPARED_SPLITS:
            tasks.setdefault((row["dataset"], task_key(row), row["split"], row["metric"]), []).append(row)
    datasets = list(dict.fromkeys(row["dataset"] for row in study.results["rows"]))
    ordered = sorted(tasks.items(), key=lambda item: datasets.index(item[0][0]))
    classes = {name: images["classes"] for name, images in study.results["data"]["collections"].items()}
    return [_column(rows, classes=classes.get(dataset, 0)) for (dataset, *_), rows in ordered]


def _column(rows: Sequence[ScoreRow], *, classes: int) -> Column:
    by_arm: dict[str, list[float]] = {}
    for row in rows:
        by_arm.setdefault(row["arm"], []).append(row["value"])
    best = best_of({arm: statistics.fmean(values) for arm, values in by_arm.items()})
    return Column(
        dataset=rows[0]["dataset"],
        protocol=protocol_name(rows[0]),
        metric=rows[0]["metric"],
        key=task_key(rows[0]),
        n_test=rows[0]["n_test"],
        chance=Cell(text=f"{100 / classes:.1f}", value=1 / classes) if classes else None,
        cells={arm: percent(values, best=arm in best) for arm, values in by_arm.items()},
    )


def best_of(means: Mapping[str, float]) -> set[str]:
    """The arms with the highest of some shares; empty where no arm is below it.

    Equal as printed is equal: a difference below the last shown digit is not a reason to mark one of the two.
    """
    shown = {arm: round(mean, 3) for arm, mean in means.items()}
    top = max(shown.values(), default=math.nan)
    best = {arm for arm, mean in shown.items() if mean == top}
    return best if len(best) < len(shown) else set()


def arm_means(study: StudyFolder) -> dict[str, Cell]:
    """The mean over tasks of each arm, with its interval; {} in results that do not hold it."""
    best = best_of({mean["arm"]: mean["mean"] for mean in study.results["arm_means"]})
    return {
        mean["arm"]: Cell(
            text=f"{100 * mean['mean']:.1f}",
            value=mean["mean"],
            note=f"[{100 * mean['low']:.1f}, {100 * mean['high']:.1f}]",
            best=mean["arm"] in best,
        )
        for mean in study.results["arm_means"]
    }


def tag_recall(study: StudyFolder) -> dict[str, dict[str, Cell]]:
    """Recall of the tags of held-out images by each arm that learned tags, by frequency bin; {} without such rows."""
    recall: dict[str, dict[str, list[float]]] = {}
    for row in study.results["rows"]:
        if row["protocol"] == "tags":
            recall.setdefault(row["arm"], {}).setdefault(row["split"], []).append(row["value"])
    return {arm: {name: percent(values) for name, values in bins.items()} for arm, bins in recall.items()}


def tags_held_out(study: StudyFolder) -> dict[str, int]:
    """Number of tags of held-out images in each frequency bin."""
    return {row["split"]: row["n_test"] for row in study.results["rows"] if row["protocol"] == "tags" and row["n_test"]}


def tasks_at_the_floor(columns: Sequence[Column], *, untrained: Sequence[str], imported: Sequence[str] = ()) -> int:
    """Number of tasks on which the untrained encoder does at least as well as every arm that was trained here.

    On these tasks the results show no gain from training.
    """
    count = 0
    for column in columns:
        trained = [cell.value for arm, cell in column.cells.items() if arm not in (*untrained, *imported)]
        floor = [column.cells[arm].value for arm in untrained if arm in column.cells]
        if floor and trained:
            count += max(floor) >= max(trained)
    return count


def percent(values: Sequence[float], *, best: bool = False) -> Cell:
    """The mean in per cent, and the deviation where there are several values."""
    mean = statistics.fmean(values)
    spread = f"± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return Cell(text=f"{100 * mean:.1f}", value=mean, note=spread, best=best)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Cost of one stage of an arm; the mean over seeds."""

    arm: str
    stage: str
    samples: Cell
    train_flops: Cell
    wall_seconds: Cell
    images_per_second: Cell
    shared: bool = False  # the run of another arm, used again: counted in both totals, computed once


def stage_costs(study: StudyFolder) -> list[Cost]:
    """One line per arm and stage, in the order in which they come."""
    groups: dict[tuple[str, str], list[StageRow]] = {}
    for stage in study.results["stages"]:
        groups.setdefault((stage["arm"], stage["stage"]), []).append(stage)
    owner: dict[str, str] = {}
    costs = []
    for (arm, stage), records in groups.items():
        folders = [stage_folder(record) for record in records if stage_folder(record)]
        shared = any(owner.setdefault(folder, arm) != arm for folder in folders)
        costs.append(_cost(arm, stage, records, shared=shared))
    return costs


def _cost(arm: str, stage: str, records: Sequence[StageRow], *, shared: bool) -> Cost:
    samples = statistics.fmean(record["samples"] for record in records)
    compute = statistics.fmean(record["train_flops"] for record in records)
    seconds = statistics.fmean(record["wall_seconds"] for record in records)
    speed = statistics.fmean(record["images_per_second"] for record in records)
    return Cost(
        arm=arm,
        stage=stage,
        samples=Cell(text=count(samples), value=samples),
        train_flops=Cell(text=flops(compute), value=compute),
        wall_seconds=Cell(text=duration(seconds), value=seconds),
        images_per_second=Cell(text=f"{speed:,.0f}", value=speed),
        shared=shared,
    )


@dataclass(frozen=True, kw_only=True)
class Total:
    """Cost of all stages of one arm, MAE included, and its ratios to the arm of reference."""

    arm: str
    train_flops: Cell
    wall_seconds: Cell
    flops_ratio: Cell
    time_ratio: Cell


def arm_totals(costs: Sequence[Cost], reference: str) -> list[Total]:
    """Add up the stages of every arm; ratios are to the arm ``reference``, NaN where that did not run."""
    sums: dict[str, tuple[float, float]] = {}
    for cost in costs:
        before = sums.get(cost.arm, (0.0, 0.0))
        sums[cost.arm] = (before[0] + cost.train_flops.value, before[1] + cost.wall_seconds.value)
    base = sums.get(reference, (math.nan, math.nan))
    return [
        Total(
            arm=arm,
            train_flops=Cell(text=flops(compute), value=compute),
            wall_seconds=Cell(text=duration(seconds), value=seconds),
            flops_ratio=_ratio(compute, base[0]),
            time_ratio=_ratio(seconds, base[1]),
        )
        for arm, (compute, seconds) in sums.items()
    ]


def _ratio(value: float, base: float) -> Cell:
    ratio = value / base if base else math.nan
    return Cell(text=f"{ratio:.2f}", value=ratio)


def measuring_cost(runs: Sequence[RunFolder]) -> tuple[int, Cell, Cell] | None:
    """Number, FLOPs and time of finished runs together; None where there are none."""
    finished: list[RunResult] = [run.result for run in runs if run.result]
    if not finished:
        return None
    compute = sum(result["train_flops"] for result in finished)
    seconds = sum(result["wall_seconds"] for result in finished)
    return len(finished), Cell(text=flops(compute), value=compute), Cell(text=duration(seconds), value=seconds)


@dataclass(frozen=True, kw_only=True)
class Imported:
    """Description of an imported encoder, for a line of a table."""

    arm: str
    folder: str  # "" where an older release did not record it
    what: str
    network: str
    parameters: Cell
    images: str  # how it is shown the images
    licence: str


def imported_encoders(study: StudyFolder) -> list[Imported]:
    """One line per baseline, without costs, since nothing was trained here."""
    lines = []
    for baseline in study.results["baselines"]:
        c = baseline["encoder"]
        height, width = c["size"]
        own_crop = ", centre cut" if c.get("view") == "crop" else ""  # else the evaluation says how: ``views_shown``
        lines.append(
            Imported(
                arm=baseline["arm"],
                folder=baseline.get("folder", ""),
                what=" ".join(filter(None, (baseline["format"], f"({baseline['file']})" if baseline["file"] else ""))),
                network=f"width {c['width']}, depth {c['depth']}, patch {c['patch']}",
                parameters=Cell(text=thousands(baseline["parameters"]), value=baseline["parameters"]),
                images=f"{height} x {width} px{own_crop}",
                licence=baseline["licence"] or ("unknown" if baseline["format"] else ""),
            )
        )
    return lines


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A score of a run, for a line of a table."""

    dataset: str
    protocol: str
    part: str  # "test", "mean" of the low-shot splits, or a third of the tags
    metric: str
    score: Cell
    remarks: tuple[str, ...]


def metrics_of(run: RunFolder) -> list[tuple[str, str, Cell]]:
    """Metrics of a run as (when, metric, value), from its result, or from its last evaluation if it is unfinished."""
    if run.result:
        when, metrics = "at the end", run.result["metrics"]
    elif run.evals:
        when, metrics = f"after {run.evals[-1]['samples']:,} samples", run.evals[-1].get("eval", {})
    else:
        return []
    numbers = {name: value for name, value in metrics.items() if is_number(value)}
    return [(when, name, Cell(text=f"{value:.4g}", value=value)) for name, value in numbers.items()]


def evaluations_of(run: RunFolder) -> list[Evaluation]:
    """The scores of a run, without those of single low-shot splits."""
    return [
        Evaluation(
            dataset=row["dataset"],
            protocol=protocol_key(row["protocol"], row["shots"]),
            part=row["split"],
            metric=row["metric"],
            score=Cell(text=f"{100 * row['value']:.1f}%", value=row["value"], note=f"of {row['n_test']:,}"),
            remarks=tuple(row.get("remarks", ())),
        )
        for row in run.scores
        if not row["split"].isdigit()
    ]


def flatten(value: object, prefix: str = "") -> Iterator[tuple[str, str]]:
    """A nested JSON value as (dotted name, text) pairs, for a table of two columns."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from flatten(inner, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, list) and any(isinstance(inner, (Mapping, list)) for inner in value):
        for index, inner in enumerate(value):
            yield from flatten(inner, f"{prefix}[{index}]")
    elif isinstance(value, list):
        yield prefix, ", ".join(map(_plain, value))
    else:
        yield prefix, _plain(value)


def _plain(value: object) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)


def flat_patches(runs: Iterable[RunFolder]) -> float | None:
    """The share of patches without any contrast, from the first run that measured it."""
    shares = (run.result["metrics"].get("flat_patches") for run in runs if run.result)
    return next((share for share in shares if is_number(share)), None)


def count(number: float) -> str:
    return f"{number:,.0f}"


def thousands(number: float) -> str:
    """A number in the unit that leaves digits before the point: ``512``, ``32.2 k``, ``86.6 M``, ``6.5 G``."""
    power, unit = next(((p, u) for p, u in ((9, "G"), (6, "M"), (3, "k")) if number >= 10**p), (0, ""))
    return f"{number / 10**power:,.1f} {unit}" if unit else count(number)


def flops(number: float) -> str:
    """FLOPs in the unit that leaves one to three digits before the point: ``2.41 PFLOP``."""
    unit, power = flop_unit(number)
    scaled = number / 10**power
    return f"{scaled:,.{2 if scaled < 10 else 1 if scaled < 100 else 0}f} {unit}"


def flop_unit(number: float) -> tuple[str, int]:
    """The unit to print ``number`` FLOPs in, and its power of ten."""
    for power, unit in ((18, "EFLOP"), (15, "PFLOP"), (12, "TFLOP"), (9, "GFLOP")):
        if number >= 10**power:
            return unit, power
    return "MFLOP", 6
