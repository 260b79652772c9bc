"""Expected curves of real runs: no alarm in clean ones, one in each that is broken, before a quarter of the budget."""

from __future__ import annotations

import csv
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest
from PIL import Image
from torch import nn

from support.small_runs import BATCH, mae_run, make_images, wsp_run
from underpaint.results.run import read_log
from underpaint.run import Cadence, Run, execute

pytestmark = pytest.mark.timeout(1800)

EARLIER, FRESH = 5, 4
STEPS = 240


@dataclass(frozen=True)
class Stop:
    """An evaluation that ends the run after the quarter in which it is compared."""

    needs: ClassVar[type] = nn.Module

    def __call__(self, model: nn.Module) -> dict[str, float]:
        raise KeyboardInterrupt


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``images`` with tags, ``shuffled.csv`` for them, and finished runs of five seeds of each stage."""
    folder = tmp_path_factory.mktemp("expected")
    images = make_images(folder / "images")
    with (images / "tags.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    tags = random.Random(0).sample([row[1] for row in rows], len(rows))
    with (folder / "shuffled.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *([row[0], tag] for row, tag in zip(rows, tags, strict=True))])
    for stage in ("mae", "wsp"):
        for seed in range(EARLIER):
            execute(declared(stage, images, seed=seed), folder / stage / f"{seed}")
    return folder


def declared(stage: str, images: Path, *, seed: int) -> Run:
    run = mae_run(images, steps=STEPS) if stage == "mae" else wsp_run(images, steps=STEPS)
    return replace(run, seed=seed, cadence=Cadence(log=BATCH, save=10**9, keep=10**9, evaluate=10**9))


@contextmanager
def black(images: Path) -> Iterator[None]:
    """Black images in the place of the others."""
    kept = images.with_name("kept")
    shutil.copytree(images, kept)
    for file in images.rglob("*.png"):
        Image.new("RGB", (24, 20)).save(file)
    try:
        yield
    finally:
        shutil.rmtree(images)
        kept.rename(images)


def alarm(run: Run, folder: Path) -> float | None:
    """The share of the budget at which the run raised an alarm; None without one."""
    stopping = replace(run, evals=(Stop(),), cadence=replace(run.cadence, evaluate=run.budget.samples // 4))
    with pytest.raises(KeyboardInterrupt):
        execute(stopping, folder)
    remarked = [line["samples"] for line in read_log(folder) if "remark" in line]
    shutil.rmtree(folder)
    assert len(remarked) <= 1
    return remarked[0] / run.budget.samples if remarked else None


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["mae", "wsp"])
def test_clean_runs_raise_no_alarm(work: Path, stage: str) -> None:
    runs = [declared(stage, work / "images", seed=100 + number) for number in range(FRESH)]
    assert [alarm(run, work / stage / "probe") for run in runs] == [None] * FRESH


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "fault"), [("mae", "black images"), ("wsp", "rate"), ("wsp", "shuffled tags")])
def test_broken_runs_raise_an_alarm_before_a_quarter(work: Path, stage: str, fault: str) -> None:
    shares: list[float | None] = []
    for number in range(FRESH):
        run = declared(stage, work / "images", seed=200 + number)
        if fault == "rate":
            run = replace(run, optim=replace(run.optim, base_lr=10 * run.optim.base_lr))
        if fault == "shuffled tags":
            run = replace(run, data=replace(run.data, tags=str(work / "shuffled.csv")))
        if fault == "black images":
            with black(work / "images"):
                shares.append(alarm(run, work / stage / "probe"))
        else:
            shares.append(alarm(run, work / stage / "probe"))
    print(f"{stage}, {fault}: alarms at {shares}")
    assert all(share is not None and share <= 0.25 for share in shares), shares
