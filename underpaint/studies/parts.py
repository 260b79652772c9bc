"""A study: named parts (runs and evaluations) in order, each skipped when it is done, and results at the end."""

from __future__ import annotations

import difflib
import fnmatch
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from underpaint import config, files
from underpaint.core import DataInfo
from underpaint.messages import duration, say
from underpaint.models.vit import ViTConfig
from underpaint.models.weights import require_same_form
from underpaint.results.check import checked
from underpaint.results.study import OLD_NAMES, STUDY_FILE, StudyRecord, StudyResults
from underpaint.run import Run, execute, record
from underpaint.run.declare import ChecksStart, HasEncoder
from underpaint.run.precision import MeasuredPrecision, block_timing
from underpaint.training.devices import choose_device

FORMAT = 1
THREADS = 1
"""Threads of every part: bits depend on their number, and several parts at a time use the cores better."""
BEFORE_MEASURING = {"mae_seconds": 0.5}
"""Constants of studies that were started before these values were measured."""
SEED = re.compile(r"-seed(0|[1-9][0-9]{0,17})$")


@dataclass(frozen=True, kw_only=True)
class TrainPart:
    """A run; its output is the run folder ``DIR/NAME``."""

    name: str
    run: Run
    data_info: DataInfo  # of its data, for the plan
    init_from: str = ""  # the part whose encoder it starts from
    branch_from: str = ""  # the part whose checkpoint it continues (run/branches.py)
    branch_at: int = 0  # samples of that checkpoint, which it does not train again


@dataclass(frozen=True, kw_only=True)
class ComputePart:
    """Anything else that is computed once: its output is the JSON file ``DIR/evals/NAME.json``.

    ``inputs`` are the run folders it reads; the output is computed anew when their weights have changed. A part that
    leaves an encoder in ``DIR/NAME`` says which. One that takes long says its ``work``.
    """

    name: str
    compute: Callable[[Path], object]
    settings: object  # plain values; part of what decides whether a finished output is still the right one
    inputs: tuple[str, ...] = ()
    encoder: ViTConfig | None = None
    work: Work | None = None


@dataclass(frozen=True, kw_only=True)
class Work:
    """Images that are read and pass a network in a part that is computed, for the plan and the time that is left."""

    images: int
    flops: float
    like: tuple[Run, DataInfo]  # training whose FLOPs are about as fast, which the plan times


Part = TrainPart | ComputePart


@dataclass(frozen=True, kw_only=True)
class Study:
    """Parts in an order in which every part comes after those it needs."""

    name: str
    settings: Mapping[str, object]  # recorded; a folder belongs to one set of them
    parts: tuple[Part, ...]
    seeds: tuple[int, ...]
    parts_of: Callable[[int], Sequence[Part]]  # what any seed, one that is not among ``seeds`` too, must have to count
    results: Callable[[Path, Sequence[int]], StudyResults]  # from a folder in which these seeds are finished
    require_ready: Callable[[Path], None] = lambda folder: None
    """Raises ValueError where the folder lacks what must be there before the parts are run."""
    measured: Mapping[str, float] = field(default_factory=dict)
    """Values that were measured on this machine and decide what the parts do; the first start records them."""
    precision: MeasuredPrecision | None = None
    """Precision of the runs that ask for the fastest, where some do; the first start records it."""


def require_sound_runs(study: Study) -> None:
    """Raises ValueError if a run of the study has fewer images than one batch, or another architecture than the part
    that it starts from.
    """
    _require_batches(study)
    encoders = {part.name: _encoder_of(part) for part in study.parts}
    for part in (part for part in study.parts if isinstance(part, TrainPart) and part.init_from):
        source, target = encoders[part.init_from], encoders[part.name]
        if source is not None and isinstance(part.run.objective, ChecksStart):
            part.run.objective.require_start(source, start=part.init_from)
        elif source is not None and target is not None:
            require_same_form(target, source, start=part.init_from, run=f"{part.name}, which starts from it,")


