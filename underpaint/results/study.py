"""The fields of ``results.json``, which a finished study writes and the report reads (docs/formats.md)."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from underpaint.results.scaling import ScalingEntry
from underpaint.results.transfer import TransferEntry

RESULTS_FILE = "results.json"
STUDY_FILE = "study.json"
MEAN_TASK = "mean over tasks"
COMPARED_SPLITS = ("test", "mean")
"""Splits whose scores are compared and shown; single low-shot draws stand in ``rows`` alone."""

OLD_NAMES = {"pays": "ablations"}
"""Studies as they were called before, and as they are called now."""

PageKind = Literal["arms", "axes", "grid", "scaling", "radar"]
"""Kind of a study's page: arms side by side, axes from one base point, a grid of budgets, curves of scaling, or a radar
of protocols."""
Role = Literal["untrained", "mae", "wsp", "treatment", "equal_compute", "equal_time", "variant", "baseline"]
"""Purpose of an arm: the floor, either stage alone, MAE then WSP, its two controls, a variation, or an import."""
Equal = Literal["steps", "compute", "time", "nothing"]
"""Quantity equal in two arms beside the data: the steps of WSP, or training FLOPs or wall time of all stages."""
Noise = Literal["seeds", "test images"]
Side = Literal["within", "below", "above"]


class StudyRecord(TypedDict):
    """``study.json``: the settings that a study's folder belongs to."""

    format: int
    settings: dict[str, object]
    measured: NotRequired[dict[str, float]]  # times of this machine that decide the length of runs
    precision: NotRequired[Literal["fp32", "bf16"]]  # of the runs that ask for the fastest, where some do


class ArmEntry(TypedDict):
    """Meaning of an arm."""

    arm: str
    label: str  # in a sentence
    description: str  # in a legend
    role: Role
    stages: list[str]  # that it is trained by here, in order
    ladder: str  # the arm that differs from it in the length of WSP alone; "" for none


class ContrastEntry(TypedDict):
    """Meaning of the comparison of two arms; its numbers are the score of ``first`` minus that of ``second``."""

    contrast: str
    first: str
    second: str
    equal: Equal


class ScoreEntry(TypedDict):
    """A score without the arm and its seed, which the study knows."""

    dataset: str
    protocol: str
    shots: int
    split: str
    view: NotRequired[str]  # such as "crop@224/256"; without a size, "" or absent where an older release wrote it
    language: str
    metric: str
    value: float
    n_test: int


class ScoreRow(ScoreEntry):
    """A score of an arm, at a value of an axis where the study has axes."""

    arm: str
    seed: int
    axis: NotRequired[str]
    at: NotRequired[str]
    x: NotRequired[float]


class StageCost(TypedDict):
    """Cost of a training run."""

    stage: str
    samples: int
    train_flops: float
    wall_seconds: float
    images_per_second: float
    run: NotRequired[str]  # its folder, relative to the study's


class StageRow(StageCost):
    """A stage of an arm; a run that two arms share stands under each."""

    arm: str
    seed: int
    axis: NotRequired[str]
    at: NotRequired[str]
    x: NotRequired[float]


class Summary(TypedDict):
    """A difference with its interval."""

    mean: float
    low: float | None
    high: float | None
    n_seeds: int
    method: str
    noise: list[Noise]  # that the interval covers
    test_low: NotRequired[float]  # the interval of test-image noise alone, for these trained networks
    test_high: NotRequired[float]
    detectable: NotRequired[float | None]  # the smallest true difference found in 8 of 10 such studies; null for a seed


class ContrastRow(Summary):
    """A line of one of the summaries: each names its rows by task, dataset, protocol or bin."""

    contrast: str
    task: NotRequired[str]
    dataset: NotRequired[str]
    protocol: NotRequired[str]
    bin: NotRequired[str]
    axis: NotRequired[str]
    at: NotRequired[str]
    x: NotRequired[float]


class ArmMean(TypedDict):
    """The mean over tasks of an arm."""

    arm: str
    mean: float
    low: float
    high: float


class EncoderEntry(TypedDict):
    """Description of an imported network."""

    size: list[int]
    width: int
    depth: int
    patch: int
    view: NotRequired[str]


