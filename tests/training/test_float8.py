"""precision=float8: refused where it cannot run or cannot pay; where it can, the same network with float8 products."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchao.float8.float8_linear import Float8Linear

from support.small_runs import mae_run, make_images
from underpaint import recipes
from underpaint.core import DataInfo
from underpaint.models.init import build_without_memory
from underpaint.models.mae_decoder import DecoderConfig
from underpaint.models.vit import Block, ViTConfig
from underpaint.objectives.classify import ClassifyConfig
from underpaint.objectives.mae import MAEConfig
from underpaint.plan import make_plan
from underpaint.run import execute
from underpaint.training.float8 import convert, pays, require_support

WIDE = ViTConfig(size=(16, 16), patch=4, width=352, depth=2, heads=2)
"""Small, but qkv (1,056 outputs) and fc1 (1,408) are large enough to pay."""
MAE_WIDE = MAEConfig(encoder=WIDE, decoder=DecoderConfig(width=32, depth=1, heads=2))
GPU = torch.device("cuda")


def blocks(network: nn.Module) -> list[nn.Module]:
    return [module for module in network.modules() if isinstance(module, Block)]


def batch() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {"image": torch.randn(4, 3, 16, 16), "position": torch.arange(4), "weight": torch.ones(4)}


def test_it_is_refused_on_a_processor(tmp_path: Path) -> None:
    run = replace(mae_run(make_images(tmp_path / "images"), steps=2), precision="float8")
    with pytest.raises(ValueError, match="precision=float8 needs a CUDA GPU, and this run is on cpu; choose"):
        execute(run, tmp_path / "run")
    assert not (tmp_path / "run" / "run.json").exists()


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: "NVIDIA A100")
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: (8, 0))
    with pytest.raises(ValueError, match=r"capability 8\.9 \(Ada, Hopper\) or later; NVIDIA A100 has 8\.0"):
        require_support("float8", GPU, compiled=True)
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: (9, 0))
    with pytest.raises(ValueError, match=r"set parallel\.compile=true"):
        require_support("float8", GPU, compiled=False)
    require_support("float8", GPU, compiled=True)
    monkeypatch.setattr("underpaint.training.float8.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs torchao; install it with: pip install '\.\[float8\]'"):
        require_support("float8", GPU, compiled=True)


def test_small_layers_stay_and_a_small_network_is_refused() -> None:
    assert not pays(nn.Linear(768, 768))
    assert not pays(nn.Linear(3072, 768))
    assert pays(nn.Linear(768, 2304))
    assert pays(nn.Linear(5120, 1024))
    assert not pays(nn.Linear(5128, 1024)), "16 does not divide it"
    assert not pays(nn.LayerNorm(8192))
    small = ClassifyConfig(encoder=replace(WIDE, width=64, heads=2)).build(DataInfo(seed=0, labels=("a", "b")))
    with pytest.raises(ValueError, match="this network has none; choose precision=bf16"):
        convert(small, blocks(small), emulate=True)


def test_names_values_and_order_of_the_weights_stay() -> None:
    plain, eighth = (MAE_WIDE.build(DataInfo(seed=1)) for _ in range(2))
    assert convert(eighth, blocks(eighth), emulate=True) is eighth
    assert sum(isinstance(module, Float8Linear) for module in eighth.modules()) == 4
    assert [name for name, _ in eighth.named_parameters()] == [name for name, _ in plain.named_parameters()]
    for name, value in plain.state_dict().items():
        assert torch.equal(eighth.state_dict()[name], value), name

    def built() -> nn.Module:
        network = MAE_WIDE.build(DataInfo(seed=1))
        return convert(network, blocks(network), emulate=True)

    network, values = build_without_memory(built)  # as on many ranks
    for name, value in plain.state_dict().items():
        assert torch.equal(values[name](), value), name
        assert network.get_parameter(name).shape == value.shape


def rounded(value: Tensor) -> Tensor:
    """To the nearest of float8's 4 bits of exponent and 3 of mantissa, after scaling the largest one to 448."""
    scale = 448.0 / value.abs().max()
    return (value * scale).to(torch.float8_e4m3fn).float() / scale


def test_a_layer_is_the_product_of_rounded_factors() -> None:
    network = MAE_WIDE.build(DataInfo(seed=1))
    plain = deepcopy(network)
    convert(network, blocks(network), emulate=True)
    torch.manual_seed(1)
    given, layer, exact = (
        torch.randn(5, 17, 352),
        *(n.get_submodule("encoder.blocks.0.mlp.fc1") for n in (network, plain)),
    )
    expected = rounded(given) @ rounded(layer.weight.detach()).T + layer.bias.detach()
    torch.testing.assert_close(layer(given), expected, rtol=1e-4, atol=1e-5)
    assert not torch.equal(layer(given), exact(given))


def test_it_trains_as_the_plain_network_to_the_precision_of_float8() -> None:
    network = MAE_WIDE.build(DataInfo(seed=1))
    plain, average = deepcopy(network), deepcopy(network)
    convert(network, blocks(network), emulate=True)
    copy = deepcopy(network)  # as the moving average is made
    steps = [one(batch()) for one in (network, plain, copy)]
    for step in steps:
        step.loss.backward()
    assert steps[0].loss.item() == pytest.approx(steps[1].loss.item(), rel=0.01)
    assert steps[0].loss.item() != steps[1].loss.item()
    assert steps[0].loss.item() == steps[2].loss.item()
    for (name, mine), theirs in zip(network.named_parameters(), plain.parameters(), strict=True):
        if theirs.grad is None or not theirs.grad.norm():
            continue
        assert mine.grad is not None, name
        assert mine.grad.dtype == torch.float32
        assert nn.functional.cosine_similarity(mine.grad.flatten(), theirs.grad.flatten(), dim=0) > 0.9, name
    average.load_state_dict(network.state_dict())  # the product is a plain network


def test_the_plan_takes_it_where_a_device_does() -> None:
    run = replace(recipes.mae_vit_h14(), precision="float8")
    plan, plain = (make_plan(each, gpus=8, device="h100") for each in (run, replace(run, precision="bf16")))
    assert (plan.seconds, plan.memory) == (plain.seconds, plain.memory)
    assert any("what float8 gains has not been measured" in line for line in plan.assumptions)
    for device in ("a100-80", "a10g", "cpu"):
        with pytest.raises(ValueError, match=rf"device={device} does not multiply in float8; those that do are h100"):
            make_plan(run, gpus=8, device=device)
