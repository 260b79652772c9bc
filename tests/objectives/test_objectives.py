"""The losses against independent oracles: transformers' ViTMAE, naive loops, brute force over dense targets."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F
from transformers import ViTMAEConfig, ViTMAEForPreTraining

from underpaint.core import PAD_LABEL, DataInfo, weighted_mean
from underpaint.models.mae_decoder import DecoderConfig
from underpaint.models.vit import ViTConfig
from underpaint.objectives.classify import (
    ClassifyConfig,
    binary_cross_entropy,
    inverse_document_frequency,
    softmax_cross_entropy,
    target_mass,
)
from underpaint.objectives.mae import MAE, MAEConfig, patch_pixels, random_masking, scatter_patches
from underpaint.objectives.scores import reduce

FACTS = DataInfo(seed=0)


def build_mae(size: tuple[int, int] = (32, 32), **changes) -> MAE:
    encoder = ViTConfig(size=size, patch=8, width=32, depth=2, heads=4)
    return MAEConfig(encoder=encoder, decoder=DecoderConfig(width=24, depth=2, heads=4), **changes).build(FACTS)


def batch_of(size: tuple[int, int], count: int = 3) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(count, 3, *size, generator=generator)
    return {"image": image, "position": torch.arange(10, 10 + count), "weight": torch.ones(count)}


def hugging_face_twin(mae: MAE) -> ViTMAEForPreTraining:
    """The same network in transformers, with the same weights."""
    encoder, decoder = mae.config.encoder, mae.config.decoder
    config = ViTMAEConfig(
        image_size=encoder.size[0],
        patch_size=encoder.patch,
        hidden_size=encoder.width,
        num_hidden_layers=encoder.depth,
        num_attention_heads=encoder.heads,
        intermediate_size=4 * encoder.width,
        layer_norm_eps=1e-6,
        qkv_bias=True,
        norm_pix_loss=True,
        mask_ratio=mae.config.mask_ratio,
        decoder_hidden_size=decoder.width,
        decoder_num_hidden_layers=decoder.depth,
        decoder_num_attention_heads=decoder.heads,
        decoder_intermediate_size=4 * decoder.width,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    twin = ViTMAEForPreTraining(config)
    expected = twin.state_dict()
    found = {theirs(name, expected): value for name, value in ours_split(mae).items()}
    missing, unexpected = twin.load_state_dict(found, strict=False)
    assert (missing, unexpected) == ([], [])
    return twin


def ours_split(mae: MAE) -> dict[str, torch.Tensor]:
    """Our tensors with the fused qkv cut in three."""
    split = {}
    for name, value in mae.state_dict().items():
        if ".qkv." in name:
            for part, third in zip(("query", "key", "value"), value.chunk(3), strict=True):
                split[name.replace("qkv", part)] = third
        else:
            split[name] = value
    return split


def theirs(name: str, expected: dict[str, torch.Tensor]) -> str:
    """Our name in transformers' spelling (paper.md 6.1; both spellings of the attention module of its releases)."""
    simple = {
        "encoder.cls_token": "vit.embeddings.cls_token",
        "encoder.pos_embed": "vit.embeddings.position_embeddings",
        "encoder.patch_embed.proj.weight": "vit.embeddings.patch_embeddings.projection.weight",
        "encoder.patch_embed.proj.bias": "vit.embeddings.patch_embeddings.projection.bias",
        "encoder.norm.weight": "vit.layernorm.weight",
        "encoder.norm.bias": "vit.layernorm.bias",
    }
    if name in simple:
        return simple[name]
    for ours, stem in (
        ("encoder.blocks.", "vit.encoder.layer."),
        ("decoder.decoder_blocks.", "decoder.decoder_layers."),
    ):
        if name.startswith(ours):
            index, _, leaf = name.removeprefix(ours).partition(".")
            leaves = {
                "norm1": ["layernorm_before"],
                "norm2": ["layernorm_after"],
                "attn.query": ["attention.attention.query", "attention.q_proj"],
                "attn.key": ["attention.attention.key", "attention.k_proj"],
                "attn.value": ["attention.attention.value", "attention.v_proj"],
                "attn.proj": ["attention.output.dense", "attention.o_proj"],
                "mlp.fc1": ["intermediate.dense", "mlp.fc1"],
                "mlp.fc2": ["output.dense", "mlp.fc2"],
            }
            module, _, kind = leaf.rpartition(".")
            stems = [stem, stem.replace("encoder.layer.", "layers.").replace("decoder_layers", "layers")]
            candidates = [f"{s}{index}.{spelling}.{kind}" for s in stems for spelling in leaves[module]]
            return next(candidate for candidate in candidates if candidate in expected)
    return name


