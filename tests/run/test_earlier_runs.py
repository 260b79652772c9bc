"""Earlier runs of a recipe: which folders count, and that a run's remark reaches its log, result and report."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from support.small_runs import mae_run
from underpaint.files import read_json, write_json
from underpaint.report import write_report
from underpaint.results.run import read_log
from underpaint.run import execute
from underpaint.run.earlier_runs import earlier_curves


@pytest.fixture
def beside(images: Path, finished_mae: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes a run folder that says to have trained the recipe of ``finished_mae``, with its losses times a factor."""

    def write(name: str, *, factor: float = 1.0, change: Callable[[dict], None] = lambda record: None) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        record = read_json(finished_mae / "run.json")
        change(record)
        write_json(folder / "run.json", record)
        write_json(folder / "result.json", read_json(finished_mae / "result.json"))
        lines = [dict(line) for line in read_log(finished_mae)]
        for line in lines:
            if "loss" in line:
                line["loss"] = line["loss"] * factor
        (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return folder

    return write


def differs(**values: object) -> Callable[[dict], None]:
    def change(record: dict) -> None:
        record["run"] |= values
        record["identity"]["run"] |= values

    return change


def test_runs_that_differ_in_seed_and_optimizer_only_are_of_one_recipe(beside: Callable[..., Path]) -> None:
    folder = beside("new")
    beside("seed", change=differs(seed=77))
    beside("rate", change=differs(optim={"base_lr": 1}))
    beside("named", change=differs(name="another"))
    beside("precision", change=differs(precision="bf16"))
    beside("started", change=lambda record: record["run"].update(init_from="runs/mae"))
    beside("elsewhere", change=lambda record: record["run"]["data"].update(source="./others"))
    (beside("unfinished") / "result.json").unlink()
    write_json(
        (remarkable := beside("remarkable")) / "result.json", read_json(remarkable / "result.json") | {"remarks": ["x"]}
    )
    (beside("damaged") / "run.json").write_text("{")
    (beside("torn") / "log.jsonl").write_text("{}\n{}\n")
    curves = earlier_curves(folder)
    assert sorted(len(curve) for curve in curves) == [0, *[len(curve) for curve in curves if curve]]
    assert sum(map(bool, curves)) == 2


def test_the_seeds_of_a_study_are_of_one_recipe(beside: Callable[..., Path]) -> None:
    def part(arm: str, seed: int, start: str) -> Callable[[dict], None]:
        def change(record: dict) -> None:
            record["run"] |= {"name": f"{arm}-seed{seed}", "init_from": f"runs/{start}-seed{seed}"}
            record["identity"]["run"]["name"] = f"{arm}-seed{seed}"

        return change

    folder = beside("wsp-seed0", change=part("wsp", 0, "mae"))
    beside("wsp-seed1", change=part("wsp", 1, "mae"))
    beside("wsp-seed2", change=part("wsp", 2, "long_mae"))
    beside("other-seed1", change=part("other", 1, "mae"))
    assert len(earlier_curves(folder)) == 1


@pytest.mark.parametrize(("factor", "alarmed"), [(1.0, False), (3.0, True)])
def test_a_run_is_compared_and_its_remark_recorded(
    beside: Callable[..., Path],
    images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    factor: float,
    alarmed: bool,
) -> None:
    for number in range(3):
        beside(f"earlier{number}", factor=factor)
    run = mae_run(images)
    run = replace(run, cadence=replace(run.cadence, log=run.budget.batch_size))
    result = execute(run, tmp_path / "new")
    remarks = result.get("remarks", [])
    assert bool(remarks) == alarmed
    assert [line["remark"] for line in read_log(tmp_path / "new") if "remark" in line] == remarks
    assert ("ALARM: " in capsys.readouterr().err) == alarmed
    write_report(tmp_path / "new")
    assert ("Unexpected curve" in (tmp_path / "new" / "report.html").read_text()) == alarmed
