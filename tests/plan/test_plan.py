"""The planner against what torch does: live storages of real steps, torch's FLOP counter, brute-force counts, FSDP2."""

from __future__ import annotations

import importlib.util
import itertools
import json
import math
import shlex
import time
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from support.live_storages import live_peak
from support.small_runs import make_textures
from underpaint import config, files, recipes
from underpaint.core import Inputs
from underpaint.data.reading_time import Images
from underpaint.models.mae_decoder import DecoderConfig
from underpaint.models.recompute import make_lean
from underpaint.models.vit import ViTConfig
from underpaint.objectives import scores
from underpaint.objectives.classify import ClassifyConfig
from underpaint.objectives.mae import MAEConfig
from underpaint.plan import calibrate, make_plan, render, render_rates
from underpaint.plan.accelerators import find_device
from underpaint.plan.compute import measured_seconds, work
from underpaint.plan.dry_run import dry_run
from underpaint.plan.duration import recomputed_flops
from underpaint.plan.estimate import Plan
from underpaint.plan.memory import memory
from underpaint.plan.parallel_layout import NODE, Layout, possible
from underpaint.plan.parameters import assumed_data, parameters
from underpaint.plan.rates import Calibration, kept_rates, measure_rates
from underpaint.run import Run
from underpaint.training.loop import Precision
from underpaint.training.parallel import ParallelConfig, prepare_blocks

LABELS = 300
DATA, MANY = assumed_data(LABELS), assumed_data(28_000)
ENCODER = ViTConfig(size=(64, 64), patch=8, width=64, depth=3, heads=2)
MAE_SMALL = MAEConfig(encoder=ENCODER, decoder=DecoderConfig(width=32, depth=2, heads=2))
WSP_SMALL = ClassifyConfig(encoder=replace(ENCODER, positions="learned"))
FINETUNE_SMALL = replace(WSP_SMALL, stage="finetune", drop_path=0.2, label_smoothing=0.1)
LINEAR_SMALL = replace(WSP_SMALL, stage="linear", frozen_encoder=True, batch_norm=True)
OBJECTIVES = {
    "mae": MAE_SMALL,
    "mae_frozen": replace(MAE_SMALL, frozen_encoder=True),
    "mae_part": replace(MAE_SMALL, decode_fraction=0.3, masks_per_image=2),
    "mae_cross": replace(MAE_SMALL, decode_fraction=0.5, decoder=DecoderConfig(width=32, depth=2, heads=2, cross=True)),
    "wsp": WSP_SMALL,
    "finetune": FINETUNE_SMALL,
    "linear": LINEAR_SMALL,
}


def small(stage: str, microbatch: int = 32, *, accumulation: int = 1, precision: Precision = "fp32") -> Run:
    run = recipes.mae_laptop() if stage.startswith("mae") else recipes.wsp_laptop()
    budget = replace(run.budget, batch_size=microbatch * accumulation, microbatch=microbatch, warmup=0)
    objective: Any = OBJECTIVES[stage]
    return replace(run, objective=objective, budget=budget, precision=precision)


def batch_of(encoder: ViTConfig, size: int, device: str = "cpu") -> dict[str, torch.Tensor]:
    return {
        "image": torch.zeros(size, encoder.channels, *encoder.size, device=device),
        "position": torch.arange(size, device=device),
        "weight": torch.ones(size, device=device),
        "labels": torch.zeros(size, 1, dtype=torch.int64, device=device),
    }


def peak_of_two_steps(run: Run, *, checkpointing: bool) -> int:
    objective: Any = run.objective
    batch = batch_of(objective.encoder, run.budget.microbatch)
    return live_peak(run, assumed_data(LABELS), batch, checkpointing=checkpointing)


