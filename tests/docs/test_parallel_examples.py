"""The example for a Slurm cluster: the shell reads it, torchrun and the command line take its arguments."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from torch.distributed.run import get_args_parser

from underpaint import config, recipes
from underpaint.cli.parser import parser
from underpaint.training.ranks import Ranks

SCRIPT = Path(__file__).parents[2] / "examples" / "slurm" / "train.sbatch"


def words() -> list[str]:
    """The command that the script starts, its variables filled in."""
    text = re.sub(r"\\\n", " ", SCRIPT.read_text())
    (line,) = [line for line in text.splitlines() if line.startswith("srun ")]
    line = re.sub(r'"\$\(.*?\):(\d+)"', r"node1:\1", line)
    for name, value in {"SLURM_JOB_NUM_NODES": "32", "GPUS_PER_NODE": "8", "RUN": "runs/x"}.items():
        line = line.replace(f'"${name}"', value)
    return shlex.split(line.removesuffix("&"))


def test_the_shell_reads_it() -> None:
    checked = subprocess.run(["bash", "-n", str(SCRIPT)], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_slurm_signals_the_shell_in_time_and_requeues() -> None:
    options = dict(re.findall(r"^#SBATCH --([\w-]+)(?:=(\S+))?$", SCRIPT.read_text(), re.MULTILINE))
    assert "requeue" in options
    assert options["open-mode"] == "append"
    kind, _, seconds = options["signal"].partition("@")
    assert kind == "B:USR1"
    launched = get_args_parser().parse_args(words()[words().index("torchrun") + 1 :])
    assert launched.shutdown_timeout < int(seconds), "the ranks must have saved before Slurm ends them"
    assert {"SIGTERM", "SIGUSR1"} <= set(launched.signals_to_handle.split(","))
    assert (launched.nnodes, launched.nproc_per_node) == (options["nodes"], options["gpus-per-node"])


def test_the_command_line_takes_the_run() -> None:
    launched = get_args_parser().parse_args(words()[words().index("torchrun") + 1 :])
    assert launched.module
    assert launched.training_script == "underpaint"
    options = parser().parse_args(launched.training_script_args)
    run = config.override(recipes.find_recipe(options.recipe)(), options.overrides)
    ranks = Ranks(world=32 * 8, local_world=8)
    run.parallel.require(ranks)
    assert run.parallel.layout == "hsdp"
    assert run.budget.accumulation(ranks.world) == 1
    with pytest.raises(ValueError, match=r"parallel\.node=8, which does not divide the 12 processes"):
        run.parallel.require(Ranks(world=12))
