"""What needs a GPU, in one command for a GPU machine, under eight minutes: ``pytest -m cuda``.

Written without one: no result of these tests has been seen yet. The helpers are run on the CPU by
``test_the_helpers_run_without_a_gpu``, so that what fails on a GPU is more likely the code than the test.
"""

from __future__ import annotations

import gc
import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
import torch
from torch import Tensor, nn

from support.ranks import checkpoint, losses
from support.small_runs import mae_run, wsp_run
from underpaint import config
from underpaint.models.attention import attention
from underpaint.models.mae_decoder import DecoderConfig
from underpaint.models.recompute import make_lean
from underpaint.models.sizes import SIZES
from underpaint.objectives.classify import ClassifyConfig
from underpaint.objectives.mae import MAEConfig
from underpaint.plan.accelerators import GIB
from underpaint.plan.memory import memory
from underpaint.plan.parallel_layout import Layout
from underpaint.plan.parameters import assumed_data, parameters
from underpaint.recipes import mae_vit_b16, wsp_vit_b16
from underpaint.run import Run, execute
from underpaint.training import float8, parallel
from underpaint.training.loop import LoopConfig, Precision, TrainState, train
from underpaint.training.optim import build_optimizer
from underpaint.training.parallel import ParallelConfig
from underpaint.training.ranks import Ranks

LABELS = 1_000
cuda = pytest.mark.cuda

# The compiler of torch 2.11 imports what torch itself calls deprecated, and looks at gradients that are not there.
pytestmark = [
    pytest.mark.filterwarnings("ignore:torch.get_autocast_gpu_dtype:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"),
]
DEVICE = "cuda"


@pytest.fixture(autouse=True)
def needs_a_gpu(request: pytest.FixtureRequest) -> Iterator[None]:
    marked = request.node.get_closest_marker("cuda") is not None
    if marked and not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    yield
    if marked:
        gc.collect()
        torch.cuda.empty_cache()


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Without the type checker of the tests, which a compiler cannot look through."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def case(stage: str, *, size: str = "vit_b16", microbatch: int = 32, precision: Precision = "bf16") -> Run:
    """The published recipe on an encoder of this size, one microbatch a step."""
    run = mae_vit_b16() if stage == "mae" else wsp_vit_b16()
    encoder = replace(SIZES[size], positions=run.objective.encoder.positions)
    objective: Any = replace(run.objective, encoder=encoder)  # pyright: ignore[reportArgumentType]
    budget = replace(run.budget, batch_size=microbatch, microbatch=microbatch)
    return replace(run, objective=objective, budget=budget, precision=precision)


def small_case(stage: str, precision: Precision = "fp32") -> Run:
    """The same on a network for a processor."""
    run = case(stage, size="vit_laptop8", microbatch=4, precision=precision)
    if stage == "mae":
        decoder = DecoderConfig(width=32, depth=1, heads=2)
        return replace(run, objective=MAEConfig(encoder=run.objective.encoder, decoder=decoder))
    return replace(run, objective=ClassifyConfig(encoder=run.objective.encoder))


def batch_of(run: Run, device: str) -> dict[str, Tensor]:
    encoder, size = run.objective.encoder, run.budget.batch_size
    torch.manual_seed(0)
    batch = {
        "image": torch.randn(size, encoder.channels, *encoder.size),
        "position": torch.arange(size),
        "weight": torch.ones(size),
        "labels": torch.arange(size)[:, None] % LABELS,
    }
    return {name: value.to(device) for name, value in batch.items()}


def build(run: Run, device: str, *, layout: ParallelConfig | None = None) -> TrainState:
    """As ``run.execute`` does it on one device."""
    network = run.objective.build(assumed_data(LABELS))
    if run.precision == "float8":
        float8.convert(network, network.blocks())
    network.to(device)
    if layout is not None:
        parallel.prepare_blocks(network.blocks(), layout, make_lean=make_lean)
    return TrainState(network, build_optimizer(network, run.optim, layer_of=network.layer_of))