@pytest.mark.parametrize(
    ("stage", "precision", "checkpointing"),
    [
        *itertools.product(("mae", "wsp"), ("fp32", "bf16"), (False, True)),
        *(
            (stage, *each)
            for stage in ("mae_part", "mae_cross", "finetune")
            for each in (("fp32", True), ("bf16", False))
        ),
    ],
)
def test_peak_memory_equals_the_live_storages_of_real_steps(
    stage: str, precision: Precision, checkpointing: bool
) -> None:
    run = small(stage, precision=precision)
    counted = parameters(run, DATA)
    layout = Layout(checkpointing=checkpointing)
    plan = memory(run, counted, layout, microbatch=32, data_info=DATA, cuda=False)
    assert plan.peak == pytest.approx(peak_of_two_steps(run, checkpointing=checkpointing), rel=0.05)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("stage", ["mae", "mae_cross", "wsp", "finetune"])
def test_peak_memory_where_norms_and_gelu_are_computed_again(stage: str, precision: Precision) -> None:
    kept = small(stage, precision=precision)
    run = replace(kept, parallel=ParallelConfig(recompute_pointwise=True))
    counted = parameters(run, DATA)
    plan, more = (memory(one, counted, Layout(), microbatch=32, data_info=DATA, cuda=False) for one in (run, kept))
    assert plan.peak == pytest.approx(peak_of_two_steps(run, checkpointing=False), rel=0.05)
    assert plan.activations < 0.85 * more.activations


@pytest.mark.parametrize("stage", ["mae", "mae_frozen", "wsp", "linear"])
def test_peak_memory_with_accumulation_and_of_a_frozen_encoder(stage: str) -> None:
    run = small(stage, accumulation=2)
    plan = memory(run, parameters(run, DATA), Layout(), microbatch=32, data_info=DATA, cuda=False)
    assert plan.peak == pytest.approx(peak_of_two_steps(run, checkpointing=False), rel=0.05)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("stage", ["wsp", "linear"])
