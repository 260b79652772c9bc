"""The record of a run folder: whose it is, whether it is finished, and what was run there (docs/formats.md)."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from underpaint import config, files
from underpaint._version import __version__
from underpaint.messages import say
from underpaint.models.weights import encoder_folder, origin_of, read_description
from underpaint.results.run import (
    BAD_RECORDS_FILE,
    ENVIRONMENT_FILE,
    FORMAT,
    RESULT_FILE,
    RUN_FILE,
    Lineage,
    RunEnvironment,
    RunRecord,
    RunResult,
    read_result,
)
from underpaint.results.study import STUDY_FILE, EnvironmentEntry
from underpaint.run.declare import HasFurtherStart, Run, RunPrecision
from underpaint.run.idle_fields import idle_fields


@contextmanager
def lock(folder: Path, *, marks: Sequence[str] = (RUN_FILE, STUDY_FILE)) -> Iterator[None]:
    """Keep other processes out of a folder; the kernel frees the lock however the process ends.

    One of ``marks`` stands in a folder that is ours already.

    Raises:
        BlockingIOError: if another process holds it.
        ValueError: if the folder holds somebody's files and none of the marks.
    """
    if not any((folder / name).exists() for name in marks):
        _refuse_strangers(folder)  # before anything is written there
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        try:
            held.enter_context(files.locked(folder / ".lock", wait=False))
        except BlockingIOError as error:
            raise BlockingIOError(
                f"another process is working in {folder}; wait for it or choose another folder"
            ) from error
        yield


def identity(run: Run, *, data: str, init_from: str) -> dict[str, object]:
    """Identity of a run: its non-operational fields, the data and the weights it starts from.

    Fields that do nothing (``idle_fields``) are left out.
    """
    start = read_description(encoder_folder(init_from))["weights"]["xxh3"] if init_from else ""
    recorded = config.record(run, identity_only=True)
    for name in idle_fields(run):
        _leave_out(recorded, name)
    further = run.objective.start_hash() if isinstance(run.objective, HasFurtherStart) else ""
    return {"run": recorded, "data": data, "init_from": start, **({"text_from": further} if further else {})}


def _leave_out(recorded: dict[str, Any], name: str) -> None:
    """Take a field, by its dotted name, out of a record, and its group where nothing else is left of it."""
    first, _, rest = name.partition(".")
    if not rest:
        recorded.pop(first, None)
    elif first in recorded:
        _leave_out(recorded[first], rest)
        if recorded[first].keys() == {"type"}:
            del recorded[first]


def digest(value: object) -> str:
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=8).hexdigest()


def finished(folder: Path, run: Run, identity: dict[str, object]) -> RunResult | None:
    """The result of a finished run, None for an unfinished or new one.

    A field that was part of the identity when the run began, and no longer is, does not count. One that did nothing
    then is not named beside those that differ, which woke it.

    Raises:
        ValueError: if the folder holds a run of another identity; the message names what differs.
    """
    path = folder / RUN_FILE
    if not path.is_file():
        _refuse_strangers(folder)
        return None
    recorded = files.read_json(path)
    if not isinstance(recorded, dict) or not {"format", "run", "derived", "identity"} <= recorded.keys():
        raise ValueError(f"{path} is not a record of a run of this package; choose another --out")
    operational, woken = (
        {f"run.{name}" for name, _, _ in config.differences(whole, part["run"])}
        for whole, part in ((config.record(run), identity), (recorded["run"], recorded["identity"]))
    )
    differing = [line for line in config.differences(recorded["identity"], identity) if line[0] not in operational]
    differing = [line for line in differing if line[0] not in woken] or differing
    if differing and _is_false_start(folder):
        _clear_false_start(folder)
        return None
    if differing:
        listed = "; ".join(f"{name.removeprefix('run.')}: was {old!r}, is {new!r}" for name, old, new in differing[:4])
        raise ValueError(f"{folder} holds a run of another configuration ({listed}); choose another --out")
    return read_result(folder) if (folder / RESULT_FILE).is_file() else None


FALSE_START = (ENVIRONMENT_FILE, BAD_RECORDS_FILE, RUN_FILE)
"""Files that a run writes before its first step."""


def _is_false_start(folder: Path) -> bool:
    """Whether there is nothing but what a run writes before its first step."""
    return {path.name for path in folder.iterdir()} <= {".lock", *FALSE_START}


def _clear_false_start(folder: Path) -> None:
    """Make room where a run ended before its first step, as with a batch larger than the data: its mended form may
    have the folder.
    """
    for name in FALSE_START:
        (folder / name).unlink(missing_ok=True)


def _refuse_strangers(folder: Path) -> None:
    """A folder that holds somebody's files and no run is not ours to write in."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; choose another --out")
    names = sorted(p.name for p in folder.glob("*") if p.name not in {".lock", f"{RUN_FILE}.part"})
    if names:
        raise ValueError(f"{folder} is not empty and holds no run ({', '.join(names[:3])}); choose another --out")


