"""Curves in trackers: what a tracker has afterwards, against the log of the run; the packages themselves where they are
installed."""

from __future__ import annotations

import importlib.util
import json
import signal
import struct
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from support.small_runs import SendSignal, mae_run
from underpaint.run import execute
from underpaint.training import log_follower, monitor
from underpaint.training.log import RunLog
from underpaint.training.log_follower import LogFollower
from underpaint.training.signals import Interrupted
from underpaint.training.trackers import TrackedLine, TrackedRun, require_trackers


class Fake:
    """A server that keeps what it is sent, by run; it refuses as many calls as it is told to."""

    def __init__(self) -> None:
        self.runs: dict[str, list[TrackedLine]] = {}
        self.opened: list[str] = []
        self.ends: list[bool] = []
        self.failures = 0
        self.stuck: threading.Event | None = None
        self.refused = threading.Event()
        self.run = ""

    def open(self, run: TrackedRun, kept_id: str) -> str:
        self._answer()
        self.run = kept_id or f"run{len(self.runs)}"
        self.opened.append(self.run)
        self.runs.setdefault(self.run, [])
        return self.run

    def send(self, lines: Sequence[TrackedLine]) -> None:
        self._answer()
        self.runs[self.run] += lines

    def close(self, *, finished: bool) -> None:
        self._answer()
        self.ends.append(finished)

    def _answer(self) -> None:
        if self.stuck is not None:
            self.stuck.wait(30)
        if self.failures:
            self.failures -= 1
            self.refused.set()
            raise ConnectionError("server is down")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_follower, "BETWEEN_SENDS", 0.001)
    monkeypatch.setattr(log_follower, "FIRST_PAUSE", 0.001)


def follow(folder: Path, server: Fake, steps: range, *, start: int = 0, finished: bool = True) -> None:
    log = RunLog(folder, step=start)
    follower = LogFollower("mlflow", server, TrackedRun(name="test", folder=folder, fields={"seed": 0}))
    for step in steps:
        log.write(step, 10 * step, {"loss": torch.tensor(1.0 / step), "clock": {"data": 0.5}, "bad": float("nan")})
        follower.wake()
        if step % 2 == 0:
            log.write(step, 10 * step, {"eval": {"heldout_loss": 2.0 / step}})
            follower.wake()
    log.close()
    follower.close(finished=finished)


def expected(steps: range) -> list[tuple[int, dict[str, float]]]:
    rows: list[tuple[int, dict[str, float]]] = []
    for step in steps:
        rows.append((step, {"samples": 10 * step, "loss": pytest.approx(1 / step), "clock/data": 0.5}))
        if step % 2 == 0:
            rows.append((step, {"eval/heldout_loss": 2 / step}))
    return rows


def rows_of(server: Fake, run: str = "run0") -> list[tuple[int, dict[str, float]]]:
    return [(line.step, line.values) for line in server.runs[run]]


def test_a_tracker_has_every_number_once(tmp_path: Path) -> None:
    server = Fake()
    follow(tmp_path, server, range(1, 8))
    assert rows_of(server) == expected(range(1, 8))
    assert server.ends == [True]
    kept = json.loads((tmp_path / "trackers" / "mlflow.json").read_text())
    assert kept == {"format": 1, "run": "run0", "step": 7, "lines": 1}


def test_a_resumed_run_goes_on_in_the_same_run_and_repeats_no_step(tmp_path: Path) -> None:
    """Steps 5 and 6 come again after the checkpoint of step 4; the log has them once, and so has the tracker."""
    server = Fake()
    follow(tmp_path, server, range(1, 7), finished=False)
    follow(tmp_path, server, range(5, 10), start=4)
    assert rows_of(server) == expected(range(1, 10))
    assert (server.opened, server.ends) == (["run0", "run0"], [False, True])


def test_a_tracker_asked_for_later_has_the_steps_before(tmp_path: Path) -> None:
    log = RunLog(tmp_path, step=0)
    log.write(1, 10, {"loss": 1.0})
    log.close()
    server = Fake()
    follow(tmp_path, server, range(2, 4), start=1)
    assert [step for step, _ in rows_of(server)] == [1, 2, 2, 3]


def test_a_server_that_is_down_is_said_once_and_misses_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = Fake()
    server.failures = 5
    log = RunLog(tmp_path, step=0)
    follower = LogFollower("mlflow", server, TrackedRun(name="test", folder=tmp_path, fields={}))
    assert server.refused.wait(30)
    for step in range(1, 200):
        log.write(step, 10 * step, {"loss": 1.0})
        follower.wake()
    while server.failures:
        follower.ending.wait(0.001)
    follower.close(finished=True)
    assert [line.step for line in server.runs["run0"]] == [*range(1, 200)]
    warnings = [line for line in capsys.readouterr().err.splitlines() if "WARNING" in line]
    assert len(warnings) == 1
    assert "mlflow takes no lines (ConnectionError: server is down); the run goes on" in warnings[0]