def test_peak_memory_of_a_head_in_chunks_of_labels(
    stage: str, precision: Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    """20,000 labels make a head as large as half of the encoder's activations, and weights that are four chunks."""
    monkeypatch.setattr(f"{__name__}.LABELS", 20_000)
    run, data = small(stage, precision=precision), assumed_data(20_000)
    counted = parameters(run, data)
    whole = memory(run, counted, Layout(), microbatch=32, data_info=data, cuda=False)
    monkeypatch.setattr(scores, "SCORES", 1)
    monkeypatch.setattr(scores, "CHUNK", 64 * 5_000)
    chunked = memory(run, counted, Layout(), microbatch=32, data_info=data, cuda=False)
    assert chunked.peak == pytest.approx(peak_of_two_steps(run, checkpointing=False), rel=0.05)
    assert chunked.peak < whole.peak


def test_parts_of_the_memory() -> None:
    run = replace(small("wsp"), ema_decay=0.999)
    counted = parameters(run, DATA)
    size = sum(p.numel() for p in run.objective.build(DATA).parameters())
    plan = memory(run, counted, Layout(), microbatch=32, data_info=DATA, cuda=False)
    assert plan.weights == plan.gradients == plan.ema == 4 * size
    assert plan.optimizer == 8 * size
    assert plan.inputs == sum(value.nbytes for value in batch_of(ENCODER, 32).values())
    parts = [value for name, value in vars(plan).items() if name not in ("peak", "moment")]
    assert max(parts) < plan.peak <= sum(parts)
    shared = memory(run, counted, Layout(kind="ddp", ranks=2), microbatch=32, data_info=DATA, cuda=False)
    assert shared.communication == 4 * size  # DDP's buckets


@pytest.mark.parametrize("ranks", [1, 3, 8, 64])
@pytest.mark.parametrize("stage", ["mae", "wsp"])
def test_shards_are_those_of_torch_chunk(stage: str, ranks: int) -> None:
    run = small(stage)
    with torch.device("meta"):
        network = run.objective.build(DATA)
    largest = sum(max(piece.numel() for piece in value.chunk(ranks)) for value in network.parameters())
    assert parameters(run, DATA).share(("",), ranks).per_rank == largest


@pytest.mark.parametrize("name", ["mae_vit_b16", "wsp_vit_b16", "mae_vit_h14", "wsp_vit_6.5b14"])
def test_parameters_and_flops_of_the_plan(name: str) -> None:
    plan = make_plan(name, gpus=64, device="h200")
    objective: Any = recipes.find_recipe(name)().objective
    with torch.device("meta"):
        network = objective.build(MANY)
        with FlopCounterMode(display=False) as counter:
            network(batch_of(objective.encoder, 2, "meta")).loss.backward()
    assert plan.params == sum(p.numel() for p in network.parameters())
    assert 2 * plan.flops_per_sample == pytest.approx(counter.get_total_flops(), rel=0.02)


@pytest.mark.parametrize("stage", ["mae", "wsp"])
def test_flops_of_recomputation(stage: str) -> None:
    run = small(stage)
    found: list[int] = []
    for checkpointing in (False, True):
        with torch.device("meta"):
            network: Any = run.objective.build(DATA)
            blocks = network.blocks()
            prepare_blocks(blocks, ParallelConfig(checkpoint_activations=checkpointing), make_lean=make_lean)
            with FlopCounterMode(display=False) as counter:
                network(batch_of(ENCODER, 2, "meta")).loss.backward()
        found.append(counter.get_total_flops())
    # torch stops before fc2, whose output nobody needs; the plan counts the whole forward pass
    ratio = (found[1] - found[0]) / (2 * recomputed_flops(run, DATA))
    assert 0.6 < ratio <= 1.0


def test_record_and_text() -> None:
    plan = make_plan("mae_vit_6.5b14", gpus=256, device="h100", price=2.0)
    record = json.loads(json.dumps(plan.record()))
    wanted = {
        "params",
        "flops_per_sample",
        "memory_bytes",
        "seconds",
        "gpu_hours",
        "cost",
        "microbatch",
        "layout",
        "fits",
    }
    assert wanted <= record.keys()
    assert record["fits"] is True
    assert record["memory_bytes"]["peak"] <= record["memory_usable"]
    assert record["gpu_hours"] == pytest.approx(record["seconds"] * 256 / 3600)
    assert record["cost"] == pytest.approx(2.0 * record["gpu_hours"])
    assert record["microbatch"] * 256 * record["accumulation"] == record["batch_size"] == 4096
    text = render(plan)
    for shown in ("6,475,383,884", "45% of the peak", "110 kB an image", "256 x h100", "torchrun --nnodes 32"):
        assert shown in text
    command = next(line for line in text.splitlines() if " train " in line)
    changed = config.override(recipes.mae_vit_6b5_14(), [word for word in command.split() if "=" in word])
    assert (changed.budget.microbatch, changed.parallel.layout) == (plan.microbatch, plan.layout.kind)
    assert changed.parallel.checkpoint_activations == plan.layout.checkpointing


def test_the_largest_microbatch() -> None:
    kept = "parallel.checkpoint_activations=false"
    plan = make_plan("wsp_vit_l16", ["parallel.layout=single", kept], gpus=1, device="l4")
    share = plan.batch_size // plan.layout.ranks
    larger = min(size for size in range(plan.microbatch + 1, share + 1) if share % size == 0)
    assert make_plan(
        "wsp_vit_l16",
        [f"budget.microbatch={plan.microbatch}", kept],
        gpus=1,
        device="l4",
    ).fits
    with pytest.raises(
        ValueError, match=f"microbatch {larger}.*activation checkpointing; a microbatch of {plan.microbatch}"
    ):
        make_plan("wsp_vit_l16", [f"budget.microbatch={larger}", kept], gpus=1, device="l4")


def test_a_plan_that_cannot_fit_says_what_would() -> None:
    with pytest.raises(
        ValueError, match=r"wsp_vit_6.5b14 does not fit: it needs 1\d\d\.\d GiB on each of 1 l4"
    ) as refusal:
        make_plan("wsp_vit_6.5b14", gpus=1, device="l4")
    advice = str(refusal.value).partition("what would fit: ")[2]
    gpus, devices = (part.split(" ", 1)[1] for part in advice.split("; "))
    assert make_plan("wsp_vit_6.5b14", gpus=int(gpus), device="l4").fits
    with pytest.raises(ValueError, match="does not fit"):
        make_plan("wsp_vit_6.5b14", gpus=int(gpus) // 2, device="l4")
    for name in ("a100-80", "h200", "mi300x"):
        if name in devices.split(" or "):
            assert make_plan("wsp_vit_6.5b14", gpus=1, device=name).fits
        else:
            with pytest.raises(ValueError, match="does not fit"):
                make_plan("wsp_vit_6.5b14", gpus=1, device=name)
    with pytest.raises(ValueError, match="what would fit: another layout"):
        make_plan("wsp_vit_6.5b14", ["parallel.layout=ddp"], gpus=8, device="h100")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "h900"}, "unknown device 'h900'; known are a100-40"),
        ({"gpus": 3}, "gpus=3 does not divide budget.batch_size=4096; 2 and 4 do"),
        ({"gpus": 0}, "gpus=0 must be at least 1"),
        ({"gpus": 7_000}, "gpus=7000 does not divide budget.batch_size=4096; 2048 and 4096 do"),
        ({"price": -1.0}, "price=-1.0 must not be negative"),
        ({"price": math.nan}, "price=nan must not be"),
        ({"overrides": ["budget.microbatch=3"]}, "microbatch=3 does not divide the 4096 samples"),
        ({"overrides": ["parallel.layout=ddp"]}, "layout=ddp does not go with gpus=1"),
        ({"overrides": ["parallel.layout=hsdp"], "gpus": 4}, "hsdp needs several whole nodes of 8"),
        ({"samples": 10}, "samples=10 is less than one batch"),
    ],
)
def test_refused_input(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_plan("mae_vit_b16", **{"device": "h100", **options})


def test_samples_price_and_time_go_together() -> None:
    one = make_plan("mae_vit_b16", gpus=8, device="a100-80", samples=4096 * 100, price=1.5)
    two = make_plan("mae_vit_b16", gpus=8, device="a100-80", samples=4096 * 200, price=1.5)
    assert two.seconds == pytest.approx(2 * one.seconds)
    assert two.cost == pytest.approx(2 * one.cost)
    ideal = one.flops_per_sample * one.samples / (8 * 312e12 * 0.45)
    assert ideal <= one.seconds < 1.2 * ideal  # computation, and the update of the weights


def test_layouts() -> None:
    assert [str(each) for each in possible(1)] == ["single", "single with checkpointing"]
    assert {each.kind for each in possible(4)} == {"ddp", "fsdp"}
    assert {each.kind for each in possible(64)} == {"ddp", "fsdp", "hsdp"}
    assert Layout(kind="hsdp", ranks=64).shards == NODE
    assert Layout(kind="hsdp", ranks=64).copies == 8
    small_model, large_model = (make_plan(name, gpus=64, device="h100") for name in ("wsp_vit_b16", "wsp_vit_6.5b14"))
    assert small_model.layout.kind == "ddp"
    assert large_model.layout.kind in ("fsdp", "hsdp")


RATES = Calibration(
    date="2026-01-01T00:00:00+00:00",
    torch="2.14",
    threads=2,
    device="cpu",
    matmul={kind: {"64": 1e9, "128": 3e9, "4096": 3e9} for kind in ("fp32", "bf16")},
    attention={kind: {"32": 1e9, "64": 2e9} for kind in ("fp32", "bf16")},
    add=1e9,
    reduction=1e9,
    gelu=1e9,
    layer_norm=1e9,
    adamw=1e9,
    call=1e12,
)


def test_rates_between_the_measured_sizes() -> None:
    assert [RATES.matmul_rate("fp32", side) for side in (1, 64, 96, 128, 9000)] == [1e9, 1e9, 2e9, 3e9, 3e9]
    assert [RATES.attention_rate("bf16", width) for width in (16, 48, 80)] == [1e9, 1.5e9, 2e9]


@pytest.mark.parametrize("stage", ["mae", "mae_frozen", "mae_part", "mae_cross", "wsp", "linear"])
def test_the_products_of_the_time_model_are_those_of_the_flop_formula(stage: str) -> None:
    run = small(stage)
    asked = work(run, DATA, microbatch=4, checkpointing=False)
    share = 1 if stage == "linear" else 6 / 7  # attention multiplies seven times; FLOPs leave out the repetition
    if stage == "mae_frozen":  # only the decoder has a backward pass
        attention = sum(count * (6 / 7 if width == 16 else 1) for count, width in asked.attention)
    else:
        attention = sum(count * share for count, _ in asked.attention)
    flops = sum(count for count, _ in asked.products) + attention
    assert flops == pytest.approx(4 * run.objective.flops_per_sample(DATA), rel=1e-6)
    longer = work(run, DATA, microbatch=4, checkpointing=True)
    assert (measured_seconds(longer, RATES, "fp32") > measured_seconds(asked, RATES, "fp32")) == (stage != "linear")


def test_calibration_is_kept_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDERPAINT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("underpaint.plan.rates.SIDES", (16, 32))
    monkeypatch.setattr("underpaint.plan.rates.ELEMENTS", 1 << 14)
    with pytest.raises(ValueError, match="has not been measured; run `underpaint plan --calibrate`"):
        kept_rates()
    brief = make_plan("mae_laptop", gpus=1, device="cpu")
    assert brief.assumptions[0].startswith("rates of this machine as a first plan briefly measured them on")
    assert kept_rates().is_brief
    with monkeypatch.context() as patched:
        patched.setattr("underpaint.plan.rates.measure_rates", lambda **_: pytest.fail("it was measured again"))
        assert make_plan("mae_laptop", gpus=1, device="cpu").seconds == brief.seconds
    found = calibrate()
    assert not found.is_brief
    assert kept_rates() == found
    assert "fp32 products, GFLOP/s by side: " in render_rates(found)
    assert (found.torch, found.threads) == (torch.__version__, torch.get_num_threads())
    plan = make_plan("mae_laptop", gpus=1, device="cpu")
    assert 0 < plan.seconds < math.inf
    assert plan.device == find_device("cpu")
    assert plan.assumptions[0].endswith(f"on {found.date[:10]}, {found.threads} threads")
    path = tmp_path / "cache" / "calibration.json"
    good = files.read_json(path)
    files.write_json(path, {**good, "calibration": {**good["calibration"], "threads": found.threads + 1}})
    assert f"this process has {found.threads} threads" in make_plan("mae_laptop", device="cpu").assumptions[1]
    broken: list[Any] = [
        {**good, "format": 2},
        [],
        {**good, "calibration": {}},
        {**good, "calibration": {**good["calibration"], "add": 0.0}},
        {**good, "calibration": {**good["calibration"], "matmul": {"fp32": {"64": 1.0}}}},
        {**good, "calibration": {**good["calibration"], "attention": {"fp32": [1.0], "bf16": [1.0]}}},
    ]
    for content in broken:
        files.write_json(path, content)
        with pytest.raises(ValueError, match="run `underpaint plan --calibrate` again"):
            kept_rates()


def test_products_that_take_longer_than_allowed_are_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that adds a second a look: the next product would take eight."""
    monkeypatch.setattr("underpaint.plan.rates.ELEMENTS", 1 << 12)
    ticks = itertools.count()
    rates = measure_rates(lambda: float(next(ticks)), longest=7.0)
    assert set(rates.matmul["fp32"]) == set(rates.matmul["bf16"]) == {"64", "128", "256"}
    assert rates.matmul_rate("fp32", 4096) == rates.matmul_rate("fp32", 256)


def test_a_plan_counts_reading_and_heldout_losses_of_a_given_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("underpaint.plan.duration.rates_here", lambda: RATES)
    monkeypatch.setattr("underpaint.plan.estimate.rates_here", lambda: RATES)
    folder = make_textures(tmp_path / "photos", 3)
    read = Images(count=40, side=20, decoding=0.03, cropping=0.01, resizing=0.02, heldout=10)
    monkeypatch.setattr("underpaint.plan.given_images.images_of", lambda opened, size: read)
    fields = [f"data.source={folder}", "budget.epochs=16", "budget.batch_size=32", "cadence.evaluate=64"]
    plan, bare = (make_plan("mae_smoke", given, samples=None) for given in (fields, ["budget.samples=640"]))
    assert plan.samples == 640
    each = plan.step.computing / 32
    assert plan.reading == pytest.approx(32 * 0.04)
    assert plan.evaluating == pytest.approx(10 * (0.05 + 10 * each / 3)), "every 64 of 640 samples"
    assert plan.seconds == pytest.approx(20 * (plan.step.seconds + 32 * 0.04) + plan.evaluating)
    assert "measured on 12 of 40 images; the loss of 10 held-out images 10 times" in render(plan)
    assert (bare.reading, bare.evaluating) == (0.0, 0.0)
    with pytest.raises(ValueError, match=r"set data\.source=FOLDER, or budget\.samples"):
        make_plan("mae_smoke", ["budget.epochs=2"])


def test_fields_of_the_run_can_be_set() -> None:
    plan = make_plan("mae_vit_b16", ["objective.decoder.depth=1", "budget.microbatch=64"], gpus=8, device="a100-40")
    run = config.override(recipes.mae_vit_b16(), ["objective.decoder.depth=1"])
    assert plan.flops_per_sample == run.objective.flops_per_sample(DATA)
    assert plan.microbatch == 64
    command = render(plan).partition("command")[2].partition("assumed")[0].split()
    assert "objective.decoder.depth=1" in command
    assert command.count("budget.microbatch=64") == 1
    fields = ["parallel.layout=fsdp", "parallel.checkpoint_activations=true"]
    sharded = make_plan("mae_vit_b16", fields, gpus=8, device="a100-40")
    assert (sharded.layout.kind, sharded.layout.checkpointing) == ("fsdp", True)
    with pytest.raises(ValueError, match=r"did you mean objective\.decoder\.depth"):
        make_plan("mae_vit_b16", ["objective.decodr.depth=1"], device="h100")


def test_objectives_without_a_plan() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Other:
        stage: str = "other"
        encoder: ViTConfig = ENCODER

        @property
        def inputs(self) -> Inputs:
            return {"image": self.encoder.image_input}

        def build(self, data_info: Any) -> nn.Module:
            return MAE_SMALL.build(data_info)

        def flops_per_sample(self, data_info: Any) -> int:
            return 1

    other: Any = Other()
    with pytest.raises(ValueError, match=r"Other has no method layers\(data_info\), which says what a step costs"):
        make_plan(replace(small("mae"), objective=other), gpus=1, device="h100")


@pytest.mark.parametrize("kind", ["fsdp", "hsdp"])
def test_a_dry_run_agrees_with_the_closed_form(kind: Any) -> None:
    run, layout = small("wsp", precision="bf16"), Layout(kind=kind, ranks=16)
    dry = dry_run(run, layout, microbatch=32, labels=LABELS)
    plan = memory(run, parameters(run, DATA), layout, microbatch=32, data_info=DATA, cuda=False)
    assert (dry.weights, dry.gradients, dry.optimizer) == (plan.weights, plan.gradients, plan.optimizer)
    assert dry.peak == pytest.approx(plan.peak - plan.optimizer, rel=0.1)
    with pytest.raises(ValueError, match="simulates fsdp or hsdp, not single"):
        dry_run(run, Layout(), microbatch=32, labels=LABELS)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "ranks"), [("mae_vit_6.5b14", 64), ("wsp_vit_6.5b14", 256)])
def test_dry_run_of_the_largest_size(name: str, ranks: int) -> None:
    run, layout = recipes.find_recipe(name)(), Layout(kind="fsdp", ranks=ranks, checkpointing=True)
    run = replace(run, budget=replace(run.budget, batch_size=8 * ranks))
    started = time.process_time()
    dry = dry_run(run, layout, microbatch=8, labels=28_000)
    assert time.process_time() - started < 60
    plan = memory(run, parameters(run, MANY), layout, microbatch=8, data_info=MANY, cuda=False)
    for name in ("weights", "gradients", "optimizer"):
        assert getattr(dry, name) == pytest.approx(getattr(plan, name), rel=0.01)
    assert dry.peak == pytest.approx(plan.peak - plan.optimizer, rel=0.1)


def benchmark(name: str) -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_peak_memory_equals_the_allocators() -> None:
    measure = benchmark("plan_memory")
    run = measure.case("wsp", "vit_s16", 16)
    peak = measure.measured(run, labels=1_000)
    assert peak > 1 << 30
    assert measure.planned(run, labels=1_000).peak == pytest.approx(peak, rel=0.1)


def test_the_plan_is_a_record_of_known_types() -> None:
    plan = make_plan("mae_vit_b16", gpus=1, device="h200")
    assert isinstance(plan, Plan)
    assert plan.record()["layout"] == "single"


def test_the_printed_command_trains_what_was_planned() -> None:
    text = render(make_plan("mae_vit_l16", gpus=64, device="h100", samples=8192))
    assert " budget.samples=8192 budget.warmup=8191 budget.microbatch=" in text
    assert "budget.samples" not in render(make_plan("mae_vit_l16", gpus=64, device="h100"))


def test_recomputation_that_a_compiler_would_ignore_is_refused() -> None:
    with pytest.raises(ValueError, match=r"parallel\.recompute_pointwise=true has no effect"):
        ParallelConfig(recompute_pointwise=True, compile=True)


def test_a_plan_of_every_optimizer() -> None:
    """SGD keeps one moment, as torch's does with momentum; AdamW two."""
    plans = {name: make_plan("mae_vit_b16", [f"optim.name={name}"], device="h100") for name in ("sgd", "lars", "adamw")}
    assert plans["sgd"].memory.optimizer == plans["lars"].memory.optimizer == plans["adamw"].memory.optimizer // 2


@pytest.mark.parametrize(("gpus", "start"), [
    (1, ["underpaint"]),
    (8, ["torchrun", "--nnodes", "1", "--nproc-per-node", "8", "-m", "underpaint"]),
    (12, ["torchrun", "--nnodes", "2", "--nproc-per-node", "6",
          "--rdzv-backend", "c10d", "--rdzv-endpoint", "FIRST_NODE:29400", "-m", "underpaint"]),
    (16, ["torchrun", "--nnodes", "2", "--nproc-per-node", "8",
          "--rdzv-backend", "c10d", "--rdzv-endpoint", "FIRST_NODE:29400", "-m", "underpaint"]),
])  # fmt: skip
def test_the_printed_command_starts_as_many_processes_as_were_planned(gpus: int, start: list[str]) -> None:
    fields = ["budget.batch_size=3072", "data.source=./my photos"]
    text = render(make_plan("mae_vit_b16", fields, gpus=gpus, device="h100"))
    words = shlex.split(next(line for line in text.splitlines() if "  command" in line).partition("command")[2])
    assert words[: len(start) + 1] == [*start, "train"]
    assert "data.source=./my photos" in words, "a shell reads it as one word"
    assert ("on every node" in text) == (gpus > 8)


def test_batch_norm_keeps_the_microbatch_of_the_recipe() -> None:
    """Another one would be another network: the statistics are those of a microbatch."""
    plan = make_plan("linear_vit_b16", device="h100")
    assert plan.microbatch == recipes.linear_vit_b16().budget.microbatch == 512
    assert any("BatchNorm" in line for line in plan.assumptions)
    assert make_plan("linear_vit_b16", ["objective.batch_norm=false"], device="h100").microbatch > 512
