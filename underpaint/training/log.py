"""The record of a run: ``log.jsonl`` (the source of truth) and TensorBoard beside it."""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from underpaint.messages import say


class RunLog:
    """Appends one JSON object per logged step; a resumed run first drops the lines after its checkpoint."""

    def __init__(self, folder: Path, *, step: int) -> None:
        self.path = folder / "log.jsonl"
        self._truncate(step)
        self._board_folder, self._step = folder / "tensorboard", step
        self.full_disk = False

    @cached_property
    def board(self) -> Any:
        """TensorBoard's writer, begun with the first line, since its import would delay the first step."""
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(self._board_folder), purge_step=self._step + 1)

    def _truncate(self, step: int) -> None:
        kept = [line for line in read_log(self.path) if line["step"] <= step]
        part = self.path.with_name("log.jsonl.part")
        part.write_text("".join(json.dumps(line) + "\n" for line in kept))
        os.replace(part, self.path)

    def write(self, step: int, samples: int, values: Mapping[str, object]) -> None:
        """Append a line; a disk that takes no more is reported once and does not end the run."""
        plain = {name: _plain(value) for name, value in values.items()}
        try:
            _append(self.path, json.dumps({"step": step, "samples": samples, **plain}).encode() + b"\n")
            for name, value in numbers_of(plain):
                self.board.add_scalar(name, value, step)
        except OSError as error:
            if not self.full_disk:
                say(f"ALARM: {self.path} takes no more lines ({error}); the run goes on, its curves will have a gap")
            self.full_disk = True

    def close(self) -> None:
        if "board" not in vars(self):
            return
        try:
            self.board.close()
        except OSError as error:
            say(f"ALARM: TensorBoard's file could not be closed ({error})")


def _append(path: Path, line: bytes) -> None:
    """Add the whole line or, on a full disk, nothing of it: half a line would hide all that come after it."""
    with path.open("ab", buffering=0) as file:
        end = file.tell()
        try:
            if file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            file.truncate(end)
            raise


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a log; a last line cut off by a crash is left out, as is what stands behind a damaged one."""
    if not path.is_file():
        return []
    lines: list[dict[str, Any]] = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            break
        if not isinstance(line, dict) or not isinstance(line.get("step"), int):
            break
        lines.append(line)
    return lines


def logged_curve(lines: Iterable[Mapping[str, Any]]) -> list[tuple[int, float]]:
    """Samples and loss of the lines of training steps; steps whose loss was not finite are left out."""
    return [(line["samples"], line["loss"]) for line in lines if line.get("loss") is not None]


def _plain(value: object) -> object:
    """Tensors become numbers; a value that is not finite becomes null, since JSON has no NaN."""
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, Tensor):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def numbers_of(values: Mapping[str, object], prefix: str = "") -> list[tuple[str, float]]:
    """The numbers of a line with their names, which have ``/`` between the parts of a nested one."""
    leaves: list[tuple[str, float]] = []
    for name, value in values.items():
        if isinstance(value, dict):
            leaves += numbers_of(value, f"{prefix}{name}/")
        elif isinstance(value, (int, float)):
            leaves.append((prefix + name, value))
    return leaves