def train_steps(state: TrainState, run: Run, device: str, *, steps: int, rate: float = 1e-4) -> list[float]:
    """The losses of some steps on one and the same batch."""
    seen: list[float] = []
    loop = LoopConfig(
        steps=state.step + steps,
        batch_size=run.budget.batch_size,
        accumulation=1,
        clip=run.optim.clip,
        precision=run.precision,
        ema_decay=0.0,
        log_every=1,
        save_every=10**9,
        evaluate_every=10**9,
        max_skipped=3,
    )
    train(
        state,
        repeat(batch_of(run, device)),
        config=loop,
        schedule=lambda samples: rate,
        log=lambda state, values: seen.append(float(values["loss"])),
        save=lambda state: None,
        evaluate=lambda state: None,
        stopped=lambda: False,
    )
    return seen


def planned_peak(run: Run, *, checkpointing: bool, on_gpu: bool) -> int:
    counted = parameters(run, assumed_data(LABELS))
    layout = Layout(checkpointing=checkpointing)
    size = run.budget.microbatch
    return memory(run, counted, layout, microbatch=size, data_info=assumed_data(LABELS), cuda=on_gpu).peak


@pytest.mark.parametrize("stage", ["mae", "wsp"])
def test_the_helpers_run_without_a_gpu(stage: str) -> None:
    run = small_case(stage)
    state = build(run, "cpu", layout=ParallelConfig(layout="single", checkpoint_activations=True))
    seen = train_steps(state, run, "cpu", steps=6, rate=1e-3)
    assert len(seen) == 6
    assert seen[-1] < seen[0]
    assert planned_peak(run, checkpointing=True, on_gpu=True) > 0
    assert case(stage, precision="float8").precision == "float8"


@cuda
@pytest.mark.parametrize("stage", ["mae", "wsp"])
def test_bf16_trains_and_stays_near_fp32(stage: str) -> None:
    found = {}
    for precision in ("fp32", "bf16"):
        run = case(stage, microbatch=16, precision=precision)
        state = build(run, DEVICE)
        assert state.optimizer.defaults["fused"]
        found[precision] = train_steps(state, run, DEVICE, steps=8)
        assert all(value.dtype == torch.float32 for value in state.objective.parameters())
    assert found["bf16"][-1] < found["bf16"][0]
    assert found["bf16"] == pytest.approx(found["fp32"], rel=0.02)


@cuda
@pytest.mark.parametrize("stage", ["mae", "wsp"])
def test_the_loss_is_that_of_the_processor(stage: str) -> None:
    run = small_case(stage)
    there, here = (train_steps(build(run, device), run, device, steps=5) for device in (DEVICE, "cpu"))
    assert there == pytest.approx(here, rel=1e-4)


@cuda
def test_attention_takes_a_fused_kernel() -> None:
    from torch.nn.attention import SDPBackend, sdpa_kernel

    qkv = torch.randn(8, 197, 3, 12, 64, device=DEVICE, dtype=torch.bfloat16).requires_grad_()
    with sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]):
        attention(qkv).sum().backward()


@cuda
@pytest.mark.parametrize("stage", ["mae", "wsp"])
def test_compiled_blocks_compute_the_same(stage: str, unchecked: None) -> None:
    run = case(stage, microbatch=16)
    plain = train_steps(build(run, DEVICE), run, DEVICE, steps=4)
    compiled = build(run, DEVICE, layout=ParallelConfig(layout="single", compile=True))
    assert train_steps(compiled, run, DEVICE, steps=4) == pytest.approx(plain, rel=0.01)