class BaselineEntry(TypedDict):
    """An encoder from elsewhere."""

    arm: str
    format: str
    file: str
    folder: NotRequired[str]  # that it was copied from, as it was given
    licence: str
    parameters: int
    encoder: EncoderEntry


class CollectionEntry(TypedDict):
    """Images that were trained or tested on."""

    images: int
    splits: dict[str, int]
    families: int
    tagged: int
    classes: int
    licence: str
    attribution: str
    content_hash: str
    problems: dict[str, int]


class LeakageEntry(TypedDict):
    """Near duplicates of a task's test images."""

    name: str
    images: int
    duplicated: int
    removed: int
    unreadable_or_flat: int


class AxisEntry(TypedDict):
    """Description of an axis, along which one thing is changed."""

    axis: str
    title: str
    label: str
    note: str
    base: str  # the value of the base point; "" where it is not known


class DataEntry(TypedDict):
    """Data of a study: the collections it trained and tested on, their licences, leakage, and what was not measured."""

    pretraining: NotRequired[str]
    stage_images: NotRequired[dict[str, int]]  # images that "mae" and "wsp" learn from, where the study has one number
    collections: dict[str, CollectionEntry]
    leakage_rule: str
    leakage: NotRequired[list[LeakageEntry]]
    near_labels: NotRequired[list[str]]
    not_measured: list[str]
    remarks: NotRequired[list[str]]
    axes: NotRequired[list[AxisEntry]]


class EnvironmentEntry(TypedDict):
    """Versions and hardware of a process, and the command that started it."""

    time: str
    command: list[str]
    python: str
    platform: str
    processor: str
    cores: int | None
    gpu: str
    versions: dict[str, str]


class BoundedEntry(TypedDict):
    """A number within the measured range, or the edge of the range that the true one lies beyond."""

    value: float
    side: Side


class EndEntry(TypedDict):
    """An end of the grid: an arm by the lengths of its stages, in budgets and in samples."""

    arm: str
    mae: float
    wsp: float
    mae_samples: int
    wsp_samples: int
    train_flops: float


class WorthEntry(TypedDict):
    """The samples of WSP that the MAE of an arm is worth; ``cost`` is what its training FLOPs would pay for."""

    arm: str
    equals: BoundedEntry  # samples of WSP alone with the same score
    worth: BoundedEntry  # beyond those of the arm itself
    low: BoundedEntry
    high: BoundedEntry
    cost: float
    n_seeds: int


class FrontierEntry(TypedDict):
    """The best score at a number of training FLOPs, without and with MAE, and the difference."""

    train_flops: float
    wsp: float
    mae_wsp: float
    mae: list[float]  # budgets of MAE that were chosen, by seed
    difference: Summary


class ConvergenceEntry(TypedDict):
    """The grid of the study ``convergence``."""

    mae_samples: int  # of one budget
    wsp_samples: int
    ends: list[EndEntry]
    asked: str  # the arm whose worth is the answer of the study
    worths: list[WorthEntry]
    frontier: list[FrontierEntry]
    rules: list[str]


class TrendRow(Summary):
    """A weighted sum of scores of several points, such as the slope of a gain along the size of the model."""

    trend: str
    title: str
    unit: str
    protocol: str  # "" for the mean over all tasks


class StudyResults(TypedDict):
    """The content of ``results.json``."""

    format: int
    study: str
    page: PageKind
    arms: list[ArmEntry]
    contrasts: list[ContrastEntry]
    rows: list[ScoreRow]
    stages: list[StageRow]
    baselines: list[BaselineEntry]
    arm_means: list[ArmMean]
    summary: list[ContrastRow]
    dataset_summary: list[ContrastRow]
    tag_summary: list[ContrastRow]
    protocol_summary: NotRequired[list[ContrastRow]]  # the mean over the tasks of each protocol alone
    trends: NotRequired[list[TrendRow]]
    scaling: NotRequired[ScalingEntry]
    data: DataEntry
    environment: EnvironmentEntry
    convergence: NotRequired[ConvergenceEntry]
    transfer: NotRequired[TransferEntry]


def protocol_key(protocol: str, shots: int) -> str:
    """A protocol with its shots, as tasks are named: ``linear``, ``5-shot`` for logistic regression, ``5-shot vpt``."""
    return f"{shots}-shot {protocol.removeprefix('lowshot').strip('_')}".strip() if shots else protocol
