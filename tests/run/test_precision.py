"""``precision=fastest``: the faster of two measured times, kept from the first start and shared by a study's arms."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from support.small_runs import assert_same_bits, mae_run
from underpaint import recipes
from underpaint.core import DataInfo
from underpaint.models.vit import ViTConfig
from underpaint.plan.estimate import make_plan
from underpaint.run import execute, precision
from underpaint.run.precision import Timing, block_timing, measure_block, precision_remark, with_fastest_precision
from underpaint.studies.parts import ComputePart, Study, TrainPart, Work, claim, settled_earlier, with_one_precision

CPU = torch.device("cpu")
SLOW_BF16, QUICK_BF16 = Timing(fp32=0.01, bf16=0.2), Timing(fp32=0.02, bf16=0.01)


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Timing]:
    """The measurements that this machine makes next, the first at the end."""
    to_come: list[Timing] = []
    monkeypatch.setenv("UNDERPAINT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(precision, "measure_block", lambda encoder, device: to_come.pop())
    return to_come


@pytest.mark.parametrize(
    ("timing", "fastest"), [(SLOW_BF16, "fp32"), (QUICK_BF16, "bf16"), (Timing(fp32=1.03, bf16=1.0), "fp32")]
)
def test_the_faster_one_is_chosen_and_a_tie_is_fp32(measure: list[Timing], timing: Timing, fastest: str) -> None:
    measure.append(timing)
    assert with_fastest_precision(recipes.mae_laptop(), CPU).precision == fastest
    named = replace(recipes.mae_laptop(), precision="bf16")
    assert with_fastest_precision(named, CPU) is named


def test_a_width_is_measured_once_on_a_machine(measure: list[Timing], tmp_path: Path) -> None:
    measure += [QUICK_BF16, SLOW_BF16]
    run = recipes.mae_laptop()
    assert [block_timing(run, CPU) for _ in range(2)] == [SLOW_BF16] * 2
    assert block_timing(recipes.mae_small(), CPU) == QUICK_BF16
    assert block_timing(run, CPU) == SLOW_BF16
    kept = tmp_path / "cache" / "precision.json"
    for damaged in ("[]", "{", '{"format": 1}', '{"format": 1, "timings": {"x": [1]}}', '{"format": 2, "timings": {}}'):
        kept.write_text(damaged)
        measure.append(QUICK_BF16)
        assert block_timing(run, CPU) == QUICK_BF16


def test_a_run_keeps_the_precision_of_its_first_start(measure: list[Timing], images: Path, tmp_path: Path) -> None:
    measure.append(QUICK_BF16)
    run = replace(mae_run(images, steps=4), precision="fastest")
    execute(run, tmp_path / "fastest")
    execute(replace(run, precision="bf16"), tmp_path / "bf16")
    assert_same_bits(tmp_path / "fastest", tmp_path / "bf16")
    record = json.loads((tmp_path / "fastest" / "run.json").read_text())
    assert (record["run"]["precision"], record["derived"]["precision"]) == ("fastest", "bf16")

    (tmp_path / "cache" / "precision.json").unlink()
    (tmp_path / "fastest" / "result.json").unlink()  # unfinished, on a machine where fp32 is faster
    execute(run, tmp_path / "fastest")
    assert json.loads((tmp_path / "fastest" / "run.json").read_text())["derived"]["precision"] == "bf16"
    assert_same_bits(tmp_path / "fastest", tmp_path / "bf16")


def test_the_cost_of_a_named_precision_is_told(measure: list[Timing]) -> None:
    measure += [QUICK_BF16, SLOW_BF16]
    bf16 = replace(recipes.mae_laptop(), precision="bf16")
    assert precision_remark(bf16, CPU, flops=1e13) == (
        "precision=bf16 takes 1,900% more time here than fp32: "
        "a block of its encoder takes 10 ms in fp32 and 200 in bf16"
    )
    assert not precision_remark(replace(bf16, precision="fp32"), CPU, flops=1e13)
    assert not precision_remark(bf16, CPU, flops=1e9)
    assert "precision=fp32 takes 100% more" in precision_remark(
        replace(recipes.mae_small(), precision="fp32"), CPU, flops=1e13
    )


def test_the_arms_of_a_study_share_one_precision(measure: list[Timing], tmp_path: Path) -> None:
    """Measured for the largest network, though the small one alone would be faster in the other."""
    info = DataInfo(seed=0, labels=("a",), label_count=(1,), images=1_000)
    small, large = (replace(run, device="cpu") for run in (recipes.mae_laptop(), recipes.mae_small()))
    named = replace(small, precision="fp32")
    parts = [
        TrainPart(name=name, run=run, data_info=info) for name, run in zip("abc", (small, large, named), strict=True)
    ]
    study = Study(
        name="scaling",
        settings={},
        parts=tuple(parts),
        seeds=(0,),
        parts_of=lambda seed: parts,
        results=lambda folder, seeds: pytest.fail("no results are asked for"),
    )
    measure.append(QUICK_BF16)
    work = Work(images=1, flops=1.0, like=(small, info))
    scored = ComputePart(name="d", compute=lambda folder: None, settings=None, work=work)
    with_scores = with_one_precision(replace(study, parts=(*parts, scored)), "bf16").parts[-1]
    assert isinstance(with_scores, ComputePart)
    assert with_scores.work is not None
    assert with_scores.work.like[0].precision == "bf16", "else the plan would time the same step twice"
    settled = with_one_precision(study, None)
    for found in (settled.parts, settled.parts_of(0)):
        assert [part.run.precision for part in found if isinstance(part, TrainPart)] == ["bf16", "bf16", "fp32"]
    claim(settled, tmp_path / "study")
    measured, kept = settled_earlier(tmp_path / "study", "scaling")
    assert (measured, kept) == ({}, "bf16")
    again = with_one_precision(study, "fp32")  # recorded by another machine: nothing is measured
    assert {part.run.precision for part in again.parts if isinstance(part, TrainPart)} == {"fp32"}


def test_a_plan_says_what_the_fastest_is(measure: list[Timing]) -> None:
    plan = make_plan("mae_laptop", device="h100")
    assert "precision=fastest is bf16 on h100" in plan.assumptions
    assert plan.memory == make_plan("mae_laptop", ["precision=bf16"], device="h100").memory


def test_a_measurement_compares_the_same_work() -> None:
    """Passes alternate; a clear difference in the first ones ends it."""
    encoder = ViTConfig(size=(32, 32), patch=8, width=32, heads=2)
    ticks = iter(range(1_000))
    assert measure_block(encoder, CPU, clock=lambda: float(next(ticks))) == Timing(fp32=1, bf16=1)
    found = measure_block(encoder, CPU)
    assert 0 < found.fp32 < 10
    assert 0 < found.bf16 < 100