def kept_threads(folder: Path, wanted: int) -> int:
    """The number of threads of the first start: another number would change the bits."""
    path = folder / RUN_FILE
    recorded = files.read_json(path)["derived"]["threads"] if path.is_file() else wanted
    if recorded != wanted:
        say(f"{folder} was started with {recorded} threads and keeps them (asked for: {wanted})")
    return recorded


def kept_precision(folder: Path, run: Run) -> RunPrecision:
    """The precision of the first start, for a run that asks for the fastest; else that of the run."""
    path = folder / RUN_FILE
    if run.precision != "fastest" or not path.is_file():
        return run.precision
    return files.read_json(path)["derived"].get("precision", run.precision)


def start(
    folder: Path, run: Run, *, identity: dict[str, object], derived: Mapping[str, object], overrides: Sequence[str]
) -> None:
    """Write run.json at the first start, and add this start to env.json."""
    path = folder / RUN_FILE
    if path.is_file():
        for name, old, new in config.differences(files.read_json(path)["run"], config.record(run)):
            say(f"{folder}: {name} was {old!r}, is now {new!r}")
    record: RunRecord = {
        "format": FORMAT,
        "run": config.record(run),
        "derived": dict(derived),
        "overrides": list(overrides),
        "identity": identity,
        "identity_hash": digest(identity),
    }
    files.write_json(path, record)
    env = folder / ENVIRONMENT_FILE
    starts: list[EnvironmentEntry] = files.read_json(env)["starts"] if env.is_file() else []
    if starts:
        _say_what_may_change_bits(folder, starts[-1]["versions"])
    lineage: Lineage = {"init_from": run.init_from, "weights": str(identity["init_from"])}
    origin = origin_of(run.init_from)
    if origin is not None:
        lineage["origin"] = origin
    written: RunEnvironment = {"format": FORMAT, "lineage": lineage, "starts": [*starts, environment()]}
    files.write_json(env, written)


def _say_what_may_change_bits(folder: Path, before: dict[str, str]) -> None:
    now = environment()["versions"]
    for name in sorted(before.keys() & now.keys()):
        if before[name] != now[name]:
            say(f"{folder}: continues with {name} {now[name]}, was {before[name]}; the bits of results may differ")


def fingerprint(run: Run, identity: dict[str, object]) -> dict[str, object]:
    """Values that all ranks of a run must have in common, whether they belong to its identity or not."""
    import torch

    return {
        "configuration": config.record(run),
        "data": identity["data"],
        "init_from": identity["init_from"],
        "text_from": identity.get("text_from", ""),
        "code": _code(),
        "torch": torch.__version__,
    }


@cache
def _code() -> str:
    """Hash of the package's source, taken once: later changes of the files are not what this process runs."""
    source, package = hashlib.blake2b(digest_size=8), Path(__file__).parents[1]
    for file in sorted(package.rglob("*.py")):
        source.update(file.relative_to(package).as_posix().encode() + b"\0" + file.read_bytes())
    return source.hexdigest()


def require_agreement(fingerprints: Sequence[dict[str, object]]) -> None:
    """Raise ValueError, naming rank and value, where a rank was started with something else than rank 0."""
    for rank, of_rank in enumerate(fingerprints):
        differing = list(config.differences(fingerprints[0], of_rank))
        if differing:
            listed = "; ".join(f"{name} is {new!r}, on rank 0 {old!r}" for name, old, new in differing[:4])
            raise ValueError(f"rank {rank} differs from rank 0: {listed}; start all ranks with the same command")


def environment() -> EnvironmentEntry:
    """Versions and hardware of this process, and the command that started it."""
    import torch

    packages = ("torchvision", "numpy", "pillow", "safetensors")
    started = Path(sys.argv[0])  # of `python -m underpaint` the path of its __main__.py
    program = started.parent.name if started.name == "__main__.py" else started.name
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": [program, *sys.argv[1:]],
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "",
        "versions": {"underpaint": __version__}
        | {name: importlib.metadata.version(name) for name in packages}
        | {"torch": torch.__version__},  # with the build, as in 2.14.1+cpu: another one may give other bits
    }


def processor_name() -> str:
    """The processor's name as Linux gives it; elsewhere what Python knows."""
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.is_file() else []
    return names[0].partition(":")[2].strip() if names else platform.processor()
