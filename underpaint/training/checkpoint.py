"""Checkpoints: folders ``step-00010000/`` of safetensors pieces, a JSON state and a manifest (docs/formats.md).

A folder is written under a temporary name by all ranks and renamed by the first, so what has its final name is
complete. Any number of ranks may read what any other number wrote.
"""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import Tensor, nn

from underpaint import files
from underpaint.training import manifest, sharded_tensors
from underpaint.training.loop import TrainState
from underpaint.training.manifest import DamagedCheckpoint, Pieces
from underpaint.training.ranks import Ranks

__all__ = ["Checkpoints", "DamagedCheckpoint"]

KEPT = 2
"""The newest checkpoints that stay, beside every k-th."""


@dataclass(kw_only=True)
class Checkpoints:
    """The checkpoints of one run folder, which all ranks see."""

    folder: Path
    keep_every: int  # steps; a checkpoint at a multiple of it is never deleted
    keep_at: frozenset[int] = frozenset()  # steps whose checkpoints are never deleted either
    ranks: Ranks = field(default_factory=Ranks)  # with ``asynchronous``, on a channel of their own
    asynchronous: bool = False  # copy the state, and write it beside the training
    _writer: _Writer | None = None

    def save(self, state: TrainState) -> Path:
        """Write the state as a new checkpoint, then delete those that need not stay.

        With ``asynchronous`` it returns when the state is copied, and a failure is raised by the next ``save`` or
        ``wait``.

        Raises:
            OSError: on all ranks, if the disk does not take it; older checkpoints are untouched then.
        """
        self.wait()
        path = self.folder / f"step-{state.step:08d}"
        if self.ranks.broadcast_from_first(
            path.is_dir
        ):  # a run that continued at its own end: nothing may happen to it
            return path
        groups, numbers = _groups(state), _numbers(state)
        if not self.asynchronous:
            self._write(path, groups, numbers)
            return path
        copied = {
            group: {
                name: sharded_tensors.like(value, sharded_tensors.local(value).detach().clone())
                for name, value in tensors.items()
            }
            for group, tensors in groups.items()
        }
        self._writer = _Writer(lambda: self._write(path, copied, numbers))
        return path

    def wait(self) -> bool:
        """Wait for a checkpoint that is being written beside the training; whether there was one.

        Raises:
            OSError: if the disk did not take it.
        """
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.finish()
        return writer is not None

    @property
    def is_settled(self) -> bool:
        """Whether what was to be saved is on the disk."""
        return self._writer is None

    def newest(self) -> list[Path]:
        """Complete checkpoints, newest first."""
        if not self.folder.is_dir():
            return []
        folders = [path for path in self.folder.iterdir() if re.fullmatch(r"step-\d{8,}", path.name)]
        return sorted(folders, key=step_of, reverse=True)

    def resume(self, state: TrainState) -> Iterator[str]:
        """Fill the state from the newest good checkpoint; damaged ones are renamed, and a line is yielded about each.

        Raises:
            DamagedCheckpoint: if there are or were checkpoints and none is good: starting over silently would lose the
                run.
        """
        for name in self.ranks.exchange([path.name for path in self.newest()])[0]:
            path = self.folder / name
            try:
                _read(path, state, self.ranks)
                return
            except DamagedCheckpoint as error:
                self.ranks.broadcast_from_first(lambda path=path: _set_aside(path))
                yield f"checkpoint {path.name} is damaged, renamed and passed over: {error}"
        if self.ranks.any(self.folder.is_dir() and any(self.folder.glob("step-*.damaged"))):
            raise DamagedCheckpoint(
                f"no checkpoint in {self.folder} is usable; move the folder away to start this run from the beginning"
            )

    def take_over(self, path: Path, state: TrainState) -> None:
        """Fill the state from a checkpoint of another run, which stays as it is.

        Raises:
            DamagedCheckpoint: if it is damaged, or has other tensors than this run.
        """
        _read(path, state, self.ranks)

    def _write(self, path: Path, groups: manifest.Groups, numbers: Numbers) -> None:
        part = path.with_name(f"{path.name}.part")
        try:
            self._together(lambda: _fresh(part) if self.ranks.first else None)
            listed = self._together(lambda: manifest.write_pieces(part, groups, self.ranks))
            self._together(lambda: _complete(part, path, numbers, listed) if self.ranks.first else None)
        except OSError:
            if self.ranks.first:
                shutil.rmtree(part, ignore_errors=True)
            raise
        if self.ranks.first:
            self._delete_old()

    def _together(self, work: Callable[[], object]) -> list[Any]:
        """Do something on all ranks; their results, or OSError on all ranks when it failed on one."""
        result, failure = None, None
        try:
            result = work()
        except OSError as error:
            failure = error
        answers = self.ranks.exchange([result, str(failure) if failure else ""])
        if failure is not None:
            raise failure
        for rank, (_, problem) in enumerate(answers):
            if problem:
                raise OSError(f"rank {rank}: {problem}")
        return [answer for answer, _ in answers]

    def _delete_old(self) -> None:
        for path in self.newest()[KEPT:]:
            step = step_of(path)
            if step % self.keep_every and step not in self.keep_at:
                shutil.rmtree(path)


