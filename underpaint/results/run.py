"""The fields of the files of a run folder: ``run.json``, ``env.json``, ``result.json``, ``log.jsonl`` and others."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NotRequired, TypedDict

from underpaint import files
from underpaint.results.check import checked
from underpaint.results.study import EnvironmentEntry, ScoreEntry

RUN_FILE = "run.json"
RESULT_FILE = "result.json"
ENVIRONMENT_FILE = "env.json"
LOG_FILE = "log.jsonl"
TAIL = 65_536
"""Bytes at the end of a log in which its last line is looked for."""
BAD_RECORDS_FILE = "bad_records.jsonl"
EVALUATIONS_FOLDER = "evals"
FORMAT = 1


class RunRecord(TypedDict):
    """``run.json``: what is run; ``identity`` is what makes it the same run."""

    format: int
    run: dict[str, object]
    derived: dict[str, object]
    overrides: list[str]
    identity: dict[str, object]
    identity_hash: NotRequired[str]


class Lineage(TypedDict):
    """The weights that a run started from."""

    init_from: str  # "" for scratch
    weights: str  # their checksum
    origin: NotRequired[dict[str, object]]  # where imported weights come from


class RunEnvironment(TypedDict):
    """``env.json``: every start of a run; the first is the one that counts."""

    format: int
    lineage: Lineage
    starts: list[EnvironmentEntry]


class EvaluationRow(ScoreEntry):
    """A score of this run, and what the reader must know of it."""

    remarks: NotRequired[list[str]]
    low: NotRequired[float]  # ends of the 95% interval over the test images, or over what n_test counts
    high: NotRequired[float]
    settings: NotRequired[dict[str, float]]  # values chosen or measured, such as a penalty or the number of captions
    chance: NotRequired[float]  # of answers drawn at random
    versions: NotRequired[dict[str, str]]  # hashes of the tables of names, templates, captions or lists


class EvaluationFile(TypedDict):
    """``evals/NAME.json``: the scores of one evaluation with one setting."""

    format: int
    rows: list[EvaluationRow]


class RunMeasures(TypedDict):
    """Cost and metrics of a finished run."""

    name: str
    stage: str
    seed: int
    samples: int
    steps: int
    train_flops: float
    wall_seconds: float
    images_per_second: float
    clock: NotRequired[dict[str, float]]
    skipped_windows: NotRequired[list[object]]
    bad_records: int
    metrics: dict[str, object]
    remarks: NotRequired[list[str]]  # on the curve, where it left the band of earlier runs


class RunResult(RunMeasures):
    """``result.json``."""

    format: int


class LogLine(TypedDict):
    """A line of ``log.jsonl``: the training metrics of a step (null where a value was not finite), or an evaluation."""

    step: int
    samples: int
    train_flops: NotRequired[float]
    loss: NotRequired[float | None]
    lr: NotRequired[float | None]
    images_per_second: NotRequired[float | None]
    remark: NotRequired[str]
    eval: NotRequired[dict[str, object]]


class BadRecord(TypedDict):
    """A line of ``bad_records.jsonl``: an image that could not be used."""

    key: str
    reason: str


def read_record(folder: Path) -> RunRecord:
    """``run.json``.

    Raises:
        ValueError: if it is damaged or of another format; the message names the file and the field.
    """
    return checked(RunRecord, _content(folder / RUN_FILE), where=str(folder / RUN_FILE))


def read_environment(folder: Path) -> RunEnvironment | None:
    """``env.json``, None where it is missing.

    Raises:
        ValueError: as ``read_record``.
    """
    path = folder / ENVIRONMENT_FILE
    return checked(RunEnvironment, _content(path), where=str(path)) if path.is_file() else None


def read_log(folder: Path) -> Iterator[LogLine]:
    """The lines of ``log.jsonl``; none where it is missing.

    Raises:
        ValueError: as ``read_record``, with the number of the line.
    """
    for where, line in _lines(folder / LOG_FILE):
        yield checked(LogLine, line, where=where)


def last_samples(folder: Path) -> int:
    """The images that a run has seen by the last whole line of ``log.jsonl``; 0 where there is none.

    Reads no more than the end of the file, since it is for watching a run; a damaged line counts as none.
    """
    path = folder / LOG_FILE
    if not path.is_file():
        return 0
    with path.open("rb") as log:
        log.seek(max(0, log.seek(0, os.SEEK_END) - TAIL))
        lines = log.read().split(b"\n")[:-1]
    try:
        samples = json.loads(lines[-1])["samples"] if lines else 0
    except (ValueError, KeyError, TypeError):
        return 0
    return samples if isinstance(samples, int) else 0


def read_bad_records(folder: Path) -> Iterator[BadRecord]:
    """The lines of ``bad_records.jsonl``; none where it is missing.

    Raises:
        ValueError: as ``read_log``.
    """
    for where, line in _lines(folder / BAD_RECORDS_FILE):
        yield checked(BadRecord, line, where=where)


def _content(path: Path) -> object:
    content = files.read_json(path)
    if isinstance(content, dict) and content.get("format", FORMAT) != FORMAT:
        raise ValueError(f"{path} has format {content['format']!r}; this version of underpaint reads format {FORMAT}")
    return content


def _lines(path: Path) -> Iterator[tuple[str, object]]:
    """The values of a JSON-lines file with their places; a torn last line, as a killed run leaves it, is left out."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}") from error
    for number, line in enumerate(lines, start=1):
        where = f"{path}, line {number}"
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            if number == len(lines):
                return
            raise ValueError(f"{where}, is not readable as JSON ({error})") from error
        yield where, value


def read_evaluations(folder: Path) -> list[EvaluationRow]:
    """The rows of all evaluations of a run or an imported model, in the order of their files' names.

    Raises:
        ValueError: if a file is damaged; the message names it and the field.
    """
    paths = sorted((folder / EVALUATIONS_FOLDER).glob("*.json"))
    return [row for path in paths for row in checked(EvaluationFile, _content(path), where=str(path))["rows"]]


def read_result(folder: Path) -> RunResult:
    """``result.json`` of a finished run.

    Raises:
        ValueError: if it is missing or damaged; the message names the file and the field.
    """
    path = folder / RESULT_FILE
    if not path.is_file():
        raise ValueError(f"{path} is missing: the run is not finished")
    return checked(RunResult, _content(path), where=str(path))


def describe_score(row: EvaluationRow) -> str:
    """A row of an evaluation as one line, without its remarks."""
    shots = f" {row['shots']}-shot" if row["shots"] else ""
    language = f" in {row['language']}" if row["language"] else ""
    value = f"{row['metric']} {100 * row['value']:.1f}% of {row['n_test']}"
    interval = (
        f", 95% interval {100 * row['low']:.1f} to {100 * row['high']:.1f}" if "low" in row and "high" in row else ""
    )
    chance = f", chance {100 * row['chance']:.1f}" if "chance" in row else ""
    deviation = row.get("settings", {}).get("deviation")
    bonus = row.get("settings", {}).get("selection_bonus")
    spread = f", deviation {100 * deviation:.1f} between splits" if deviation is not None else ""
    chosen = f", selection bonus {100 * bonus:.1f}" if bonus is not None else ""
    return (
        f"{row['dataset']} {row['protocol']}{shots} {row['split']}{language}: {value}{interval}{spread}{chance}{chosen}"
    )
