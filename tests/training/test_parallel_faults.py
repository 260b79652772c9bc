"""What clusters do to several processes: bad numbers, signals, slow and hanging ranks; all ranks act as one."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from support.ranks import Case, checkpoint, finish, run_cases, start
from support.small_runs import BATCH
from underpaint.training.health import stragglers
from underpaint.training.log import read_log

STEPS = 20
POISONED = 70
"""A position in the fifth step; with two ranks it belongs to the first, with the other half of the batch sound."""


def lines(folder: Path) -> list[dict[str, Any]]:
    return [line for line in read_log(folder / "log.jsonl") if "loss" in line]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_bad_number_on_one_rank_is_skipped_on_all(images: Path, tmp_path: Path) -> None:
    """Weights, average and BatchNorm's statistics; the other steps are those of one process with the same poison."""
    kinds = {
        "ddp": Case(out="", stage="wsp", poison=POISONED, overrides=("parallel.layout=ddp", "cadence.save=16")),
        "fsdp": Case(out="", stage="wsp", poison=POISONED, overrides=("parallel.layout=fsdp", "cadence.save=16")),
        "linear": Case(out="", stage="linear", poison=POISONED, overrides=("parallel.layout=ddp", "cadence.save=16")),
    }
    run_cases(1, images, [replace(kinds["ddp"], out=str(tmp_path / "one"))])
    run_cases(2, images, [replace(case, out=str(tmp_path / name)) for name, case in kinds.items()])
    for name in kinds:
        logged = lines(tmp_path / name)
        assert [line["step"] for line in logged if line["loss"] is None] == [5], name
        assert logged[4]["skipped_window"] == [4 * BATCH, 5 * BATCH]
        saved: dict[str, Tensor] = checkpoint(tmp_path / name, STEPS)
        assert all(value.isfinite().all() for value in saved.values() if value.is_floating_point())
        before, after = (checkpoint(tmp_path / name, step) for step in (4, 5))
        assert all(torch.equal(value, after[key]) for key, value in before.items())
        state = json.loads((tmp_path / name / "checkpoints" / "step-00000020" / "state.json").read_text())
        assert state["skipped_windows"] == [[4 * BATCH, 5 * BATCH]]
    for name in ("ddp", "fsdp"):
        for mine, alone in zip(lines(tmp_path / name), lines(tmp_path / "one"), strict=True):
            if alone["loss"] is not None:
                assert mine["loss"] == pytest.approx(alone["loss"], rel=1e-6)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_one_rank_saves_and_ends_all(images: Path, tmp_path: Path, number: int) -> None:
    folder = tmp_path / "run"
    case = Case(out=str(folder), overrides=("parallel.layout=fsdp", "cadence.save=100_000"), signal=number)
    command = "import sys; from underpaint.__main__ import main; sys.exit(main(sys.argv[1:]))"
    processes = start(
        2,
        ["-c", command, "train", "support.ranks:recipe", "--out", str(folder)],
        RANKS_CASE=json.dumps(vars(case)),
        RANKS_IMAGES=str(images),
    )
    for code, err in finish(processes):
        assert code == 75, err
        assert "stopped at step 10; the state is saved" in err
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["step-00000010"]
    assert not (folder / "result.json").exists()
    run_cases(2, images, [replace(case, signal=0), replace(case, signal=0, out=str(tmp_path / "whole"))])
    assert [line["loss"] for line in lines(folder)] == [line["loss"] for line in lines(tmp_path / "whole")]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_slow_rank_is_named_and_a_hanging_one_ends_with_its_stack(images: Path, tmp_path: Path) -> None:
    slow = Case(out=str(tmp_path / "slow"), steps=4, asleep=0.5)
    hanging = Case(out=str(tmp_path / "hanging"), asleep=10_000, overrides=("parallel.hang_seconds=8",))
    listed = json.dumps([vars(slow), vars(hanging)])
    script = Path(__file__).parents[1] / "support" / "ranks.py"
    results = finish(start(2, [str(script), str(images), listed]))
    warned = [line["slow"] for line in lines(tmp_path / "slow") if "slow" in line]
    assert warned
    assert all(len(names) == 1 and names[0].startswith("rank 1 took") and "for data" in names[0] for names in warned)
    assert "WARNING: rank 1 took" in results[0][1]
    assert [code for code, _ in results] != [0, 0]
    ended = [err for code, err in results if code == 1 and "Timeout (0:00:08)!" in err]
    assert ended, results
    assert any("_disturbed" in err or "loop.py" in err for err in ended), "the stack says where"


def test_stragglers_are_those_that_do_not_wait() -> None:
    def rank(data: float, forward: float = 1.0) -> dict[str, float]:
        return {"data": data, "forward": forward, "backward": 2.0, "optimizer": 0.1, "other": 0.1}

    assert stragglers([rank(0.1)] * 4, factor=3.0) == []
    assert stragglers([rank(0.001), rank(0.1)], factor=3.0) == [], "too little to matter"
    assert stragglers([rank(0.1), rank(2.5), rank(0.1), rank(0.2)], factor=3.0) == [
        "rank 1 took 2.5 s for data, the median rank 0.1 s"
    ]
    assert stragglers([rank(0.1), rank(0.1, forward=9.0)], factor=3.0) == [
        "rank 1 took 9.0 s for forward, the median rank 1.0 s"
    ]
    assert stragglers([rank(9.0)], factor=3.0) == [], "one process has nobody to be slower than"