@pytest.mark.parametrize("mask_ratio", [0.75, 0.5])
def test_mae_equals_transformers_in_loss_and_gradients(mask_ratio: float) -> None:
    mae = build_mae(mask_ratio=mask_ratio)
    twin, batch = hugging_face_twin(mae), batch_of((32, 32))
    noise = torch.empty(3, 16)
    keep, hidden = mae.masks(batch["position"])
    noise.scatter_(1, torch.cat([keep, hidden], dim=1), torch.arange(16.0).expand(3, -1))
    theirs_out = twin(pixel_values=batch["image"], noise=noise)
    loss = mae(batch).loss
    torch.testing.assert_close(loss, theirs_out.loss, rtol=1e-5, atol=1e-5)
    loss.backward()
    theirs_out.loss.backward()
    gradients = dict(twin.named_parameters())
    for name, parameter in mae.named_parameters():
        if parameter.grad is None:
            continue
        if ".qkv." in name:
            parts = [theirs(name.replace("qkv", part), gradients) for part in ("query", "key", "value")]
            expected = torch.cat([gradients[part].grad for part in parts])
        else:
            expected = gradients[theirs(name, gradients)].grad
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("size", [(32, 32), (16, 40)])
def test_mae_equals_a_naive_loop(size: tuple[int, int]) -> None:
    """The reference's order of things, patch by patch: full embedding, unshuffle, decode everything, mask the loss."""
    mae, batch = build_mae(size), batch_of(size)
    encoder, decoder = mae.encoder, mae.decoder
    keep, hidden = mae.masks(batch["position"])
    columns, total = size[1] // 8, 0.0
    for b in range(3):
        image = batch["image"][b]
        patches = [image[:, r : r + 8, c : c + 8] for r in range(0, size[0], 8) for c in range(0, size[1], 8)]
        assert len(patches) == columns * (size[0] // 8)
        embedded = encoder.patch_embed.proj(image[None]).flatten(2).transpose(1, 2)[0] + encoder.pos_embed[0, 1:]
        x = torch.cat([encoder.cls_token[0] + encoder.pos_embed[0, :1], embedded[keep[b]]])[None]
        for block in encoder.blocks:
            x = block(x)
        latent = decoder.decoder_embed(encoder.norm(x))[0]
        tokens = decoder.mask_token[0].repeat(len(patches), 1)
        for place, patch in enumerate(keep[b].tolist()):
            tokens[patch] = latent[1 + place]
        y = (torch.cat([latent[:1], tokens]) + decoder.decoder_pos_embed[0])[None]
        for block in decoder.decoder_blocks:
            y = block(y)
        predicted = decoder.decoder_pred(decoder.decoder_norm(y))[0, 1:]
        losses = []
        for patch in hidden[b].tolist():
            pixels = [patches[patch][c, r, k].item() for r in range(8) for k in range(8) for c in range(3)]
            mean = sum(pixels) / len(pixels)
            variance = sum((v - mean) ** 2 for v in pixels) / (len(pixels) - 1)
            target = torch.tensor([(v - mean) / math.sqrt(variance + 1e-6) for v in pixels])
            losses.append(((predicted[patch] - target) ** 2).mean())
        total = total + torch.stack(losses).mean()
    torch.testing.assert_close(mae(batch).loss, total / 3, rtol=1e-5, atol=1e-5)


def test_masks_depend_on_the_position_alone_and_are_uniform() -> None:
    keep, hidden = random_masking(torch.arange(4000), 16, 4, key=9)
    assert torch.equal(torch.cat([keep, hidden], dim=1).sort(dim=1).values, torch.arange(16).expand(4000, -1))
    share = torch.bincount(keep.flatten(), minlength=16) / 4000
    torch.testing.assert_close(share, torch.full((16,), 0.25), rtol=0, atol=0.03)
    alone, _ = random_masking(torch.tensor([1234]), 16, 4, key=9)
    assert torch.equal(alone[0], keep[1234])
    other, _ = random_masking(torch.arange(4000), 16, 4, key=10)
    assert not torch.equal(other, keep)


def test_constant_patches_have_target_zero_and_are_counted() -> None:
    mae, batch = build_mae(), batch_of((32, 32))
    batch["image"] = torch.full_like(batch["image"], 0.3)
    step = mae(batch)
    assert step.scalars["flat_patches"] == 1
    assert torch.isfinite(step.loss)


def test_pictures_show_the_image_the_mask_and_a_reconstruction_on_the_right_scale() -> None:
    """A decoder that predicts the normalised target exactly must give back the image."""
    mae, batch = build_mae(), batch_of((32, 32))
    encoder = mae.config.encoder
    image01 = torch.rand(3, 3, 32, 32)
    mean, std = torch.tensor(encoder.mean).view(3, 1, 1), torch.tensor(encoder.std).view(3, 1, 1)
    batch["image"] = (image01 - mean) / std

    class Perfect(torch.nn.Module):
        def forward(self, tokens, keep, hidden):
            pixels = patch_pixels(batch["image"], 8, hidden)
            return (pixels - pixels.mean(-1, keepdim=True)) / (pixels.var(-1, keepdim=True) + 1e-6).sqrt()

    mae.decoder = Perfect()
    shown, masked, reconstructed = mae.pictures(batch)
    torch.testing.assert_close(shown, image01, rtol=0, atol=1e-5)
    torch.testing.assert_close(reconstructed, image01, rtol=0, atol=1e-5)
    grey = (masked == 0.5).all(dim=1).float().mean()
    assert grey == pytest.approx(0.75, abs=0.01)


def test_scatter_is_the_inverse_of_gather() -> None:
    image = torch.randn(2, 5, 16, 24)
    ids = torch.stack([torch.randperm(6) for _ in range(2)])
    assert torch.equal(scatter_patches(torch.zeros_like(image), 8, ids, patch_pixels(image, 8, ids)), image)


def dense_targets(labels: torch.Tensor, importance: torch.Tensor) -> torch.Tensor:
    dense = torch.zeros(len(labels), len(importance))
    for b, row in enumerate(labels.tolist()):
        for label in row:
            if label != PAD_LABEL:
                dense[b, label] = importance[label]
    return dense / dense.sum(dim=1, keepdim=True).clamp(min=1e-12)


LABELS = torch.tensor([[0, 3, 5], [2, -1, -1], [4, 1, -1], [-1, -1, -1]])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_softmax_loss_equals_brute_force_over_dense_targets(smoothing: float) -> None:
    scores = torch.randn(4, 7, dtype=torch.float64)
    dense = dense_targets(LABELS, torch.ones(7)).double()
    mass = target_mass(LABELS, torch.ones(7, dtype=torch.float64))
    got = softmax_cross_entropy(reduce(scores, LABELS, "logsumexp"), mass, classes=7, label_smoothing=smoothing)
    log_p = (scores.exp() / scores.exp().sum(dim=1, keepdim=True)).log()
    expected = -((1 - smoothing) * dense + smoothing / 7)[:3] * log_p[:3]
    torch.testing.assert_close(got[:3], expected.sum(dim=1), rtol=0, atol=1e-6)


def test_single_label_equals_torch_cross_entropy() -> None:
    scores, target = torch.randn(6, 9), torch.randint(0, 9, (6,))
    mass = target_mass(target[:, None], torch.ones(9))
    reduced = reduce(scores, target[:, None], "logsumexp")
    got = softmax_cross_entropy(reduced, mass, classes=9, label_smoothing=0.1)
    torch.testing.assert_close(got, F.cross_entropy(scores, target, label_smoothing=0.1, reduction="none"))


def test_soft_labels_equal_torch_cross_entropy_with_probabilities() -> None:
    scores = torch.randn(5, 4)
    probabilities = torch.rand(5, 4).softmax(dim=1)
    ids = torch.arange(4).expand(5, -1)
    expected = F.cross_entropy(scores, probabilities, reduction="none")
    got = softmax_cross_entropy(reduce(scores, ids, "logsumexp"), probabilities, classes=4)
    torch.testing.assert_close(got, expected)


def test_bce_equals_torch_over_dense_targets() -> None:
    scores = torch.randn(4, 7)
    dense = (dense_targets(LABELS, torch.ones(7)) > 0).float()
    expected = F.binary_cross_entropy_with_logits(scores, dense, reduction="none").mean(dim=1)
    torch.testing.assert_close(
        binary_cross_entropy(reduce(scores, LABELS, "softplus"), 7, torch.ones(LABELS.shape)),
        expected,
        rtol=0,
        atol=1e-6,
    )


def test_idf_targets_follow_the_counts() -> None:
    data_info = DataInfo(seed=0, labels=tuple("abcdefg"), label_count=(50, 10, 10, 5, 2, 1, 100), images=100)
    idf = inverse_document_frequency(data_info)
    assert idf[0].item() == pytest.approx(math.log(101 / 50), rel=1e-6)
    assert (idf > 0).all()
    mass = target_mass(LABELS, idf)
    assert mass[0].sum().item() == pytest.approx(1)
    assert (mass[0, 1] / mass[0, 0]).item() == pytest.approx((idf[3] / idf[0]).item())
    config = ClassifyConfig(encoder=ViTConfig(size=(16, 16), patch=8, width=16, depth=1, heads=2), loss="softmax_idf")
    model = config.build(data_info)
    scores = torch.randn(4, 7)
    expected = -(dense_targets(LABELS, idf) * scores.log_softmax(dim=1)).sum(dim=1)
    torch.testing.assert_close(model.loss(reduce(scores, LABELS, "logsumexp"), LABELS), expected, rtol=0, atol=1e-6)


def test_weights_have_a_constant_denominator() -> None:
    """A placeholder changes nothing for the others, and microbatches average to the batch."""
    values, weight = torch.tensor([1.0, 2.0, 3.0, 6.0]), torch.tensor([1.0, 0.0, 1.0, 1.0])
    assert weighted_mean(values, weight).item() == pytest.approx(10 / 4)
    halves = [weighted_mean(values[i : i + 2], weight[i : i + 2]) for i in (0, 2)]
    assert (sum(halves) / 2).item() == pytest.approx(10 / 4)


def test_a_zero_head_gives_uniform_scores_and_no_gradient_to_the_encoder_yet() -> None:
    config = ClassifyConfig(encoder=ViTConfig(size=(16, 16), patch=8, width=16, depth=1, heads=2))
    model = config.build(DataInfo(seed=0, labels=tuple("abc")))
    batch = batch_of((16, 16)) | {"labels": torch.tensor([[0, 1], [2, -1], [1, -1]])}
    loss = model(batch).loss
    assert loss.item() == pytest.approx(math.log(3))
    loss.backward()
    assert model.head.weight.grad.abs().sum() > 0
    assert not model.encoder.blocks[0].mlp.fc1.weight.grad.any()


def test_an_image_without_labels_costs_nothing() -> None:
    scores = torch.randn(4, 7)
    mass = target_mass(LABELS, torch.ones(7))
    assert softmax_cross_entropy(reduce(scores, LABELS, "logsumexp"), mass, classes=7)[3] == 0


def test_misconfigured_objectives_are_named() -> None:
    with pytest.raises(ValueError, match=r"mask_ratio=0\.99 keeps 0 of 16"):
        build_mae(mask_ratio=0.99)
    with pytest.raises(ValueError, match=r"final_norm=false"):
        ClassifyConfig(pooling="mean")
    with pytest.raises(ValueError, match="at least two labels"):
        ClassifyConfig().build(DataInfo(seed=0, labels=("a",)))
