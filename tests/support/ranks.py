"""Runs of several processes for the tests: started here, executed one after another by ``python ranks.py CASES``."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from support.small_runs import BATCH, RUNS
from underpaint import config
from underpaint.core import Batch, Objective
from underpaint.run import Run, execute

TESTS = Path(__file__).parents[1]
EXECUTE = import_module("underpaint.run.execute")  # its name in the package is that of the function
SGD = ("optim.name=sgd", "optim.momentum=0.9", "optim.clip=inf", "optim.base_lr=0.5")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One run; in JSON for the processes."""

    out: str
    stage: str = "mae"
    steps: int = 20
    overrides: tuple[str, ...] = ()
    poison: int = -1  # position of a sample that is not a number
    asleep: float = 0.0  # seconds for which the last rank sleeps before every microbatch after the second step
    signal: int = 0  # sent to the last rank during the evaluation of step 10

    def run(self, images: Path) -> Run:
        run = RUNS[self.stage](images, steps=self.steps)
        cadence = replace(run.cadence, save=5 * BATCH, keep=BATCH, evaluate=10 * BATCH)  # all checkpoints stay
        run = replace(run, cadence=cadence, budget=replace(run.budget, microbatch=2))
        run = replace(run, evals=(SignalLastRank(number=self.signal),) if self.signal else ())
        return config.override(run, self.overrides)

    def execute(self, images: Path) -> None:
        """Run it, with its faults."""
        plain = EXECUTE.on_device
        EXECUTE.on_device = lambda batch, device: self._disturbed(plain(batch, device))
        try:
            execute(self.run(images), Path(self.out))
        finally:
            EXECUTE.on_device = plain

    def _disturbed(self, batch: Batch) -> Batch:
        image = batch["image"].clone()
        image[batch["position"] == self.poison] = float("nan")
        if is_last_rank() and int(batch["position"][0]) >= 2 * BATCH:
            time.sleep(self.asleep)
        return {**batch, "image": image}


def is_last_rank() -> bool:
    return int(os.environ.get("RANK", "0")) == int(os.environ.get("WORLD_SIZE", "1")) - 1


@dataclass(frozen=True, kw_only=True)
class SignalLastRank:
    """An evaluation during which a signal reaches one rank."""

    number: int
    needs: ClassVar[type] = Objective

    def __call__(self, objective: nn.Module) -> dict[str, float]:
        if is_last_rank():
            os.kill(os.getpid(), self.number)
        return {}


def recipe() -> Run:
    """For the command line, as ``ranks:recipe``."""
    return Case(**json.loads(os.environ["RANKS_CASE"])).run(Path(os.environ["RANKS_IMAGES"]))


def start(world: int, code: list[str], **environment: str) -> list[subprocess.Popen[str]]:
    """The processes of one group; ``code`` is what follows ``python``."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)]),
        "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(world),
        "LOCAL_WORLD_SIZE": str(world),
        **environment,
    }
    return [
        subprocess.Popen(
            [sys.executable, *code],
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]


def finish(processes: list[subprocess.Popen[str]], *, timeout: float = 240) -> list[tuple[int, str]]:
    """Exit code and standard error of each; none is left behind."""
    try:
        return [(process.returncode, err) for process in processes for _, err in [process.communicate(timeout=timeout)]]
    finally:
        for process in processes:
            process.kill()


def run_cases(world: int, images: Path, cases: list[Case]) -> None:
    """All cases in one group of processes, or in this process for one."""
    if world == 1:
        for case in cases:
            case.execute(images)
        return
    listed = json.dumps([vars(case) for case in cases])
    for rank, (code, err) in enumerate(finish(start(world, [__file__, str(images), listed]), timeout=600)):
        assert code == 0, f"rank {rank}: {err[-3000:]}"


def losses(folder: Path) -> list[float]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model" / "model.safetensors")


def checkpoint(folder: Path, step: int, group: str = "model") -> dict[str, Tensor]:
    """A checkpoint put together from its pieces, as docs/formats.md describes them."""
    path = folder / "checkpoints" / f"step-{step:08d}"
    manifest: dict[str, Any] = json.loads((path / "manifest.json").read_text())
    files = {name: load_file(path / name) for name in manifest["files"] if name.endswith(".safetensors")}
    found = {}
    for name, entry in manifest["tensors"].items():
        kind, _, tensor = name.partition(".")
        if kind == group:
            dtype = getattr(torch, entry["dtype"].removeprefix("torch."))
            whole, filled = torch.zeros(entry["shape"], dtype=dtype), torch.zeros(entry["shape"])
            for piece in entry["pieces"]:
                corner = zip(piece["offset"], piece["shape"], strict=True)
                place = tuple(slice(start, start + length) for start, length in corner)
                whole[place] = files[piece["file"]][tensor]
                filled[place] += 1
            assert bool((filled == 1).all()), f"{name} is not tiled by its pieces"
            found[tensor] = whole
    return found


if __name__ == "__main__":
    for given in json.loads(sys.argv[2]):
        Case(**given).execute(Path(sys.argv[1]))
