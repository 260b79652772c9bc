"""Options of MAE beyond the paper: a part of the hidden patches, a cross decoder, several masks, growing images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from underpaint.core import DataInfo
from underpaint.models.mae_decoder import CrossAttention, CrossBlock, DecoderConfig
from underpaint.models.vit import ViTConfig
from underpaint.models.weights import DECODER_POSITIONS, decoder_to_start_from, save_module
from underpaint.objectives.mae import MAE, MAEConfig, normalise_patches, reconstruction_loss
from underpaint.run.outputs import save_outputs
from underpaint.weights.exporting import export_weights
from underpaint.weights.importing import import_weights

ENCODER = ViTConfig(size=(32, 32), patch=8, width=32, depth=2, heads=2)
CONFIG = MAEConfig(encoder=ENCODER, decoder=DecoderConfig(width=16, depth=2, heads=2))
CROSS = replace(CONFIG, decoder=replace(CONFIG.decoder, cross=True))


def batch_of(size: int = 3) -> Any:
    numbers = torch.Generator().manual_seed(0)
    image = torch.randn(size, 3, 32, 32, generator=numbers)
    return {"image": image, "position": torch.arange(size) + 7, "weight": torch.ones(size)}


def build(config: MAEConfig, seed: int = 3) -> MAE:
    return config.build(DataInfo(seed=seed))


def test_a_part_of_the_hidden_patches_is_decoded_as_if_the_others_were_not_there() -> None:
    """In image order and token by token, as the reference would with the other hidden tokens deleted."""
    mae, batch = build(replace(CONFIG, decode_fraction=0.5)), batch_of()
    assert mae.config.num_decoded == 6
    keep, hidden = mae.masks(batch["position"])
    decoder, losses = mae.decoder, []
    for b in range(3):
        latent = decoder.decoder_embed(mae.encoder(batch["image"][b : b + 1], keep=keep[b : b + 1]))[0]
        chosen = sorted(hidden[b, :6].tolist())
        at = {patch: 1 + place for place, patch in enumerate(keep[b].tolist())}
        order = sorted([*at, *chosen])
        tokens = [latent[at[p]] if p in at else decoder.mask_token[0, 0] for p in order]
        x = torch.stack(
            [latent[0], *(t + decoder.decoder_pos_embed[0, 1 + p] for t, p in zip(tokens, order, strict=True))]
        )
        x = x[None]
        for block in decoder.decoder_blocks:
            x = block(x)
        predicted = decoder.decoder_pred(decoder.decoder_norm(x))[:, [1 + order.index(p) for p in chosen]]
        target = normalise_patches(mae.pixels(batch["image"][b : b + 1], torch.tensor([chosen])))[0]
        losses.append(reconstruction_loss(predicted, target))
    torch.testing.assert_close(mae(batch).loss, torch.cat(losses).mean(), rtol=1e-5, atol=1e-6)


def test_the_decoded_part_is_drawn_evenly_and_pictures_show_all_patches() -> None:
    mae = build(replace(CONFIG, decode_fraction=0.25))
    _, hidden = mae.masks(torch.arange(4000))
    decoded = hidden[:, : mae.config.num_decoded]
    share = torch.bincount(decoded.flatten(), minlength=16) / 4000
    assert (share - 3 / 16).abs().max() < 0.025  # four standard deviations
    shown, masked, painted = mae.pictures(batch_of())
    assert painted.shape == shown.shape
    changed = (painted - shown).abs().amax(dim=1) > 1e-6
    hidden_pixels = (masked == 0.5).all(dim=1)
    assert (changed & hidden_pixels).float().sum() > 0.95 * hidden_pixels.float().sum()
    assert not (changed & ~hidden_pixels).any()


def test_cross_attention_equals_torchs() -> None:
    attention = CrossAttention(16, 4)
    x, context = torch.randn(2, 5, 16), torch.randn(2, 7, 16)
    weight = torch.cat([attention.q.weight, attention.kv.weight])
    bias = torch.cat([attention.q.bias, attention.kv.bias])
    expected, _ = F.multi_head_attention_forward(
        x.transpose(0, 1),
        context.transpose(0, 1),
        context.transpose(0, 1),
        embed_dim_to_check=16,
        num_heads=4,
        in_proj_weight=weight,
        in_proj_bias=bias,
        bias_k=None,
        bias_v=None,
        add_zero_attn=False,
        dropout_p=0.0,
        out_proj_weight=attention.proj.weight,
        out_proj_bias=attention.proj.bias,
    )
    torch.testing.assert_close(attention(x, context), expected.transpose(0, 1), rtol=1e-5, atol=1e-6)


def test_patches_of_a_cross_decoder_do_not_see_each_other() -> None:
    mae, batch = build(CROSS), batch_of()
    assert all(isinstance(block, CrossBlock) for block in mae.decoder.decoder_blocks)
    keep, hidden = mae.masks(batch["position"])
    tokens = mae.encoder(batch["image"], keep=keep)
    together = mae.decoder(tokens, keep, hidden)
    alone = torch.cat([mae.decoder(tokens, keep, hidden[:, n : n + 1]) for n in range(hidden.shape[1])], dim=1)
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)
    moved = tokens.clone()
    moved[:, 1] += 1  # what they see does change them
    assert not torch.allclose(mae.decoder(moved, keep, hidden), together)


def test_every_parameter_of_a_cross_decoder_is_trained() -> None:
    mae = build(CROSS)
    mae(batch_of()).loss.backward()
    trained = [name for name, value in mae.named_parameters() if value.requires_grad]
    assert all(dict(mae.named_parameters())[name].grad is not None for name in trained)


def test_several_masks_are_the_mean_of_as_many_losses() -> None:
    one, two, batch = build(CONFIG), build(replace(CONFIG, masks_per_image=2)), batch_of()
    batch["weight"] = torch.tensor([1.0, 0.0, 1.0])
    first, second = (two.masks(batch["position"], number) for number in (0, 1))
    assert torch.equal(first[0], one.masks(batch["position"])[0])
    assert not torch.equal(first[0], second[0])
    losses = []
    for key in two.mask_keys:
        one.mask_keys = [key]
        losses.append(one(batch).loss)
    torch.testing.assert_close(two(batch).loss, torch.stack(losses).mean(), rtol=1e-6, atol=1e-6)


def test_a_decoder_goes_on_at_another_image_size(tmp_path: Path) -> None:
    low = build(CONFIG)
    save_module(tmp_path / "model", low, {"format": 1, "objective": {}})
    high = build(replace(CONFIG, encoder=replace(ENCODER, size=(48, 48))))
    shapes = {name: value.shape for name, value in high.state_dict().items()}
    found = decoder_to_start_from(str(tmp_path), shapes)
    assert found.keys() == {name for name in shapes if name.startswith("decoder.")} - {DECODER_POSITIONS}
    assert all(torch.equal(value, low.state_dict()[name]) for name, value in found.items())


def test_a_cross_decoder_goes_to_safetensors_and_back_and_not_to_transformers(tmp_path: Path) -> None:
    mae = build(CROSS)
    save_outputs(tmp_path / "run", CROSS, network=mae, data_info=DataInfo(seed=3), result={})
    with pytest.raises(ValueError, match="transformers has no cross decoder"):
        export_weights(tmp_path / "run" / "model", "hf", tmp_path / "hf")
    export_weights(tmp_path / "run" / "model", "safetensors", tmp_path / "out")
    import_weights(tmp_path / "out", tmp_path / "back")
    found = load_file(tmp_path / "back" / "model" / "model.safetensors")
    assert found.keys() == mae.state_dict().keys()
    assert all(torch.equal(value, mae.state_dict()[name]) for name, value in found.items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"decode_fraction": 0.0}, r"decode_fraction=0\.0 must lie in \(0, 1\]"),
        ({"decode_fraction": 1.5}, r"decode_fraction=1\.5"),
        ({"masks_per_image": 0}, "masks_per_image=0 must be at least 1"),
    ],
)
def test_wrong_options_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **changes)
