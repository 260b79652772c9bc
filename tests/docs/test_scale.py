"""docs/scale.md: commands under ``# rehearsal`` are run as they stand, those under ``# dry-run`` are parsed."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from torch.distributed.run import get_args_parser

from support.small_runs import make_images
from underpaint import config, recipes
from underpaint.cli.main import main
from underpaint.cli.parser import parser
from underpaint.training.ranks import Ranks

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```sh\n# ([\w-]+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]


def commands(kind: str) -> list[list[str]]:
    text = (ROOT / "docs" / "scale.md").read_text()
    return [shlex.split(line) for found, code in BLOCK.findall(text) for line in code.splitlines() if found == kind]


def test_every_command_is_of_one_kind() -> None:
    shown = re.findall(r"^```sh\n(.*?)^```", (ROOT / "docs" / "scale.md").read_text(), re.MULTILINE | re.DOTALL)
    lines = [line for block in shown for line in block.splitlines() if line and not line.startswith("#")]
    own = [line for line in lines if shlex.split(line) in commands("rehearsal") + commands("dry-run")]
    assert len(own) >= 12
    assert {line for line in lines if line.startswith(("torchrun", "sbatch"))} <= set(own)


@pytest.mark.parametrize("words", commands("dry-run"), ids=" ".join)
def test_a_dry_run_is_parsed(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    if words[0] == "sbatch":  # tests/docs/test_parallel_examples.py reads it
        assert (ROOT / words[1]).is_file()
        return
    world, arguments = 1, words[1:]
    if words[0] == "torchrun":
        launched = get_args_parser().parse_args(arguments)
        assert (launched.module, launched.training_script) == (True, "underpaint")
        world, arguments = int(launched.nproc_per_node), [*launched.training_script_args, "--plan"]
    options = parser().parse_args(arguments)
    if options.verb == "plan":
        assert main(arguments) == 2, "it is shown as one that is refused"
        assert "does not fit" in capsys.readouterr().err
        return
    assert options.plan
    assert main(arguments) == 0
    printed = json.loads(capsys.readouterr().out)
    run = config.override(recipes.find_recipe(options.recipe)(), options.overrides)
    assert printed["run"] == json.loads(json.dumps(config.record(run)))
    assert printed["derived"]["steps"] == run.budget.steps
    run.parallel.require(Ranks(world=world))
    assert run.budget.accumulation(world)


def test_the_table_is_what_the_plan_says(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "scale.md").read_text()
    for words in commands("rehearsal")[:2]:
        arguments = [*words[1:-1], str(tmp_path / words[-1])]
        assert main(arguments) == 0
        plan = json.loads((tmp_path / words[-1]).read_text())
        days, hours = plan["seconds"] / 86_400, round(plan["gpu_hours"])
        step = max(plan["step_seconds"]["computing"], plan["step_seconds"]["exchanging"])
        peak = plan["memory_bytes"]["peak"] / 2**30
        stage = plan["recipe"].partition("_")[0].upper()
        (row,) = re.findall(rf"^\| {stage}, 5 billion.*$", text, re.MULTILINE)
        for shown in (f"{plan['layout']}, no rec", f"| {plan['microbatch']} |", f"{peak:.1f} of", f"{days:.1f} days"):
            assert shown in row
        assert f"{hours:,}" in row
        assert f"{step + plan['step_seconds']['update']:.2f} s" in row
        assert not plan["checkpointing"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_rehearsal_works_as_written(tmp_path: Path) -> None:
    make_images(tmp_path / "images", 240)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    said: dict[str, str] = {}
    for words in commands("rehearsal"):
        program = TORCHRUN if words[0] == "torchrun" else [sys.executable, "-m", "underpaint"]
        command = [*program, *words[1:]]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, f"{' '.join(words)}\n{done.stderr[-3000:]}"
        said[shlex.join(words)] = done.stderr
        if words[-1] == "runs/moved" and words[0] == "torchrun":  # as if it had been stopped before its end
            folder = tmp_path / "runs" / "moved"
            (folder / "result.json").unlink()
            steps = sorted((folder / "checkpoints").iterdir())
            for path in steps[-1].iterdir():
                path.unlink()
            steps[-1].rmdir()
    (moved,) = [err for line, err in said.items() if line.startswith("underpaint train mae_smoke")]
    assert "continues from step" in moved
    assert (tmp_path / "exported").is_dir()
    for name, ranks in (("rehearsal", 2), ("rehearsal_wsp", 2), ("moved", 1)):
        run = json.loads((tmp_path / "runs" / name / "run.json").read_text())
        assert run["derived"]["ranks"] == ranks
        assert (tmp_path / "runs" / name / "encoder" / "model.safetensors").is_file()
    assert (tmp_path / "runs" / "rehearsal" / "report.html").is_file()