def _require_batches(study: Study) -> None:
    """Raises ValueError if a run has fewer images than one batch, with fields that mend all of them."""
    first, fits = "", dict[str, int]()
    for part in (part for part in study.parts if isinstance(part, TrainPart)):
        batch, images = part.run.budget.batch_size, part.data_info.images * getattr(part.run.data, "views", 1)
        if images < batch:
            first = first or f"{part.name} has {images} images to train on, fewer than one batch of {batch}"
            stage = part.run.objective.stage
            fits[stage] = min(fits.get(stage, batch), 1 << max(0, images.bit_length() - 1))
    if fits:
        fields = (
            f"{stage}.budget.{name}={size}" for stage, size in fits.items() for name in ("batch_size", "microbatch")
        )
        raise ValueError(f"{first}; give more images, or add {' '.join(fields)}")


def _encoder_of(part: Part) -> ViTConfig | None:
    if isinstance(part, ComputePart):
        return part.encoder
    return part.run.objective.encoder if isinstance(part.run.objective, HasEncoder) else None


def named_parts(study: Study, only: Sequence[str]) -> set[str]:
    """Names of the parts that names or patterns such as ``*-seed0*`` choose; all of them without any.

    Raises:
        ValueError: for a name or pattern that no part has.
    """
    names, chosen = [part.name for part in study.parts], set[str]()
    for pattern in only or ("*",):
        matching = fnmatch.filter(names, pattern)
        if not matching:
            like = difflib.get_close_matches(pattern, names, n=3, cutoff=0.3) or names[:3]
            raise ValueError(f"unknown part {pattern!r} in --only; of {len(names)} parts some are {', '.join(like)}")
        chosen.update(matching)
    return chosen


def needs_of(part: Part) -> tuple[str, ...]:
    """Names of the parts whose outputs it reads."""
    if isinstance(part, TrainPart):
        return tuple(name for name in (part.init_from, part.branch_from) if name)
    return part.inputs


def run_part(part: Part, folder: Path) -> None:
    """Run a part, or continue it; a part that is done already is left as it is."""
    if isinstance(part, TrainPart):
        start, trunk = (str(folder / name) if name else "" for name in (part.init_from, part.branch_from))
        execute(replace(part.run, init_from=start, branch_from=trunk), folder / part.name)
    else:
        compute(part, folder)


def finished_seeds(study: Study, folder: Path) -> list[int]:
    """The seeds of the study, and those of earlier runs of it in this folder whose parts are all done, in order."""
    names = (SEED.search(path.name) for path in folder.iterdir())
    earlier = {int(name[1]) for name in names if name} - set(study.seeds)
    kept = [seed for seed in sorted(earlier) if all(is_done(part, folder) for part in study.parts_of(seed))]
    if kept:
        say(f"{folder}: seeds {', '.join(map(str, kept))} of earlier runs stay in the results")
    if left := sorted(earlier - set(kept)):
        say(f"{folder}: seeds {', '.join(map(str, left))} are not finished and not in the results")
    return sorted({*study.seeds, *kept})