def step_of(path: Path) -> int:
    """The number of steps taken at a checkpoint, by the name of its folder."""
    return int(path.name.removeprefix("step-"))


class _Writer:
    """A thread that writes one checkpoint, and the error it may end with."""

    def __init__(self, work: Callable[[], None]) -> None:
        self.work = work
        self.error: OSError | None = None
        self.thread = threading.Thread(target=self._run, name="checkpoint")
        self.thread.start()

    def _run(self) -> None:
        try:
            self.work()
        except OSError as error:
            self.error = error

    def finish(self) -> None:
        self.thread.join()
        if self.error is not None:
            raise self.error


class Numbers(TypedDict):
    """``state.json``."""

    format: int
    step: int
    skipped: int
    seconds: float
    clock: dict[str, float]
    recent_losses: list[float]
    skipped_windows: list[list[int]]
    ranks: int


def _fresh(part: Path) -> None:
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)


def _complete(part: Path, path: Path, numbers: Numbers, listed: list[manifest.Listed]) -> None:
    """The first rank's last step: state and manifest, everything on the disk, and the final name."""
    files.write_json(part / "state.json", numbers)
    manifest.write(part, listed)
    files.sync_folder(part)
    part.replace(path)
    files.sync_folder(path.parent)


def _set_aside(path: Path) -> None:
    aside = path.with_name(f"{path.name}.damaged")
    shutil.rmtree(aside, ignore_errors=True)
    path.replace(aside)


def _groups(state: TrainState) -> dict[str, dict[str, Tensor]]:
    """The tensors of a checkpoint, by the file they go to."""
    groups = {"model": dict(state.objective.state_dict()), "optimizer": _optimizer_tensors(state)}
    if state.average is not None:
        groups["average"] = dict(state.average.state_dict())
    return groups


def _numbers(state: TrainState) -> Numbers:
    return {
        "format": manifest.FORMAT,
        "step": state.step,
        "skipped": state.skipped,
        "seconds": state.seconds,
        "clock": dict(state.clock.seconds),
        "recent_losses": state.history.recent,
        "skipped_windows": [list(window) for window in state.history.skipped],
        "ranks": state.ranks.world,
    }


def _optimizer_tensors(state: TrainState) -> dict[str, Tensor]:
    return {
        f"{name}.{slot}": value
        for name, parameter in _trained(state).items()
        for slot, value in state.optimizer.state.get(parameter, {}).items()
        if value is not None
    }


def _trained(state: TrainState) -> dict[str, nn.Parameter]:
    optimized = {id(parameter) for group in state.optimizer.param_groups for parameter in group["params"]}
    return {name: p for name, p in state.objective.named_parameters() if id(p) in optimized}


