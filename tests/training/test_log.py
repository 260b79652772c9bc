"""The log of a run: one JSON object a line, whatever happens to the process, the numbers or the disk."""

from __future__ import annotations

import errno
import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from underpaint.training.log import RunLog, read_log


def write(folder: Path, steps: range, *, start: int = 0) -> None:
    log = RunLog(folder, step=start)
    for step in steps:
        log.write(step, 10 * step, {"loss": torch.tensor(1.0 / step), "lr": 0.5})
        if step % 2 == 0:
            log.write(step, 10 * step, {"eval": {"heldout_loss": 2.0 / step}})
    log.close()


def test_lines_are_json_with_numbers(tmp_path: Path) -> None:
    write(tmp_path, range(1, 4))
    lines = [json.loads(text) for text in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 2, 3]
    assert lines[0] == {"step": 1, "samples": 10, "loss": 1.0, "lr": 0.5}
    assert lines[2] == {"step": 2, "samples": 20, "eval": {"heldout_loss": 1.0}}
    assert read_log(tmp_path / "log.jsonl") == lines


def test_no_log_has_no_lines(tmp_path: Path) -> None:
    assert read_log(tmp_path / "log.jsonl") == []


def test_what_is_not_finite_is_null(tmp_path: Path) -> None:
    log = RunLog(tmp_path, step=0)
    log.write(1, 10, {"loss": torch.tensor(math.nan), "grad_norm": math.inf, "eval": {"x": -math.inf, "y": 1.0}})
    log.close()
    (text,) = (tmp_path / "log.jsonl").read_text().splitlines()
    line = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert line == {"step": 1, "samples": 10, "loss": None, "grad_norm": None, "eval": {"x": None, "y": 1.0}}


def test_a_resumed_run_drops_what_came_after_its_checkpoint(tmp_path: Path) -> None:
    write(tmp_path, range(1, 7))
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 7, "sam')  # killed in the middle of a line
    write(tmp_path, range(5, 8), start=4)
    once = tmp_path / "once"
    once.mkdir()
    write(once, range(1, 8))
    assert (tmp_path / "log.jsonl").read_text() == (once / "log.jsonl").read_text()
    assert not list(tmp_path.glob("*.part"))


def test_tensorboard_has_the_same_numbers(tmp_path: Path) -> None:
    write(tmp_path, range(1, 7))
    write(tmp_path, range(5, 8), start=4)
    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    assert {event.step: event.value for event in board.Scalars("loss")} == pytest.approx(
        {step: 1 / step for step in range(1, 8)}
    )
    assert {event.step for event in board.Scalars("eval/heldout_loss")} == {2, 4, 6}


def test_a_full_disk_is_said_once_and_leaves_no_half_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = RunLog(tmp_path, step=0)
    log.write(1, 10, {"loss": 1.0})
    opened = Path.open

    class Full:
        """A file on a disk with three bytes left."""

        def __init__(self, file: Any) -> None:
            self.file = file

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

        def write(self, content: bytes) -> int:
            return self.file.write(content[:3])

    def full_open(path: Path, *arguments: Any, **named: Any) -> Any:
        return Full(opened(path, *arguments, **named))

    monkeypatch.setattr(Path, "open", full_open)
    log.write(2, 20, {"loss": 1.0})
    log.write(3, 30, {"loss": 1.0})
    monkeypatch.undo()
    log.write(4, 40, {"loss": 1.0})
    log.close()
    assert [line["step"] for line in read_log(tmp_path / "log.jsonl")] == [1, 4]
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 2
    alarms = [line for line in capsys.readouterr().err.splitlines() if "ALARM" in line]
    assert len(alarms) == 1
    assert os.strerror(errno.ENOSPC) in alarms[0]
