"""Checkpoints: folders ``step-00010000/`` of safetensors pieces, a JSON state and a manifest (docs/formats.md).

A folder is written under a temporary name and renamed, so what has its final name is complete; the manifest lists every
file with size and checksum and every tensor with shape and type, and is checked before torch sees a byte.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from underpaint import files
from underpaint.training.loop import TrainState

FORMAT = 1
KEPT = 2
"""The newest checkpoints that stay, beside every k-th."""


class DamagedCheckpoint(ValueError):
    """A checkpoint folder whose files are not the ones that were saved."""


@dataclass(frozen=True, kw_only=True)
class Checkpoints:
    """The checkpoints of one run folder."""

    folder: Path
    keep_every: int  # steps; a checkpoint at a multiple of it is never deleted

    def save(self, state: TrainState) -> Path:
        """Write the state as a new checkpoint, then delete those that need not stay.

        Raises:
            OSError: if the disk does not take it; older checkpoints are untouched then.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"step-{state.step:08d}"
        if path.is_dir():  # a run that continued at its own end: the same state, and nothing may happen to it
            return path
        try:
            with files.new_folder(path) as part:
                _write(part, state)
        except OSError:
            shutil.rmtree(path.with_name(f"{path.name}.part"), ignore_errors=True)
            raise
        self._delete_old()
        return path

    def newest(self) -> list[Path]:
        """Complete checkpoints, newest first."""
        if not self.folder.is_dir():
            return []
        found = [path for path in self.folder.iterdir() if re.fullmatch(r"step-\d{8,}", path.name)]
        return sorted(found, key=lambda path: int(path.name.removeprefix("step-")), reverse=True)

    def resume(self, state: TrainState) -> Iterator[str]:
        """Fill the state from the newest good checkpoint; damaged ones are renamed, and a line is yielded about each.

        Raises:
            DamagedCheckpoint: if there are or were checkpoints and none is good: starting over silently would lose the
                run.
        """
        for path in self.newest():
            try:
                _read(path, state)
                return
            except DamagedCheckpoint as error:
                aside = path.with_name(f"{path.name}.damaged")
                shutil.rmtree(aside, ignore_errors=True)
                path.replace(aside)
                yield f"checkpoint {path.name} is damaged, renamed and passed over: {error}"
        if self.folder.is_dir() and any(self.folder.glob("step-*.damaged")):
            raise DamagedCheckpoint(
                f"no checkpoint in {self.folder} is usable; move the folder away to start this run from the beginning"
            )

    def _delete_old(self) -> None:
        for path in self.newest()[KEPT:]:
            if int(path.name.removeprefix("step-")) % self.keep_every:
                shutil.rmtree(path)


def _groups(state: TrainState) -> dict[str, dict[str, Tensor]]:
    """The tensors of a checkpoint, by the file they go to."""
    groups = {"model": dict(state.objective.state_dict()), "optimizer": _optimizer_tensors(state)}
    if state.average is not None:
        groups["average"] = dict(state.average.state_dict())
    return groups


def _optimizer_tensors(state: TrainState) -> dict[str, Tensor]:
    return {
        f"{name}.{slot}": value
        for name, parameter in _trained(state)
        for slot, value in state.optimizer.state.get(parameter, {}).items()
    }


def _trained(state: TrainState) -> list[tuple[str, nn.Parameter]]:
    optimized = {id(parameter) for group in state.optimizer.param_groups for parameter in group["params"]}
    return [(name, p) for name, p in state.objective.named_parameters() if id(p) in optimized]


def _write(part: Path, state: TrainState) -> None:
    tensors: dict[str, Any] = {}
    for group, values in _groups(state).items():
        file = f"{group}-00000.safetensors"
        files.write_tensors(part / file, values)
        for name, value in values.items():
            piece = {"file": file, "offset": [0] * value.ndim, "shape": list(value.shape)}
            tensors[f"{group}.{name}"] = {"shape": list(value.shape), "dtype": str(value.dtype), "pieces": [piece]}
    numbers = {"step": state.step, "skipped": state.skipped, "seconds": state.seconds}
    files.write_json(part / "state.json", {"format": FORMAT, **numbers})
    listed = {p.name: {"size": p.stat().st_size, "xxh3": files.xxh3(p)} for p in sorted(part.iterdir())}
    files.write_json(part / "manifest.json", {"format": FORMAT, "files": listed, "tensors": tensors})