def _read(path: Path, state: TrainState, ranks: Ranks) -> None:
    """Check a checkpoint against its manifest and the run, then load it; the state is touched only when all is good.

    Raises:
        DamagedCheckpoint: on all ranks, when one of them finds something wrong.
    """
    problem, loaded = "", None
    try:
        loaded = _Loaded(path, state, ranks)
    except DamagedCheckpoint as error:
        problem = str(error)
    except (OSError, KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        problem = f"the manifest and the files disagree ({error!r})"
    for problem_of_rank in ranks.exchange(problem):
        if problem_of_rank:
            raise DamagedCheckpoint(problem_of_rank)
    assert loaded is not None
    loaded.into(state)


class _Loaded:
    """A rank's part of a checkpoint, read and checked to fit the run."""

    def __init__(self, path: Path, state: TrainState, ranks: Ranks) -> None:
        listed = manifest.read(path, ranks)
        self.numbers = files.read_json(path / "state.json")
        if path.name != f"step-{int(self.numbers['step']):08d}":
            raise DamagedCheckpoint(f"it holds step {self.numbers['step']}")
        pieces = Pieces(path, listed)
        targets = _require_fit(pieces.names(), state)
        self.tensors = {
            group: {name: pieces.read(group, name, sharded_tensors.region(target)) for name, target in named.items()}
            for group, named in targets.items()
        }
        history = state.history
        self.history = type(history)(
            [float(loss) for loss in self.numbers.get("recent_losses", [])],
            [[int(first), int(end)] for first, end in self.numbers.get("skipped_windows", [])],
        )
        self.step, self.skipped = int(self.numbers["step"]), int(self.numbers["skipped"])
        earlier = {"other": float(self.numbers["seconds"])}  # format 1 kept the sum alone
        self.seconds = {str(phase): float(value) for phase, value in self.numbers.get("clock", earlier).items()}

    def into(self, state: TrainState) -> None:
        _copy(self.tensors["model"], state.objective.state_dict())
        if state.average is not None:
            _copy(self.tensors["average"], state.average.state_dict())
        trained, slots = _trained(state), self.tensors["optimizer"]
        for parameter in trained.values():
            state.optimizer.state.pop(parameter, None)
        for full_name, value in slots.items():
            name, _, slot = full_name.rpartition(".")
            parameter = trained[name]
            state.optimizer.state[parameter][slot] = (
                sharded_tensors.like(parameter, value)
                if value.ndim
                else value.to(sharded_tensors.local(parameter).device)
            )
        state.step, state.skipped, state.history = self.step, self.skipped, self.history
        state.clock.seconds |= self.seconds


def _copy(parts: dict[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    for name, value in parts.items():
        sharded_tensors.local(tensors[name]).copy_(value)


def _require_fit(stored: dict[str, dict[str, tuple[int, ...]]], state: TrainState) -> dict[str, dict[str, Tensor]]:
    """The tensors are those of this run's network, average and trained parameters; what each is to be read into."""
    average = {} if state.average is None else state.average.state_dict()
    targets: dict[str, dict[str, Tensor]] = {"model": dict(state.objective.state_dict()), "average": dict(average)}
    for group, expected in targets.items():
        shapes = {name: tuple(value.shape) for name, value in expected.items()}
        differing = sorted(stored[group].items() ^ shapes.items())
        if differing:
            names = ", ".join(dict.fromkeys(name for name, _ in differing))
            raise DamagedCheckpoint(f"its {group} has other tensors than this run: {names[:200]}")
    trained = _trained(state)
    targets["optimizer"] = {}
    for name, shape in stored["optimizer"].items():
        parameter = trained.get(name.rpartition(".")[0])
        if parameter is None or shape not in (tuple(parameter.shape), ()):
            raise DamagedCheckpoint(f"its optimizer has other tensors than this run: {name}")
        targets["optimizer"][name] = parameter if shape else torch.empty(())
    return targets
