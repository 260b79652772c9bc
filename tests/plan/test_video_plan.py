"""The plan of classifiers of clips against the storages of real steps, the FLOP formula, and the recipes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from support.live_storages import live_peak
from underpaint.core import example_batch
from underpaint.models.video import ClipConfig
from underpaint.models.vit import ViTConfig
from underpaint.objectives.classify_clips import ClassifyClipsConfig
from underpaint.plan import make_plan, render
from underpaint.plan.compute import work
from underpaint.plan.memory import memory
from underpaint.plan.parallel_layout import Layout
from underpaint.plan.parameters import assumed_data, parameters
from underpaint.recipes import video_laptop
from underpaint.run import Run

DATA = assumed_data(40)
ENCODER = ViTConfig(size=(48, 48), patch=8, width=64, depth=3, heads=4, positions="sincos_trained", final_norm=False)
MEAN = ClassifyClipsConfig(encoder=ENCODER, clip=ClipConfig(frames=8), stage="finetune", pooling="mean", init="mae")
CASES = {
    "mean": MEAN,
    "cls": replace(MEAN, encoder=replace(ENCODER, final_norm=True), pooling="cls", drop_path=0.1, dropout=0.2),
    "frozen": replace(MEAN, frozen_encoder=True),
}


def small(case: str, *, precision: str = "fp32") -> Run:
    run = video_laptop()
    budget = replace(run.budget, batch_size=3, microbatch=3, warmup=0)
    return replace(run, objective=CASES[case], budget=budget, device="cpu", precision=precision)


@pytest.mark.parametrize(
    ("case", "precision"), [("mean", "fp32"), ("cls", "fp32"), ("frozen", "fp32"), ("mean", "bf16")]
)
def test_peak_memory_equals_the_live_storages_of_real_steps(case: str, precision: str) -> None:
    run = small(case, precision=precision)
    plan = memory(run, parameters(run, DATA), Layout(), microbatch=3, data_info=DATA, cuda=False)
    batch = dict(example_batch(run.objective.inputs, 3))
    batch["labels"] = torch.arange(3)[:, None]
    assert plan.peak == pytest.approx(live_peak(run, DATA, batch), rel=0.05)


@pytest.mark.parametrize("case", CASES)
def test_the_products_of_the_time_model_are_those_of_the_flop_formula(case: str) -> None:
    run = small(case)
    asked = work(run, DATA, microbatch=2, checkpointing=False)
    share = 1.0 if case == "frozen" else 6 / 7  # attention multiplies seven times, one of them again
    flops = sum(count for count, _ in asked.products) + share * sum(count for count, _ in asked.attention)
    assert flops == pytest.approx(2 * run.objective.flops_per_sample(DATA), rel=1e-3)


def test_recipes_are_planned() -> None:
    plan = make_plan("video_k400_vit_b16", gpus=16, device="a100-40")
    assert plan.fits
    shown = render(plan)
    assert "400 labels" in shown
    assert "520 kB a video" in shown
    assert "174 labels" in render(make_plan("video_ssv2_vit_l16", gpus=64, device="a100-80"))
