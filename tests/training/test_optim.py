"""Parameter groups against tables, and LARS against the formula and timm."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import timm.optim
import torch
from torch import Tensor, nn

from support.small_runs import ENCODER
from underpaint.core import DataInfo
from underpaint.models.mae_decoder import DecoderConfig
from underpaint.objectives.classify import ClassifyConfig
from underpaint.objectives.mae import MAEConfig
from underpaint.training.optim import LARS, OptimConfig, build_optimizer, set_learning_rate

FACTS = DataInfo(seed=0, labels=("a", "b", "c"), label_count=(3, 2, 1), images=6)
DEPTH = ENCODER.depth


def groups_of(objective: nn.Module, config: OptimConfig) -> dict[str, tuple[float, float]]:
    """Name of each optimized parameter to (weight decay, factor of the rate)."""
    optimizer = build_optimizer(objective, config, layer_of=objective.layer_of)
    set_learning_rate(optimizer, 1.0)
    names = {id(parameter): name for name, parameter in objective.named_parameters()}
    found: dict[str, tuple[float, float]] = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            assert names[id(parameter)] not in found, "in two groups"
            found[names[id(parameter)]] = (group["weight_decay"], group["lr"])
    return found


def mae() -> nn.Module:
    return MAEConfig(encoder=ENCODER, decoder=DecoderConfig(width=16, depth=1, heads=2)).build(FACTS)


def classifier(**changes: Any) -> nn.Module:
    config = ClassifyConfig(encoder=replace(ENCODER, positions="sincos_trained"), stage="finetune")
    return replace(config, **changes).build(FACTS)


BLOCK_DECAYED = ("attn.qkv.weight", "attn.proj.weight", "mlp.fc1.weight", "mlp.fc2.weight")
BLOCK_PLAIN = (
    *("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"),
    *("attn.qkv.bias", "attn.proj.bias", "mlp.fc1.bias", "mlp.fc2.bias"),
)


def block_table(prefix: str, decay: float, rate: float) -> dict[str, tuple[float, float]]:
    decayed = {f"{prefix}.{name}": (decay, rate) for name in BLOCK_DECAYED}
    return decayed | {f"{prefix}.{name}": (0.0, rate) for name in BLOCK_PLAIN}


def test_groups_of_mae_pretraining() -> None:
    """Everything but biases and norms is decayed, cls and mask tokens included; frozen positions are absent."""
    expected = {
        "encoder.cls_token": (0.05, 1.0),
        "encoder.patch_embed.proj.weight": (0.05, 1.0),
        "encoder.patch_embed.proj.bias": (0.0, 1.0),
        "encoder.norm.weight": (0.0, 1.0),
        "encoder.norm.bias": (0.0, 1.0),
        "decoder.mask_token": (0.05, 1.0),
        "decoder.decoder_embed.weight": (0.05, 1.0),
        "decoder.decoder_embed.bias": (0.0, 1.0),
        "decoder.decoder_norm.weight": (0.0, 1.0),
        "decoder.decoder_norm.bias": (0.0, 1.0),
        "decoder.decoder_pred.weight": (0.05, 1.0),
        "decoder.decoder_pred.bias": (0.0, 1.0),
        **block_table("encoder.blocks.0", 0.05, 1.0),
        **block_table("encoder.blocks.1", 0.05, 1.0),
        **block_table("decoder.decoder_blocks.0", 0.05, 1.0),
    }
    assert groups_of(mae(), OptimConfig(weight_decay=0.05)) == expected


def test_groups_of_finetuning() -> None:
    """scale(layer i) = d ** (L + 1 - i); cls, positions and patch embedding are layer 0, block j is layer j + 1."""
    d = 0.65
    expected = {
        "encoder.cls_token": (0.0, d**3),
        "encoder.pos_embed": (0.0, d**3),
        "encoder.patch_embed.proj.weight": (0.05, d**3),
        "encoder.patch_embed.proj.bias": (0.0, d**3),
        "encoder.norm.weight": (0.0, 1.0),
        "encoder.norm.bias": (0.0, 1.0),
        "head.weight": (0.05, 1.0),
        "head.bias": (0.0, 1.0),
        **block_table("encoder.blocks.0", 0.05, d**2),
        **block_table("encoder.blocks.1", 0.05, d**1),
    }
    config = OptimConfig(weight_decay=0.05, layer_decay=d, decay_tokens=False)
    found = groups_of(classifier(), config)
    assert found.keys() == expected.keys()
    for name, (decay, rate) in expected.items():
        assert found[name] == (decay, pytest.approx(rate)), name


def test_mean_pooling_trains_its_norm_at_the_full_rate() -> None:
    encoder = replace(ENCODER, positions="sincos_trained", final_norm=False)
    found = groups_of(classifier(encoder=encoder, pooling="mean"), OptimConfig(layer_decay=0.5, decay_tokens=False))
    assert found["fc_norm.weight"] == found["fc_norm.bias"] == (0.0, 1.0)
    assert not any(name.startswith("encoder.norm") for name in found)


def test_a_frozen_encoder_trains_the_head_alone() -> None:
    found = groups_of(classifier(frozen_encoder=True, batch_norm=True), OptimConfig(name="lars", weight_decay=0.0))
    assert found.keys() == {"head.weight", "head.bias"}
    frozen = classifier().requires_grad_(False)
    with pytest.raises(ValueError, match="no trained parameter"):
        build_optimizer(frozen, OptimConfig(), layer_of=frozen.layer_of)


def test_adamw_steps_as_torchs_with_the_same_values() -> None:
    config = OptimConfig(base_lr=1e-3, weight_decay=0.3, betas=(0.8, 0.9))
    ours, theirs = mae(), mae()
    optimizer = build_optimizer(ours, config, layer_of=ours.layer_of)
    assert isinstance(optimizer, torch.optim.AdamW)
    trained = {name: p for name, p in theirs.named_parameters() if p.requires_grad}
    reference = torch.optim.AdamW(
        [
            {"params": [p for p in trained.values() if p.ndim > 1], "weight_decay": 0.3},
            {"params": [p for p in trained.values() if p.ndim == 1], "weight_decay": 0.0},
        ],
        lr=1e-3,
        betas=(0.8, 0.9),
        eps=1e-8,
    )
    for step in range(3):
        for (name, mine), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            if mine.requires_grad:
                gradient = torch.randn(mine.shape, generator=torch.Generator().manual_seed(step + len(name)))
                mine.grad, other.grad = gradient, gradient.clone()
        set_learning_rate(optimizer, config.peak_lr(256))
        optimizer.step()
        reference.step()
    for (name, mine), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other, msg=lambda text, name=name: f"{name}: {text}")


def test_the_peak_rate_scales_with_the_batch() -> None:
    assert OptimConfig(base_lr=1.5e-4).peak_lr(4096) == pytest.approx(2.4e-3)
    assert OptimConfig(base_lr=0.1).peak_lr(16_384) == pytest.approx(6.4)


@pytest.mark.parametrize(
    "values", [{"base_lr": 0.0}, {"clip": 0.0}, {"weight_decay": -0.1}, {"layer_decay": 0.0}, {"layer_decay": 1.1}]
)
def test_bad_values_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        OptimConfig(**values)


def naive_lars(
    weight: Tensor, gradients: list[Tensor], *, rates: list[float], momentum: float, trust: float, decay: float
) -> Tensor:
    """MAE's util/lars.py in plain numbers: v = m v + trust |w| / |g + decay w| (g + decay w), w -= lr v."""
    weight, velocity = weight.double(), torch.zeros_like(weight, dtype=torch.float64)
    for gradient, rate in zip(gradients, rates, strict=True):
        update = gradient.double()
        if weight.ndim > 1:
            update = update + decay * weight
            size, slope = float(weight.square().sum() ** 0.5), float(update.square().sum() ** 0.5)
            update = update * (trust * size / slope if size > 0 and slope > 0 else 1.0)
        velocity = momentum * velocity + update
        weight = weight - rate * velocity
    return weight


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_lars_is_maes(decay: float) -> None:
    starts = [draw(5, 3, seed=0), draw(5, seed=1), torch.zeros(4, 2), draw(2, 3, seed=2)]
    gradients = [[draw(*start.shape, seed=10 * n + k) for n in range(4)] for k, start in enumerate(starts)]
    gradients[3] = [torch.zeros(2, 3)] * 4  # no gradient at all
    rates = [0.0, 6.4, 3.2, 0.1]
    parameters = [nn.Parameter(start.clone()) for start in starts]
    groups = [{"params": parameters, "weight_decay": decay, "lr_scale": 1.0}]
    optimizer = LARS(groups, momentum=0.9, trust=0.001)
    for step, rate in enumerate(rates):
        set_learning_rate(optimizer, rate)
        for parameter, own in zip(parameters, gradients, strict=True):
            parameter.grad = own[step].clone()
        optimizer.step()
    for parameter, start, own in zip(parameters, starts, gradients, strict=True):
        expected = naive_lars(start, own, rates=rates, momentum=0.9, trust=0.001, decay=decay)
        torch.testing.assert_close(parameter.detach().double(), expected, rtol=1e-5, atol=1e-6)