def _read(path: Path, state: TrainState) -> None:
    """Check a checkpoint against its manifest and the run, then load it; the state is touched only when all is good."""
    manifest = _checked_manifest(path)
    try:
        groups = _tensors(path, manifest)
        numbers = files.read_json(path / "state.json")
        step, skipped, seconds = int(numbers["step"]), int(numbers["skipped"]), float(numbers["seconds"])
    except (OSError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise DamagedCheckpoint(f"the manifest and the files disagree ({error!r})") from error
    if path.name != f"step-{step:08d}":
        raise DamagedCheckpoint(f"it holds step {step}")
    _require_fit(groups, state)
    state.objective.load_state_dict(groups["model"])
    if state.average is not None:
        state.average.load_state_dict(groups["average"])
    _load_optimizer(state, groups["optimizer"])
    state.step, state.skipped, state.seconds = step, skipped, seconds


def _tensors(path: Path, manifest: dict[str, Any]) -> dict[str, dict[str, Tensor]]:
    """The tensors the manifest names, by group, each of the shape and type it says."""
    pieces = {name: _load(path / name) for name in manifest["files"] if name.endswith(".safetensors")}
    groups: dict[str, dict[str, Tensor]] = {"model": {}, "optimizer": {}, "average": {}}
    for name, entry in manifest["tensors"].items():
        group, _, tensor = name.partition(".")
        value = pieces[entry["pieces"][0]["file"]][tensor]
        if list(value.shape) != entry["shape"] or str(value.dtype) != entry["dtype"]:
            raise DamagedCheckpoint(f"{name} is {value.dtype} {list(value.shape)}, not what the manifest says")
        groups[group][tensor] = value
    return groups


def _require_fit(groups: dict[str, dict[str, Tensor]], state: TrainState) -> None:
    """The tensors are those of this run's network, average and trained parameters."""
    average = {} if state.average is None else state.average.state_dict()
    for group, expected in (("model", state.objective.state_dict()), ("average", average)):
        other = sorted(groups[group].keys() ^ expected.keys())
        other += [
            name for name in groups[group] if name not in other and groups[group][name].shape != expected[name].shape
        ]
        if other:
            raise DamagedCheckpoint(f"its {group} has other tensors than this run: {', '.join(other[:3])}")
    trained = dict(_trained(state))
    for name, value in groups["optimizer"].items():
        parameter = trained.get(name.rpartition(".")[0])
        if parameter is None or value.shape not in (parameter.shape, ()):
            raise DamagedCheckpoint(f"its optimizer has other tensors than this run: {name}")


def _checked_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = files.read_json(path / "manifest.json")
        if manifest["format"] != FORMAT:
            raise ValueError(f"{path} is of format {manifest['format']}; this release reads format {FORMAT}")
        for name, entry in manifest["files"].items():
            if Path(name).name != name:
                raise DamagedCheckpoint(f"{name!r} does not lie in the folder")
            file = path / name
            if file.stat().st_size != entry["size"]:
                raise DamagedCheckpoint(f"{name} has {file.stat().st_size} bytes instead of {entry['size']}")
            if files.xxh3(file) != entry["xxh3"]:
                raise DamagedCheckpoint(f"{name} does not match its checksum")
    except OSError as error:
        raise DamagedCheckpoint(f"the manifest or a file it lists cannot be read: {error}") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise DamagedCheckpoint(f"the manifest is none ({error!r})") from error
    except ValueError as error:
        raise DamagedCheckpoint(str(error)) from error
    return manifest


def _load(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise DamagedCheckpoint(f"{path.name}: {error}") from error


def _load_optimizer(state: TrainState, tensors: dict[str, Tensor]) -> None:
    for name, parameter in _trained(state):
        slots = {key.rpartition(".")[2]: value for key, value in tensors.items() if key.rpartition(".")[0] == name}
        if slots:
            state.optimizer.state[parameter] = {slot: value.to(parameter.device) for slot, value in slots.items()}