def test_a_server_that_never_answers_does_not_keep_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(log_follower, "LAST_WAIT", 0.05)
    server = Fake()
    server.stuck = threading.Event()
    follow(tmp_path, server, range(1, 4))
    assert "mlflow has not taken the last lines" in capsys.readouterr().err
    server.stuck.set()


def test_a_damaged_file_of_the_tracker_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "trackers").mkdir()
    (tmp_path / "trackers" / "mlflow.json").write_text('{"run": 3}')
    follow(tmp_path, Fake(), range(1, 3))
    assert "mlflow.json is damaged; delete it" in capsys.readouterr().err


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"log_to=wandb needs the package wandb: pip install 'underpaint\[wandb\]'"):
        require_trackers(["wandb"])


def test_a_run_is_tracked_through_a_signal(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Fake()
    monkeypatch.setattr(monitor, "tracker_of", lambda name: server)
    monkeypatch.setattr(sys.modules["underpaint.run.execute"], "require_trackers", lambda names: None)
    interrupted_and_continued(images, tmp_path / "run", "mlflow")
    assert rows_of(server) == list(logged(tmp_path / "run"))
    assert (server.opened, server.ends) == (["run0", "run0"], [False, True])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_mlflow_has_the_numbers_of_the_log(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setattr(log_follower, "LAST_WAIT", 200)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    interrupted_and_continued(images, tmp_path / "run", "mlflow")
    client = mlflow.MlflowClient()
    run = client.get_run(json.loads((tmp_path / "run/trackers/mlflow.json").read_text())["run"])
    assert (run.info.status, run.data.params["optim.base_lr"]) == ("FINISHED", "0.02")
    found = {
        (metric.step, name): metric.value
        for name in run.data.metrics
        for metric in client.get_metric_history(run.info.run_id, name)
    }
    assert found == {(step, name): value for step, row in logged(tmp_path / "run") for name, value in row.items()}
    assert sum(len(client.get_metric_history(run.info.run_id, name)) for name in run.data.metrics) == len(found)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_wandb_has_the_numbers_of_the_log(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Offline, read with wandb's own messages; the file around them is LevelDB's log."""
    pytest.importorskip("wandb")
    from wandb.proto import wandb_internal_pb2

    monkeypatch.setattr(log_follower, "LAST_WAIT", 200)
    monkeypatch.setenv("WANDB_MODE", "offline")
    interrupted_and_continued(images, tmp_path / "run", "wandb")
    rows: list[tuple[int, str, float]] = []
    for file in (tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb"):
        for body in records(file.read_bytes()):
            record: Any = wandb_internal_pb2.Record()
            record.ParseFromString(body)
            named = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
            rows += [
                (int(named["_step"]), name, float(json.loads(value))) for name, value in named.items() if name[0] != "_"
            ]
    expected = [(step, name, value) for step, row in logged(tmp_path / "run") for name, value in row.items()]
    assert sorted(rows) == sorted(expected)


def interrupted_and_continued(images: Path, folder: Path, name: Any) -> None:
    run = replace(mae_run(images), log_to=(name,))
    with pytest.raises(Interrupted):
        execute(replace(run, evals=(SendSignal(number=signal.SIGTERM),)), folder)
    execute(run, folder)


def logged(folder: Path) -> Iterator[tuple[int, dict[str, float]]]:
    """The numbers of the run's log by step, flattened apart from the package."""
    seen = set[int]()
    for line in map(json.loads, (folder / "log.jsonl").read_text().splitlines()):
        step = line.pop("step")
        if step in seen:
            del line["samples"]
        seen.add(step)
        row = {key: value for key, value in line.items() if isinstance(value, (int, float))}
        groups = {key: value for key, value in line.items() if isinstance(value, dict)}
        yield step, row | {f"{group}/{key}": value for group, inner in groups.items() for key, value in inner.items()}


def records(data: bytes) -> Iterator[bytes]:
    """The records of a LevelDB log after seven bytes of wandb's own: checksum, length, type, content."""
    position, parts = 7, b""
    while position + 7 <= len(data):
        if (left := 32_768 - position % 32_768) < 7:
            position += left
            continue
        length, kind = struct.unpack("<HB", data[position + 4 : position + 7])
        parts += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):
            yield parts
            parts = b""