@cuda
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(
    ("stage", "size", "microbatch"), [("mae", "vit_b16", 128), ("wsp", "vit_b16", 64), ("wsp", "vit_l16", 32)]
)
def test_the_planned_memory_is_the_allocators(stage: str, size: str, microbatch: int, checkpointing: bool) -> None:
    run = case(stage, size=size, microbatch=microbatch)
    planned = planned_peak(run, checkpointing=checkpointing, on_gpu=True)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    layout = ParallelConfig(layout="single", checkpoint_activations=checkpointing)
    train_steps(build(run, DEVICE, layout=layout), run, DEVICE, steps=2)
    assert planned > GIB
    assert torch.cuda.max_memory_allocated() - before == pytest.approx(planned, rel=0.1)


@cuda
def test_fsdp_on_one_gpu_computes_the_same() -> None:
    """A mesh of one: gathering and reduction over nccl, in bf16 with fp32 reduction."""
    import torch.distributed as dist

    run = case("wsp", microbatch=16)
    plain = train_steps(build(run, DEVICE), run, DEVICE, steps=4)
    dist.init_process_group("cpu:gloo,cuda:nccl", store=dist.HashStore(), rank=0, world_size=1)
    try:
        network: nn.Module = run.objective.build(assumed_data(LABELS)).to(DEVICE)
        layout = ParallelConfig(layout="fsdp", checkpoint_activations=True)
        device = torch.device(DEVICE, 0)
        parallel.shard(network, layout, ranks=Ranks(), device=device, blocks=network.blocks(), bf16=True)
        parallel.prepare_blocks(network.blocks(), layout, make_lean=make_lean)
        state = TrainState(network, build_optimizer(network, run.optim, layer_of=network.layer_of))
        assert train_steps(state, run, DEVICE, steps=4) == pytest.approx(plain, rel=0.02)
    finally:
        dist.destroy_process_group()


@cuda
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_continued_run_has_the_same_bits(images: Path, tmp_path: Path, asynchronous: bool) -> None:
    given = ["device=cuda", "precision=bf16", f"cadence.asynchronous={str(asynchronous).lower()}"]
    run = config.override(wsp_run(images, steps=6), given)
    execute(run, tmp_path / "whole")
    folder = Path(shutil.copytree(tmp_path / "whole", tmp_path / "half"))
    (folder / "result.json").unlink()
    shutil.rmtree(folder / "checkpoints" / "step-00000006")
    execute(run, folder)
    assert losses(folder) == losses(tmp_path / "whole")
    for group in ("model", "optimizer", "average"):
        mine, theirs = (checkpoint(where, 6, group) for where in (folder, tmp_path / "whole"))
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(value, theirs[name]) for name, value in mine.items())


@cuda
def test_a_run_of_the_gpu_goes_on_without_one(images: Path, tmp_path: Path) -> None:
    run = mae_run(images, steps=6)
    execute(config.override(run, ["device=cuda"]), tmp_path / "whole")
    folder = Path(shutil.copytree(tmp_path / "whole", tmp_path / "moved"))
    (folder / "result.json").unlink()
    shutil.rmtree(folder / "checkpoints" / "step-00000006")
    execute(run, folder)
    assert losses(folder) == pytest.approx(losses(tmp_path / "whole"), rel=1e-4)


@cuda
def test_float8_trains_near_bf16(unchecked: None) -> None:
    capability = torch.cuda.get_device_capability()
    run = case("wsp", microbatch=16, precision="float8")
    if capability < float8.CAPABILITY:
        with pytest.raises(ValueError, match="compute capability"):
            float8.require_support("float8", torch.device(DEVICE), compiled=True)
        return
    pytest.importorskip("torchao")
    float8.require_support("float8", torch.device(DEVICE), compiled=True)
    state = build(run, DEVICE, layout=ParallelConfig(layout="single", compile=True))
    eighth = train_steps(state, run, DEVICE, steps=6)
    plain = train_steps(build(replace(run, precision="bf16"), DEVICE), replace(run, precision="bf16"), DEVICE, steps=6)
    assert eighth[-1] < eighth[0]
    assert eighth == pytest.approx(plain, rel=0.05)
