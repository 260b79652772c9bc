"""Gradients of whole objectives against loops and against transformers, in float64 on a grid that is not square.

The loops share nothing with the package but the weights: no attention kernel, no gathered patches, no fused projection.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import ViTConfig as TheirConfig
from transformers import ViTForImageClassification

from underpaint.core import PAD_LABEL, DataInfo
from underpaint.models.mae_decoder import DecoderConfig
from underpaint.models.vit import ViTConfig
from underpaint.objectives.classify import ClassifyConfig
from underpaint.objectives.mae import MAE, MAEConfig

ENCODER = ViTConfig(size=(16, 40), patch=8, width=24, depth=2, heads=3)
COUNT = 3
CLOSE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-9}

Weights = dict[str, Tensor]


def perturbed(network: torch.nn.Module) -> torch.nn.Module:
    """In float64, with weights everywhere that matter: no zero head, no norm of ones."""
    generator = torch.Generator().manual_seed(7)
    network.double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return network


def batch_of(channels: int = 3) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(COUNT, channels, *ENCODER.size, generator=generator, dtype=torch.float64)
    labels = torch.tensor([[0, 2], [1, PAD_LABEL], [4, 3]])
    return {
        "image": image,
        "position": torch.arange(COUNT),
        "weight": torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64),
        "labels": labels,
    }


def norm(x: Tensor, w: Weights, name: str) -> Tensor:
    """Layer norm, token by token."""
    rows = []
    for row in x:
        mean = row.sum() / len(row)
        variance = ((row - mean) ** 2).sum() / len(row)
        rows.append((row - mean) / (variance + 1e-6).sqrt() * w[f"{name}.weight"] + w[f"{name}.bias"])
    return torch.stack(rows)


def linear(x: Tensor, w: Weights, name: str) -> Tensor:
    return torch.stack([w[f"{name}.weight"] @ row + w[f"{name}.bias"] for row in x])


def block(x: Tensor, w: Weights, name: str, heads: int) -> Tensor:
    """One pre-norm block on the tokens of one image, head by head and query by query."""
    width = x.shape[1] // heads
    q, k, v = linear(norm(x, w, f"{name}.norm1"), w, f"{name}.attn.qkv").split(x.shape[1], dim=1)
    attended = []
    for query in range(len(x)):
        heads_of = []
        for head in range(heads):
            part = slice(head * width, (head + 1) * width)
            scores = torch.stack([(q[query, part] * k[key, part]).sum() / math.sqrt(width) for key in range(len(x))])
            shares = scores.exp() / scores.exp().sum()
            heads_of.append(sum(share * v[key, part] for key, share in enumerate(shares)))
        attended.append(torch.cat(heads_of))
    x = x + linear(torch.stack(attended), w, f"{name}.attn.proj")
    hidden = linear(norm(x, w, f"{name}.norm2"), w, f"{name}.mlp.fc1")
    hidden = 0.5 * hidden * (1 + torch.erf(hidden / math.sqrt(2)))
    return x + linear(hidden, w, f"{name}.mlp.fc2")


def tile(image: Tensor, number: int) -> Tensor:
    """One patch of one image, (c, p, p), numbered by rows."""
    row, column = divmod(number, ENCODER.grid[1])
    p = ENCODER.patch
    return image[:, row * p : (row + 1) * p, column * p : (column + 1) * p]


def encode(image: Tensor, patches: list[int], w: Weights) -> Tensor:
    """The tokens of some patches of one image, cls first."""
    tokens = [w["encoder.cls_token"][0, 0] + w["encoder.pos_embed"][0, 0]]
    for number in patches:
        embedded = (w["encoder.patch_embed.proj.weight"] * tile(image, number)).sum(dim=(1, 2, 3))
        tokens.append(embedded + w["encoder.patch_embed.proj.bias"] + w["encoder.pos_embed"][0, 1 + number])
    x = torch.stack(tokens)
    for index in range(ENCODER.depth):
        x = block(x, w, f"encoder.blocks.{index}", ENCODER.heads)
    return norm(x, w, "encoder.norm") if ENCODER.final_norm else x


def naive_mae(mae: MAE, batch: dict[str, Tensor], w: Weights) -> Tensor:
    keep, hidden = mae.masks(batch["position"])
    config, total = mae.config, torch.zeros((), dtype=torch.float64)
    for image, weight, kept, masked in zip(batch["image"], batch["weight"], keep, hidden, strict=True):
        tokens = linear(encode(image, kept.tolist(), w), w, "decoder.decoder_embed")
        position = w["decoder.decoder_pos_embed"][0]
        x = torch.zeros(1 + ENCODER.num_patches, config.decoder.width, dtype=torch.float64)
        rows = [tokens[0] + position[0]]
        for number in range(ENCODER.num_patches):  # in the order of the image, as the reference has them
            place = kept.tolist().index(number) + 1 if number in kept else None
            rows.append((w["decoder.mask_token"][0, 0] if place is None else tokens[place]) + position[1 + number])
        x = torch.stack(rows)
        for index in range(config.decoder.depth):
            x = block(x, w, f"decoder.decoder_blocks.{index}", config.decoder.heads)
        predicted = linear(norm(x, w, "decoder.decoder_norm"), w, "decoder.decoder_pred")
        loss = torch.zeros((), dtype=torch.float64)
        for number in masked.tolist():
            pixels = tile(image, number).permute(1, 2, 0).flatten()
            target = (pixels - pixels.mean()) / (pixels.var() + 1e-6).sqrt()
            loss = loss + ((predicted[1 + number] - target) ** 2).mean()
        total = total + weight * loss / len(masked)
    return total / COUNT


def naive_classify(batch: dict[str, Tensor], w: Weights) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for image, weight, labels in zip(batch["image"], batch["weight"], batch["labels"], strict=True):
        feature = encode(image, list(range(ENCODER.num_patches)), w)[0]
        scores = w["head.weight"] @ feature + w["head.bias"]
        present = [label for label in labels.tolist() if label != PAD_LABEL]
        logs = scores - scores.exp().sum().log()
        total = total - weight * sum(logs[label] for label in present) / len(present)
    return total / COUNT


def assert_equal_gradients(network: torch.nn.Module, loss: Tensor, expected: Tensor, copies: Weights) -> None:
    torch.testing.assert_close(loss, expected, **CLOSE)
    loss.backward()
    expected.backward()
    compared = 0
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert copies[name].grad is not None, name
            torch.testing.assert_close(parameter.grad, copies[name].grad, **CLOSE, msg=lambda m, n=name: f"{n}: {m}")
            compared += 1
    assert compared > 20


def copies_of(network: torch.nn.Module) -> Weights:
    return {
        name: value.detach().clone().requires_grad_(value.is_floating_point())
        for name, value in network.state_dict().items()
    }


@pytest.fixture
def _float64_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    """The objective compares pixels in fp32 by promise; here it is let go, so that the comparison is of float64."""
    plain = Tensor.float
    monkeypatch.setattr(Tensor, "float", lambda value: value if value.dtype == torch.float64 else plain(value))


@pytest.mark.usefixtures("_float64_targets")
def test_gradients_of_mae_are_those_of_a_loop() -> None:
    config = MAEConfig(encoder=ENCODER, decoder=DecoderConfig(width=16, depth=1, heads=2), mask_ratio=0.6)
    mae = perturbed(config.build(DataInfo(seed=3)))
    assert isinstance(mae, MAE)
    copies = copies_of(mae)
    assert_equal_gradients(mae, mae(batch_of()).loss, naive_mae(mae, batch_of(), copies), copies)


@pytest.mark.usefixtures("_float64_targets")
def test_gradients_of_classification_are_those_of_a_loop() -> None:
    network = perturbed(ClassifyConfig(encoder=ENCODER).build(DataInfo(seed=3, labels=tuple("abcde"))))
    copies = copies_of(network)
    assert_equal_gradients(network, network(batch_of()).loss, naive_classify(batch_of(), copies), copies)


@pytest.mark.usefixtures("_float64_targets")
def test_gradients_of_classification_are_those_of_transformers() -> None:
    encoder = ViTConfig(size=(16, 40), patch=8, width=24, depth=2, heads=3, positions="learned")
    network = perturbed(ClassifyConfig(encoder=encoder, init="mae").build(DataInfo(seed=3, labels=tuple("abcde"))))
    config = TheirConfig(
        image_size=list(encoder.size),
        patch_size=encoder.patch,
        hidden_size=encoder.width,
        num_hidden_layers=encoder.depth,
        num_attention_heads=encoder.heads,
        intermediate_size=4 * encoder.width,
        layer_norm_eps=1e-6,
        num_labels=5,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    twin = ViTForImageClassification(config).double().eval()
    named = dict(twin.named_parameters())
    pairs = list(matched(dict(network.named_parameters()), named))
    assert {theirs for _, parts in pairs for theirs in parts} == named.keys()
    with torch.no_grad():
        for ours, parts in pairs:
            for theirs, value in zip(parts, ours.chunk(len(parts)), strict=True):
                named[theirs].copy_(value)
    batch = batch_of()
    labels = torch.tensor([0, 1, 4])
    batch |= {"labels": labels[:, None], "weight": torch.ones(COUNT, dtype=torch.float64)}
    loss = network(batch).loss
    expected = F.cross_entropy(twin(pixel_values=batch["image"]).logits, labels)
    torch.testing.assert_close(loss, expected, **CLOSE)
    loss.backward()
    expected.backward()
    for ours, parts in pairs:
        gradients = [named[theirs].grad for theirs in parts]
        assert all(gradient is not None for gradient in gradients)
        torch.testing.assert_close(ours.grad, torch.cat(gradients), **CLOSE, msg=lambda m, n=parts: f"{n}: {m}")  # type: ignore[arg-type]


def matched(ours: dict[str, torch.nn.Parameter], theirs: dict[str, Any]) -> list[tuple[torch.nn.Parameter, list[str]]]:
    """Each parameter of ours with the names of transformers' that it holds, in order (q, k and v in one)."""
    leaves = {
        "norm1": [["layernorm_before"]],
        "norm2": [["layernorm_after"]],
        "attn.qkv": [
            ["attention.attention.query", "attention.attention.key", "attention.attention.value"],
            ["attention.q_proj", "attention.k_proj", "attention.v_proj"],
        ],
        "attn.proj": [["attention.output.dense"], ["attention.o_proj"]],
        "mlp.fc1": [["intermediate.dense"], ["mlp.fc1"]],
        "mlp.fc2": [["output.dense"], ["mlp.fc2"]],
    }
    plain = {
        "encoder.cls_token": "vit.embeddings.cls_token",
        "encoder.pos_embed": "vit.embeddings.position_embeddings",
        "encoder.patch_embed.proj.weight": "vit.embeddings.patch_embeddings.projection.weight",
        "encoder.patch_embed.proj.bias": "vit.embeddings.patch_embeddings.projection.bias",
        "encoder.norm.weight": "vit.layernorm.weight",
        "encoder.norm.bias": "vit.layernorm.bias",
        "head.weight": "classifier.weight",
        "head.bias": "classifier.bias",
    }
    pairs = []
    for name, parameter in ours.items():
        if name in plain:
            pairs.append((parameter, [plain[name]]))
            continue
        index, _, leaf = name.removeprefix("encoder.blocks.").partition(".")
        module, _, kind = leaf.rpartition(".")
        spellings = [
            [f"{stem}{index}.{part}.{kind}" for part in parts]
            for stem in ("vit.encoder.layer.", "vit.layers.")
            for parts in leaves[module]
        ]
        pairs.append((parameter, next(names for names in spellings if names[0] in theirs)))
    return pairs
