"""The plan of detectors against the storages of real steps, the FLOP formula, and the recipes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from support.detection_examples import DETECTOR as SMALL
from support.live_storages import live_peak
from underpaint.core import example_batch
from underpaint.models.vit import ViTConfig
from underpaint.objectives.detect import DetectConfig
from underpaint.plan import make_plan, render
from underpaint.plan.compute import work
from underpaint.plan.memory import memory
from underpaint.plan.parallel_layout import Layout
from underpaint.plan.parameters import assumed_data, parameters
from underpaint.recipes import detect_laptop
from underpaint.run import Run

DATA = assumed_data(40)
ENCODER = ViTConfig(size=(128, 128), patch=16, width=64, depth=4, heads=4, final_norm=False)
DETECTOR = replace(
    SMALL,
    global_blocks=(1, 3),
    channels=32,
    hidden=64,
    convolutions=2,
    anchor_sides=(16.0, 32.0, 64.0, 96.0, 128.0),
    sampled_regions=64,
)
CASES = {
    "masks": DetectConfig(encoder=ENCODER, detector=DETECTOR, objects=20),
    # windows that do not divide the grid, one sigmoid per class, and no masks
    "boxes": DetectConfig(
        encoder=ENCODER,
        detector=replace(DETECTOR, window=3, masks=False, scores="sigmoid", federated_classes=20),
        objects=20,
        drop_path=0.1,
    ),
}


def small(case: str, microbatch: int) -> Run:
    run = detect_laptop()
    budget = replace(run.budget, batch_size=microbatch, microbatch=microbatch, warmup=0)
    return replace(run, objective=CASES[case], budget=budget, device="cpu")


def batch_of(run: Run) -> dict[str, torch.Tensor]:
    """Objects of all classes at random places, as many as there may be: more than the sampled positive regions."""
    objective: Any = run.objective
    batch: dict[str, Any] = dict(example_batch(objective.inputs, run.budget.microbatch))
    generator = torch.Generator().manual_seed(0)
    shape = batch["classes"].shape
    corner, sides = (torch.rand(*shape, 2, generator=generator) for _ in range(2))
    corner, sides = corner * 76, 12 + sides * 32
    batch["boxes"] = torch.cat([corner, corner + sides], dim=-1)
    batch["classes"] = torch.randint(0, len(DATA.labels), shape, generator=generator)
    if "masks" in batch:
        batch["masks"] = torch.ones_like(batch["masks"])
    return batch


@pytest.mark.parametrize("case", CASES)
def test_peak_memory_equals_the_live_storages_of_real_steps(case: str) -> None:
    run = small(case, 2)
    plan = memory(run, parameters(run, DATA), Layout(), microbatch=2, data_info=DATA, cuda=False)
    assert plan.peak == pytest.approx(live_peak(run, DATA, batch_of(run)), rel=0.05)


@pytest.mark.parametrize("case", CASES)
def test_the_products_of_the_time_model_are_those_of_the_flop_formula(case: str) -> None:
    run = small(case, 2)
    asked = work(run, DATA, microbatch=2, checkpointing=False)
    attention = sum(count for count, _ in asked.attention) * 6 / 7  # it multiplies seven times, one of them again
    flops = sum(count for count, _ in asked.products) + attention
    assert flops == pytest.approx(2 * run.objective.flops_per_sample(DATA), rel=1e-6)


def test_recipes_are_planned() -> None:
    """detectron2 reported 12.3 GB for ViT-B in fp16, with copies that this package does not make."""
    plan = make_plan("detect_coco_vit_b16", ["parallel.layout=ddp"], gpus=64, device="a100-40")
    assert 5e9 < plan.memory.peak < 12.3e9
    assert plan.microbatch == 1
    assert "80 classes, and 100 objects in each image" in render(plan)
    many = make_plan("detect_lvis_vit_l16", gpus=64, device="a100-80")
    assert "1,203 classes, and 300 objects in each image" in render(many)
    assert many.seconds > plan.seconds