def claim(study: Study, folder: Path) -> None:
    """Write study.json at the first start; refuse the folder of another study.

    Images are known by their content and name, wherever they lie; older records name their path.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted: dict[str, object] = {"study": study.name, **study.settings}
    if (earlier := _recorded(folder)) is not None:
        recorded = earlier["settings"]
        name = str(recorded.get("study"))
        recorded |= {"study": OLD_NAMES.get(name, name)}
        recorded |= {name: Path(str(path)).name for name, path in recorded.items() if name == "images"}
        for name, old, new in config.differences(recorded, wanted):
            raise ValueError(f"{folder} holds a study with {name}={old!r}, not {new!r}; choose another --out")
        return
    strangers = sorted(p.name for p in folder.iterdir() if p.name != ".lock")
    if strangers:
        raise ValueError(f"{folder} is not empty and holds no study ({', '.join(strangers[:3])}); choose another --out")
    written = StudyRecord(format=FORMAT, settings=wanted, measured=dict(study.measured))
    if study.precision is not None:
        written["precision"] = study.precision
    files.write_json(folder / STUDY_FILE, written)


def settled_earlier(folder: Path, study: str) -> tuple[dict[str, float], MeasuredPrecision | None]:
    """Values and precision that the first start of the study in this folder measured; none if it was not started."""
    recorded = _recorded(folder)
    if recorded is None or recorded["settings"].get("study") != study:
        return {}, None
    measured = recorded.get("measured", BEFORE_MEASURING) if study == "stages" else {}
    return measured, recorded.get("precision")


def with_one_precision(study: Study, precision: MeasuredPrecision | None) -> Study:
    """The study with its runs that ask for the fastest precision in one and the same, so that its arms share it.

    That is ``precision``, or, without one, what is measured for the run with the most FLOPs a sample.
    """
    asking = [part for part in study.parts if isinstance(part, TrainPart) and part.run.precision == "fastest"]
    if not asking:
        return study
    if precision is None:
        largest = max(asking, key=lambda part: part.run.objective.flops_per_sample(part.data_info)).run
        torch.set_num_threads(largest.threads)
        precision = block_timing(largest, choose_device(largest.device)).fastest

    def settled_run(run: Run) -> Run:
        return replace(run, precision=precision) if run.precision == "fastest" else run

    def settled(part: Part) -> Part:
        if isinstance(part, TrainPart):
            return replace(part, run=settled_run(part.run))
        if part.work is None:
            return part
        like, data_info = part.work.like
        return replace(part, work=replace(part.work, like=(settled_run(like), data_info)))

    return replace(
        study,
        parts=tuple(map(settled, study.parts)),
        parts_of=lambda seed: [settled(part) for part in study.parts_of(seed)],
        precision=precision,
    )


def _recorded(folder: Path) -> StudyRecord | None:
    path = folder / STUDY_FILE
    return checked(StudyRecord, files.read_json(path), where=str(path)) if path.is_file() else None


def compute(part: ComputePart, folder: Path) -> None:
    """Compute a part whose output is missing or was made from other inputs."""
    if is_done(part, folder):
        return
    started = time.perf_counter()
    torch.set_num_threads(THREADS)
    output = part.compute(folder)
    path = output_of(part.name, folder)
    path.parent.mkdir(exist_ok=True)
    files.write_json(path, {"format": FORMAT, "made_from": _made_from(part, folder), "output": output})
    say(f"{part.name}: {duration(time.perf_counter() - started)}")


def output_of(name: str, folder: Path) -> Path:
    return folder / "evals" / f"{name}.json"


def read_output(name: str, folder: Path) -> Any:
    return _read_computed(output_of(name, folder))["output"]


def _read_computed(path: Path) -> dict[str, Any]:
    """The checked file of a part that was computed.

    Raises:
        ValueError: if it is damaged or comes from a newer release; deleting it has the part computed anew.
    """
    content = files.read_json(path)
    if (
        not isinstance(content, dict)
        or content.get("format") != FORMAT
        or not {"made_from", "output"} <= content.keys()
    ):
        raise ValueError(f"{path} is damaged, or of another release; delete it to have it computed anew")
    return content


def are_there(names: Sequence[str], folder: Path) -> bool:
    """Whether these parts have put out something."""
    return all(output_of(name, folder).is_file() for name in names)


def is_done(part: Part, folder: Path) -> bool:
    if isinstance(part, TrainPart):
        return (folder / part.name / "result.json").is_file()
    path = output_of(part.name, folder)
    inputs_done = all(_weights_of(folder / name).is_file() for name in part.inputs)
    return inputs_done and path.is_file() and _read_computed(path)["made_from"] == _made_from(part, folder)


def _made_from(part: ComputePart, folder: Path) -> str:
    weights = [files.read_json(_weights_of(folder / name))["weights"]["xxh3"] for name in part.inputs]
    return record.digest([part.settings, weights])


def _weights_of(run: Path) -> Path:
    """The description of a run's encoder; of its model where no other stage can start from its encoder."""
    model = run / "model" / "config.json"
    return run / "encoder" / "config.json" if (run / "encoder").is_dir() or not model.is_file() else model
