"""Read the files of a run folder or a study folder; the report takes nothing from anywhere else."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from underpaint import files

Record = dict[str, Any]

RUN_FILE = "run.json"
STUDY_FILE = "results.json"
PREPARED_FILE = "prepared.json"
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """One training run. ``result`` is empty while the run is unfinished, ``log`` where nothing was logged yet."""

    path: Path
    record: Record  # run.json
    environment: Record  # env.json
    result: Record  # result.json
    log: tuple[Record, ...]  # lines with a loss, by step
    evals: tuple[Record, ...]  # lines with an "eval", by step
    bad_records: frozenset[tuple[str, str]]  # key and reason of each image that could not be used

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def init_from(self) -> str:
        """The name of the run it started from, "" for scratch."""
        return Path(self.environment.get("lineage", {}).get("init_from", "")).name

    @property
    def starts(self) -> tuple[Record, ...]:
        """Versions, hardware and command of every start of the run; the first is the one that counts."""
        return tuple(self.environment.get("starts", ()))

    @property
    def preview(self) -> Path | None:
        picture = self.path / "preview.png"
        return picture if picture.is_file() else None


@dataclass(frozen=True, kw_only=True)
class StudyFolder:
    """One study with the training runs in it."""

    path: Path
    rows: tuple[Record, ...]
    stages: tuple[Record, ...]
    summary: tuple[Record, ...]
    data: Record
    environment: Record
    name: str
    runs: dict[str, RunFolder]  # by folder name: first those that ``stages`` names, then the others
    pictures: Record  # pictures/pictures.json, empty where there is none
    baselines: tuple[Record, ...] = ()  # encoders from elsewhere: arms that were not trained here
    by_dataset: tuple[Record, ...] = ()  # ``summary`` on the mean over the tasks of each dataset
    means: tuple[Record, ...] = ()  # the mean over tasks of each arm, with its interval

    @property
    def arms(self) -> list[str]:
        return list(dict.fromkeys(row["arm"] for row in (*self.rows, *self.stages)))

    @property
    def baseline_names(self) -> list[str]:
        return [one["arm"] for one in self.baselines]

    @property
    def seeds(self) -> list[int]:
        return sorted({row["seed"] for row in (*self.rows, *self.stages)})

    @property
    def staged(self) -> list[RunFolder]:
        """The runs that ``stages`` names: they made the encoders that are compared."""
        named = dict.fromkeys(stage_folder(stage) for stage in self.stages)
        return [self.runs[name] for name in named if name in self.runs]

    @property
    def measuring(self) -> list[RunFolder]:
        """The runs that no stage names: they were trained to measure the arms, as finetuning is."""
        staged = {stage_folder(stage) for stage in self.stages}
        return [run for name, run in self.runs.items() if name not in staged]

    def run_of(self, stage: Record) -> RunFolder | None:
        """The run behind one line of ``stages``, or None where its folder is not here or not named."""
        return self.runs.get(stage_folder(stage))


def stage_folder(stage: Record) -> str:
    """The folder of a stage's run, relative to the study; "" where the study does not name it."""
    return stage.get("run", "")


def is_run(folder: Path) -> bool:
    return (folder / RUN_FILE).is_file()


def is_study(folder: Path) -> bool:
    return (folder / STUDY_FILE).is_file()


def is_prepared(folder: Path) -> bool:
    return (folder / PREPARED_FILE).is_file()


def read_run(folder: Path) -> RunFolder:
    """Read a run folder; every file but run.json may be missing.

    Errors: ValueError that names a file that is not what it should be.
    """
    log, evals = read_log(folder / "log.jsonl")
    return RunFolder(
        path=folder,
        record=read_json(folder / RUN_FILE),
        environment=read_json(folder / "env.json"),
        result=read_json(folder / "result.json"),
        log=log,
        evals=evals,
        bad_records=frozenset((line["key"], line["reason"]) for line in read_lines(folder / "bad_records.jsonl")),
    )


def read_study(folder: Path) -> StudyFolder:
    """Read a study folder and the runs in it; runs and pictures may be missing.

    Errors: ValueError that names a file that is not what it should be.
    """
    results = read_json(folder / STUDY_FILE)
    for key in ("rows", "stages", "summary", "data", "environment", "study"):
        if key not in results:
            raise ValueError(f"{folder / STUDY_FILE} has no {key!r}; run the study again to write it")
    staged = [name for name in map(stage_folder, results["stages"]) if name]
    names = dict.fromkeys([*staged, *sorted(path.name for path in folder.iterdir())])
    return StudyFolder(
        path=folder,
        rows=tuple(results["rows"]),
        stages=tuple(results["stages"]),
        summary=tuple(results["summary"]),
        data=results["data"],
        environment=results["environment"],
        name=results["study"],
        runs={name: read_run(folder / name) for name in names if is_run(folder / name)},
        pictures=read_json(folder / "pictures" / "pictures.json"),
        baselines=tuple(results.get("baselines", ())),
        by_dataset=tuple(results.get("dataset_summary", ())),
        means=tuple(results.get("arms", ())),
    )


def read_json(path: Path) -> Record:
    """The object in a JSON file, or an empty one where the file is missing."""
    if not path.is_file():
        return {}
    value = files.read_json(path)
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds a {type(value).__name__}, expected an object")
    if value.get("format", FORMAT) != FORMAT:
        raise ValueError(f"{path} has format {value['format']!r}; this version of underpaint reads format {FORMAT}")
    return value


def read_lines(path: Path) -> Iterator[Record]:
    """The objects of a JSON-lines file; a torn last line, as a killed run leaves it, is left out."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError as error:
            if number == len(lines):
                return
            raise ValueError(f"{path}, line {number}, is not readable as JSON ({error})") from error
        yield value


def read_log(path: Path) -> tuple[tuple[Record, ...], tuple[Record, ...]]:
    """The lines with a finite loss and those with an evaluation, each sorted by step; of two alike the later counts."""
    log: dict[int, Record] = {}
    evals: dict[int, Record] = {}
    for line in read_lines(path):
        if "eval" in line:
            earlier = evals.get(line["step"], {"eval": {}})
            evals[line["step"]] = line | {"eval": earlier["eval"] | line["eval"]}
        elif is_number(line.get("loss")):
            log[line["step"]] = line
    return tuple(log[step] for step in sorted(log)), tuple(evals[step] for step in sorted(evals))


def is_number(value: object) -> bool:
    """A finite number; a log holds null where a value was not finite."""
    return isinstance(value, (int, float)) and math.isfinite(value)


def count_reasons(runs: Iterable[RunFolder]) -> list[tuple[str, int]]:
    """Bad images by reason, most frequent first; an image that several runs met counts once."""
    distinct = frozenset[tuple[str, str]]().union(*(run.bad_records for run in runs))
    return Counter(reason for _, reason in sorted(distinct)).most_common()
