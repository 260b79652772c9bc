"""Read the files of a run folder or a study folder; the report takes nothing from anywhere else."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

from underpaint import files
from underpaint.results.check import checked
from underpaint.results.pictures import PICTURES_FILE, PicturesEntry
from underpaint.results.run import (
    RESULT_FILE,
    RUN_FILE,
    EvaluationRow,
    LogLine,
    RunEnvironment,
    RunRecord,
    RunResult,
    read_bad_records,
    read_environment,
    read_evaluations,
    read_log,
    read_record,
    read_result,
)
from underpaint.results.study import RESULTS_FILE, ArmEntry, EnvironmentEntry, Role, StageRow, StudyResults
from underpaint.results.study_file import read_results

PREPARED_FILE = "prepared.json"


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """One training run. ``result`` is None while the run is unfinished, ``log`` empty where nothing was logged yet."""

    path: Path
    record: RunRecord | None
    environment: RunEnvironment | None
    result: RunResult | None
    log: tuple[LogLine, ...]  # lines with a loss, by step
    evals: tuple[LogLine, ...]  # lines with an "eval", by step
    scores: tuple[EvaluationRow, ...]  # of the evaluations that were called on it
    bad_records: frozenset[tuple[str, str]]  # key and reason of each image that could not be used

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def init_from(self) -> str:
        """The name of the run it started from, "" for scratch."""
        return Path(self.environment["lineage"]["init_from"]).name if self.environment else ""

    @property
    def starts(self) -> tuple[EnvironmentEntry, ...]:
        """Versions, hardware and command of every start of the run; the first is the one that counts."""
        return tuple(self.environment["starts"]) if self.environment else ()

    @property
    def preview(self) -> Path | None:
        picture = self.path / "preview.png"
        return picture if picture.is_file() else None


@dataclass(frozen=True, kw_only=True)
class StudyFolder:
    """One study with the training runs in it."""

    path: Path
    results: StudyResults
    runs: dict[str, RunFolder]  # by folder name: first those that ``stages`` names, then the rest
    pictures: PicturesEntry | None

    @property
    def name(self) -> str:
        return self.results["study"]

    @property
    def meaning(self) -> dict[str, ArmEntry]:
        """Meaning of each arm, by its name."""
        return {entry["arm"]: entry for entry in self.results["arms"]}

    @property
    def arms(self) -> list[str]:
        """The arms that were measured or trained, in the order of the study."""
        there = {row["arm"] for row in (*self.results["rows"], *self.results["stages"])}
        return [name for name in self.meaning if name in there]

    def arms_of(self, role: Role) -> list[str]:
        """The names of the arms that have a role."""
        return [entry["arm"] for entry in self.results["arms"] if entry["role"] == role]

    @property
    def seeds(self) -> list[int]:
        return sorted({row["seed"] for row in (*self.results["rows"], *self.results["stages"])})

    @property
    def staged(self) -> list[RunFolder]:
        """The runs that ``stages`` names: they made the encoders that are compared."""
        named = dict.fromkeys(stage_folder(stage) for stage in self.results["stages"])
        return [self.runs[name] for name in named if name in self.runs]

    @property
    def measuring(self) -> list[RunFolder]:
        """The runs that no stage names: they were trained to measure the arms, as finetuning is."""
        staged = {stage_folder(stage) for stage in self.results["stages"]}
        return [run for name, run in self.runs.items() if name not in staged]

    def run_of(self, stage: StageRow) -> RunFolder | None:
        """The run behind one line of ``stages``, or None where its folder is not here or not named."""
        return self.runs.get(stage_folder(stage))


def stage_folder(stage: StageRow) -> str:
    """The folder of a stage's run, relative to the study; "" where the study does not name it."""
    return stage.get("run", "")


def is_run(folder: Path) -> bool:
    return (folder / RUN_FILE).is_file()


def is_study(folder: Path) -> bool:
    return (folder / RESULTS_FILE).is_file()


def is_prepared(folder: Path) -> bool:
    return (folder / PREPARED_FILE).is_file()


def read_run(folder: Path) -> RunFolder:
    """Read a run folder; every file but run.json may be missing.

    Raises:
        ValueError: for a file that is not what it should be; the message names it.
    """
    log, evals = merged_log(read_log(folder))
    return RunFolder(
        path=folder,
        record=read_record(folder),
        environment=read_environment(folder),
        result=read_result(folder) if (folder / RESULT_FILE).is_file() else None,
        log=log,
        evals=evals,
        scores=tuple(read_evaluations(folder)),
        bad_records=frozenset((line["key"], line["reason"]) for line in read_bad_records(folder)),
    )


def read_study(folder: Path) -> StudyFolder:
    """Read a study folder and the runs in it; runs and pictures may be missing.

    Raises:
        ValueError: for a file that is not what it should be; the message names it.
    """
    results = read_results(folder)
    staged = [name for name in map(stage_folder, results["stages"]) if name]
    names = dict.fromkeys([*staged, *sorted(path.name for path in folder.iterdir())])
    pictures = folder / PICTURES_FILE
    return StudyFolder(
        path=folder,
        results=results,
        runs={name: read_run(folder / name) for name in names if is_run(folder / name)},
        pictures=checked(PicturesEntry, files.read_json(pictures), where=str(pictures)) if pictures.is_file() else None,
    )


def merged_log(lines: Iterable[LogLine]) -> tuple[tuple[LogLine, ...], tuple[LogLine, ...]]:
    """The lines with a finite loss and those with an evaluation, each sorted by step; of two alike the later counts."""
    log: dict[int, LogLine] = {}
    evals: dict[int, LogLine] = {}
    for line in lines:
        step = line["step"]
        if "eval" in line:
            earlier = evals[step].get("eval", {}) if step in evals else {}
            evals[step] = {**line, "eval": earlier | line["eval"]}
        elif is_number(line.get("loss")):
            log[step] = line
    return tuple(log[step] for step in sorted(log)), tuple(evals[step] for step in sorted(evals))


def is_number(value: object) -> TypeGuard[float]:
    """A finite number; a log holds null where a value was not finite."""
    return isinstance(value, (int, float)) and math.isfinite(value)


def count_reasons(runs: Iterable[RunFolder]) -> list[tuple[str, int]]:
    """Bad images by reason, most frequent first; an image that several runs met counts once."""
    distinct = frozenset[tuple[str, str]]().union(*(run.bad_records for run in runs))
    return Counter(reason for _, reason in sorted(distinct)).most_common()
