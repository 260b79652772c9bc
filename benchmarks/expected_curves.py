"""Alarms of the expected curves: none in clean runs, and one in runs that are broken in three ways.

    python benchmarks/expected_curves.py WORK --runs 10

Small MAE and WSP runs on OpenMoji. EARLIER seeds give the band; then so many fresh seeds are run clean, with ten times
the rate, with shuffled tags (WSP) and with black images (MAE). Each is compared with the EARLIER runs alone. Prints how
many of them raised an alarm, and the share of the budget at which they did.
"""

from __future__ import annotations

import argparse
import csv
import random
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from PIL import Image
from torch import nn

from underpaint.data.open_source import open_source
from underpaint.recipes import mae_smoke, wsp_smoke
from underpaint.results.run import read_log
from underpaint.run import Budget, Cadence, Run, execute

EARLIER = 5
SAMPLES = {"mae": 12_800, "wsp": 25_600}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A way to run a recipe, clean or broken."""

    stage: str
    name: str
    rate: float = 1.0
    tags: str = "tags.csv"
    black: bool = False


CASES = (
    Case(stage="mae", name="clean"),
    Case(stage="mae", name="rate x 10", rate=10),
    Case(stage="mae", name="black images", black=True),
    Case(stage="wsp", name="clean"),
    Case(stage="wsp", name="rate x 10", rate=10),
    Case(stage="wsp", name="shuffled tags", tags="shuffled.csv"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--samples", type=float, default=1.0, metavar="FACTOR", help="of the budgets")
    options = parser.parse_args()
    for case, alarms in alarms_by_case(options.work, runs=options.runs, factor=options.samples):
        shares = ", ".join(f"{share:.3f}" for share in alarms)
        print(
            f"{case.stage} {case.name:14} {len(alarms):2} of {options.runs} with an alarm, at {shares or '-'}",
            flush=True,
        )


def alarms_by_case(work: Path, *, runs: int, factor: float = 1.0) -> Iterator[tuple[Case, list[float]]]:
    """Yield each case with the share of the budget at which each run that raised an alarm did so."""
    make_images(work)
    for case in CASES:
        for seed in range(EARLIER):
            train(work, replace(case, rate=1.0, tags="tags.csv", black=False), seed=seed, factor=factor, name=f"{seed}")
        remarks = [train(work, case, seed=100 + seed, factor=factor, name="probe") for seed in range(runs)]
        yield case, [share for share in remarks if share is not None]


def make_images(work: Path) -> None:
    """``images`` with OpenMoji and its tags, ``black`` with black images of these names, ``shuffled.csv``."""
    if (work / "images").is_dir():
        return
    source = open_source("openmoji")
    rows = source.rows("pretrain")
    for folder in ("images.part", "black"):
        (work / folder).mkdir(parents=True, exist_ok=True)
    for row in rows:
        shutil.copy(source.root / source.path[row], work / "images.part" / Path(source.path[row]).name)
        Image.new("RGB", (72, 72)).save(work / "black" / Path(source.path[row]).name)
    names, tags = [Path(source.path[row]).name for row in rows], [" ".join(source.tags[row]) for row in rows]
    for file, column in (("tags.csv", tags), ("shuffled.csv", random.Random(0).sample(tags, len(tags)))):
        with (work / file).open("w", newline="", encoding="utf-8") as opened:
            csv.writer(opened).writerows([("path", "tags"), *zip(names, column, strict=True)])
    (work / "images.part").rename(work / "images")


def train(work: Path, case: Case, *, seed: int, factor: float, name: str) -> float | None:
    """Train beside the earlier runs of the stage; the share of the budget at which it raised an alarm, else None.

    Black images take the place of the others for this run, so that the recipe names the same folder.
    """
    run = recipe(work, case, seed=seed, factor=factor)
    out = work / "runs" / case.stage / name
    if name == "probe":
        shutil.rmtree(out, ignore_errors=True)
    if case.black:
        (work / "images").rename(work / "kept")
        (work / "black").rename(work / "images")
    try:
        if name == "probe":
            run = replace(run, evals=(Stop(),), cadence=replace(run.cadence, evaluate=run.budget.samples // 4))
        with suppress(KeyboardInterrupt):
            execute(run, out)
    finally:
        if case.black:
            (work / "images").rename(work / "black")
            (work / "kept").rename(work / "images")
    remarked = [line["samples"] for line in read_log(out) if "remark" in line]
    return remarked[0] / run.budget.samples if remarked else None


@dataclass(frozen=True)
class Stop:
    """An evaluation that ends the run, since after a quarter of its budget nothing is compared."""

    needs: ClassVar[type] = nn.Module

    def __call__(self, model: nn.Module) -> dict[str, float]:
        raise KeyboardInterrupt


def recipe(work: Path, case: Case, *, seed: int, factor: float) -> Run:
    base = mae_smoke() if case.stage == "mae" else wsp_smoke()
    tags = str(work / case.tags) if case.stage == "wsp" else ""
    samples = int(SAMPLES[case.stage] * factor)
    return replace(
        base,
        data=replace(base.data, source=str(work / "images"), tags=tags, tag_rules="words"),
        budget=Budget(samples=samples, batch_size=64, microbatch=64, warmup=samples // 10),
        optim=replace(base.optim, base_lr=base.optim.base_lr * case.rate),
        cadence=Cadence(log=64, save=10**9, keep=10**9, evaluate=10**9),
        seed=seed,
        threads=1,
    )


if __name__ == "__main__":
    main()