def test_lars_is_timms_where_the_definitions_agree() -> None:
    """Matrices without decay; timm skips or adapts vectors differently."""
    mine, theirs = (nn.Parameter(draw(6, 4, seed=0)) for _ in range(2))
    optimizer = LARS([{"params": [mine], "lr_scale": 1.0}], momentum=0.9, trust=0.001)
    reference = timm.optim.Lars([theirs], lr=2.0, momentum=0.9, trust_coeff=0.001, always_adapt=True)
    for step in range(5):
        set_learning_rate(optimizer, 2.0)
        mine.grad, theirs.grad = draw(6, 4, seed=step), draw(6, 4, seed=step)
        optimizer.step()
        reference.step()
    torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("name", ["adamw", "sgd", "lars"])
def test_an_optimizer_without_the_compilers_wrappers_has_the_bits_and_the_state_of_torchs(name: str) -> None:
    config = OptimConfig(name=name, weight_decay=0.1)  # type: ignore[arg-type]
    mine, theirs = (nn.Linear(4, 3) for _ in range(2))
    theirs.load_state_dict(mine.state_dict())
    optimizer = build_optimizer(mine, config, layer_of=lambda name: 0)
    kind = type(optimizer).__mro__[1]
    fields = {"adamw": {"betas": config.betas, "fused": True}, "sgd": {"momentum": 0.9}, "lars": {"momentum": 0.9}}[
        name
    ]
    groups = [{"params": [theirs.bias], "weight_decay": 0.0}, {"params": [theirs.weight], "weight_decay": 0.1}]
    reference: Any = kind(groups, **({"trust": config.trust} if name == "lars" else {"lr": 0.0}), **fields)
    for step in range(4):
        for made, network in ((optimizer, mine), (reference, theirs)):
            for group in made.param_groups:
                group["lr"] = 0.1 * step
            for parameter in network.parameters():
                parameter.grad = draw(*parameter.shape, seed=step)
            made.step()
            made.zero_grad()
            assert all(parameter.grad is None for parameter in network.parameters())
        again = build_optimizer(mine, config, layer_of=lambda name: 0)
        again.load_state_dict(optimizer.state_dict())
        optimizer = again
    for one, other in zip(mine.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one, other)
        assert one.requires_grad
    assert_equal_states(optimizer.state_dict()["state"], reference.state_dict()["state"])


def assert_equal_states(one: dict[int, dict[str, Tensor]], other: dict[int, dict[str, Tensor]]) -> None:
    assert one.keys() == other.keys()
    for place, values in one.items():
        assert all(torch.equal(values[key], other[place][key]) for key in values)
