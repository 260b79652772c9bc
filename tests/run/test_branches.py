"""Branches against runs from scratch: the same bits, wherever the trunk was when they left it."""

from __future__ import annotations

import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.small_runs import BATCH, RUNS, SendSignal, assert_same_bits, mae_run
from underpaint.run import Run, execute
from underpaint.run.branches import shared_steps
from underpaint.training.log import read_log
from underpaint.training.schedule import ScheduleConfig
from underpaint.training.signals import Interrupted

WSD = ScheduleConfig(kind="wsd", cooldown=0.25)
SHORT, LONG = 8, 16
"""Steps; the short run decays after 6."""


def wsd(run: Run, *, steps: int) -> Run:
    return replace(run, schedule=WSD, budget=replace(run.budget, samples=steps * BATCH))


def trunk_of(run: Run) -> Run:
    """The long run; it is saved where the short one decays, and not much earlier or later."""
    run = wsd(run, steps=LONG)
    cadence = replace(run.cadence, save=10_000, save_at=(6 * BATCH,))
    return replace(run, name="trunk", cadence=cadence)


@pytest.fixture(scope="module")
def trunks(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("trunks")
    for name in FAST:
        execute(trunk_of(RUNS[name](images)), root / name)
    return root


FAST = ("mae", "wsp")


@pytest.mark.parametrize(
    "stage", [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in RUNS if name not in FAST)]
)
def test_a_branch_has_the_bits_of_a_run_from_scratch(
    images: Path, trunks: Path, tmp_path: Path, stage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Weights, moments, averages, BatchNorm's statistics, every line of the log and every number of the result."""
    if stage not in FAST:
        execute(trunk_of(RUNS[stage](images)), trunks / stage)
    run = wsd(RUNS[stage](images), steps=SHORT)
    execute(run, tmp_path / "fresh")
    capsys.readouterr()
    execute(replace(run, branch_from=str(trunks / stage)), tmp_path / "branch")
    assert f"branches from {trunks / stage} at step 6" in capsys.readouterr().err
    assert_same_bits(tmp_path / "branch", tmp_path / "fresh")
    peak = run.optim.peak_lr(BATCH)
    rates = {line["step"]: line["lr"] for line in read_log(tmp_path / "branch" / "log.jsonl") if "lr" in line}
    assert rates == pytest.approx({1: 0.0, **dict.fromkeys(range(2, 8), peak), 8: peak / 2})


def test_a_trunk_keeps_the_checkpoints_of_its_branches(trunks: Path) -> None:
    kept = sorted(path.name for path in (trunks / "mae" / "checkpoints").iterdir())
    assert kept == [f"step-{step:08d}" for step in (6, LONG)]


@pytest.mark.slow
def test_a_branch_that_was_interrupted_goes_on_without_its_trunk(images: Path, trunks: Path, tmp_path: Path) -> None:
    run = wsd(mae_run(images), steps=SHORT)
    execute(run, tmp_path / "fresh")
    trunk = Path(shutil.copytree(trunks / "mae", tmp_path / "trunk"))
    cadence = replace(run.cadence, evaluate=7 * BATCH)
    stopped = replace(run, branch_from=str(trunk), cadence=cadence, evals=(SendSignal(number=signal.SIGTERM),))
    with pytest.raises(Interrupted, match="stopped at step 7"):
        execute(stopped, tmp_path / "branch")
    shutil.rmtree(trunk)
    execute(replace(run, branch_from=str(trunk)), tmp_path / "branch")
    mine = [line["loss"] for line in read_log(tmp_path / "branch" / "log.jsonl") if "loss" in line]
    assert mine == [line["loss"] for line in read_log(tmp_path / "fresh" / "log.jsonl") if "loss" in line]


def changed(run: Run, name: str) -> Run:
    changes: dict[str, Any] = {
        "seed": {"seed": 1},
        "optim.base_lr": {"optim": replace(run.optim, base_lr=1.0)},
        "data.scale": {"data": replace(run.data, scale=(0.5, 1.0))},
        "threads": {"threads": 2},
        "microbatch": {"budget": replace(run.budget, microbatch=BATCH)},
    }
    return replace(run, **changes[name])


@pytest.mark.parametrize("name", ["seed", "optim.base_lr", "data.scale", "threads", "microbatch"])
def test_a_trunk_of_another_run_is_refused(images: Path, trunks: Path, tmp_path: Path, name: str) -> None:
    run = changed(wsd(mae_run(images), steps=SHORT), name)
    with pytest.raises(ValueError, match=rf"branch_from=.*mae is another run \({name}: there .*, here .*\); a branch"):
        execute(replace(run, branch_from=str(trunks / "mae")), tmp_path / "branch")
    assert not (tmp_path / "branch" / "run.json").exists(), "the folder can be used again"


def test_a_run_whose_rates_part_too_early_is_refused(images: Path, trunks: Path, tmp_path: Path) -> None:
    """A cosine never has the rates of a longer one, and a run of four steps decays before the trunk was saved."""
    run = wsd(mae_run(images), steps=4)
    with pytest.raises(ValueError, match=r"has no checkpoint of its first 64 samples, .* cadence\.save_at=64"):
        execute(replace(run, branch_from=str(trunks / "mae")), tmp_path / "short")
    cosine = replace(run, schedule=ScheduleConfig())
    with pytest.raises(ValueError, match=r"has no checkpoint of its first 32 samples"):
        execute(replace(cosine, branch_from=str(trunks / "mae")), tmp_path / "cosine")


def test_folders_without_a_run_are_refused(images: Path, tmp_path: Path) -> None:
    run = wsd(mae_run(images), steps=SHORT)
    with pytest.raises(ValueError, match=r"branch_from=.*nothing holds no run \(run\.json is missing\)"):
        execute(replace(run, branch_from=str(tmp_path / "nothing")), tmp_path / "branch")


@pytest.mark.parametrize("cooldown", [0.1, 0.2, 0.3, 0.7])
@pytest.mark.parametrize("steps", [10, 37, 100])
def test_rates_are_shared_up_to_the_first_that_falls(images: Path, cooldown: float, steps: int) -> None:
    """Against the definition: steps that start before or at the beginning of the decay, counted one by one."""
    schedule = ScheduleConfig(kind="wsd", cooldown=cooldown)
    short, long = (replace(wsd(mae_run(images), steps=n), schedule=schedule) for n in (steps, 200))
    begin = round((1 - cooldown) * steps * BATCH, 6)
    expected = sum(step * BATCH <= begin for step in range(steps))
    assert abs(shared_steps(long.lr_schedule(), short) - expected) <= 1, "a rounding error of the rate at the border"
    assert shared_steps(long.lr_schedule(), short) * BATCH >= begin // BATCH * BATCH
