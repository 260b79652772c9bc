"""The detector's ViT against transformers' VitDet, timm's resizing of patches and naive loops."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from support.starting_encoders import to_start_from
from underpaint.models.detector.backbone import (
    WindowedViT,
    initialise_windowed,
    resize_patches,
    values_to_start_windowed,
)
from underpaint.models.detector.window_attention import WindowAttention, into_windows, out_of_windows
from underpaint.models.init import initialise_encoder
from underpaint.models.recompute import make_lean
from underpaint.models.vit import Attention, ViT, ViTConfig
from underpaint.models.weights import fill

CONFIG = ViTConfig(size=(40, 40), patch=4, width=32, depth=4, heads=2, final_norm=False)
"""Ten patches a side: windows of 4 do not divide them."""


def randomised(encoder: WindowedViT) -> WindowedViT:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return encoder


@pytest.mark.slow
def test_backbone_is_that_of_transformers() -> None:
    """The same weights in VitDetBackbone, with positions of another grid, a cls row, and windows that need padding."""
    from transformers import VitDetBackbone, VitDetConfig

    vitdet = VitDetBackbone(
        VitDetConfig(
            hidden_size=32,
            num_hidden_layers=4,
            num_attention_heads=2,
            mlp_ratio=4,
            hidden_act="gelu",
            dropout_prob=0.0,
            layer_norm_eps=1e-6,
            image_size=40,
            pretrain_image_size=24,
            patch_size=4,
            qkv_bias=True,
            drop_path_rate=0.0,
            window_block_indices=[0, 2],
            use_absolute_position_embeddings=True,
            use_relative_position_embeddings=True,
            window_size=4,
            out_features=["stage4"],
        )
    ).eval()
    plain = ViT(replace(CONFIG, size=(24, 24)))
    initialise_encoder(plain, scheme="swag", seed=1)
    encoder = randomised(WindowedViT(CONFIG, window=4, global_blocks=(1, 3)))
    with torch.no_grad():
        plain.pos_embed.normal_(std=0.2)
    fill(encoder, values_to_start_windowed(encoder, to_start_from(plain)))
    ours = encoder.state_dict() | {"pos_embed": plain.pos_embed}
    pairs = {"embeddings.projection": "patch_embed.proj", "embeddings.position_embeddings": "pos_embed"}
    for index in range(4):
        theirs = f"encoder.layer.{index}"
        pairs |= {f"{theirs}.{name}": f"blocks.{index}.{name}" for name in ("norm1", "norm2", "mlp.fc1", "mlp.fc2")}
        pairs |= {f"{theirs}.attention.{name}": f"blocks.{index}.attn.{name}" for name in ("qkv", "proj")}
        pairs |= {f"{theirs}.attention.{name}": f"blocks.{index}.attn.{name}" for name in ("rel_pos_h", "rel_pos_w")}
    state = {
        name: ours[twin + name.removeprefix(stem)]
        for name in vitdet.state_dict()
        for stem, twin in pairs.items()
        if name == stem or name.startswith(f"{stem}.")
    }
    vitdet.load_state_dict(state, strict=True)
    image = torch.randn(2, 3, 40, 40, generator=torch.Generator().manual_seed(2))
    assert ours["blocks.0.attn.rel_pos_h"].std() > 0.1
    with torch.no_grad():
        torch.testing.assert_close(encoder(image), vitdet(image).feature_maps[-1], rtol=0, atol=1e-5)


def naive_attention(module: WindowAttention, x: Tensor) -> Tensor:
    """One window, pair by pair, with the sum over channels alone left to torch."""
    rows, columns = module.grid
    _, n, d = x.shape
    width = d // module.heads
    q, k, v = module.qkv(x).view(-1, n, 3, module.heads, width).unbind(2)
    out = torch.empty_like(q)
    for b in range(len(x)):
        for head in range(module.heads):
            score = torch.empty(n, n)
            for i in range(n):
                for j in range(n):
                    down, right = i // columns - j // columns, i % columns - j % columns
                    score[i, j] = (
                        q[b, i, head] @ k[b, j, head] / math.sqrt(width)
                        + q[b, i, head] @ module.rel_pos_h[down + rows - 1]
                        + q[b, i, head] @ module.rel_pos_w[right + columns - 1]
                    )
            out[b, :, head] = score.softmax(dim=1) @ v[b, :, head]
    return module.proj(out.flatten(2))


def test_relative_positions_are_those_of_a_naive_loop() -> None:
    torch.manual_seed(0)
    module = WindowAttention(8, 2, grid=(3, 4), window=(3, 4))
    for table in (module.rel_pos_h, module.rel_pos_w):
        torch.nn.init.normal_(table)
    x = torch.randn(2, 12, 8, requires_grad=True)
    ours, naive = module(x), naive_attention(module, x)
    torch.testing.assert_close(ours, naive, rtol=0, atol=1e-5)
    weight = torch.randn_like(ours)
    wanted = (x, module.rel_pos_h, module.rel_pos_w, module.qkv.weight)
    gradients = [torch.autograd.grad((out * weight).sum(), wanted) for out in (ours, naive)]
    for mine, other in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)


def test_new_relative_positions_change_nothing() -> None:
    """They start at zero, so a global block computes just what the pretrained one did."""
    torch.manual_seed(0)
    plain, module = Attention(8, 2), WindowAttention(8, 2, grid=(3, 3), window=(3, 3))
    module.load_state_dict(plain.state_dict(), strict=False)
    x = torch.randn(2, 9, 8)
    torch.testing.assert_close(module(x), plain(x), rtol=0, atol=1e-6)


def test_global_attention_is_a_window_of_the_size_of_the_image() -> None:
    windows, whole = (WindowedViT(CONFIG, window=10, global_blocks=blocks) for blocks in ((), (0, 1, 2, 3)))
    whole.load_state_dict(randomised(windows).state_dict(), strict=True)
    image = torch.randn(1, 3, 40, 40)
    assert torch.equal(windows(image), whole(image))


def test_blocks_with_windows_see_their_window_alone() -> None:
    encoder = randomised(WindowedViT(CONFIG, window=5, global_blocks=()))
    image = torch.randn(1, 3, 40, 40)
    changed = image.clone()
    changed[:, :, :20, :20] = 0
    difference = (encoder(image) - encoder(changed)).abs().amax(dim=(0, 1)) > 0
    assert difference[:5, :5].all()
    assert not difference[5:].any()
    assert not difference[:, 5:].any()


def test_windows_and_back() -> None:
    x = torch.arange(2 * 7 * 5 * 3.0).view(2, 7, 5, 3)
    windows = into_windows(x, (3, 2))
    assert windows.shape == (2 * 3 * 3, 6, 3)
    assert torch.equal(windows[1, 0], x[0, 0, 2])
    assert torch.equal(out_of_windows(windows, (7, 5), (3, 2)), x)


@pytest.mark.parametrize(("old", "new"), [(14, 16), (16, 8), (8, 8)])
def test_patches_are_resized_as_in_timm(old: int, new: int) -> None:
    from timm.layers.patch_embed import resample_patch_embed

    weight = torch.randn(5, 3, old, old, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        resize_patches(weight, new), resample_patch_embed(weight, [new, new]), rtol=1e-4, atol=1e-4
    )


def test_a_larger_patch_has_the_embedding_it_had() -> None:
    weight, patch = torch.randn(5, 3, 14, 14), torch.rand(1, 3, 14, 14)
    larger = torch.nn.functional.interpolate(patch, size=(16, 16), mode="bicubic", antialias=True)
    before = torch.nn.functional.conv2d(patch, weight)
    torch.testing.assert_close(
        torch.nn.functional.conv2d(larger, resize_patches(weight, 16)), before, rtol=0, atol=1e-4
    )


def test_a_fresh_encoder_starts_by_name_and_with_relative_positions_of_zero() -> None:
    encoder = WindowedViT(CONFIG, window=5, global_blocks=(3,))
    initialise_windowed(encoder, seed=3)
    plain = ViT(CONFIG)
    initialise_encoder(plain, scheme="mae", seed=3)
    theirs = plain.state_dict()
    for name, value in encoder.state_dict().items():
        if "rel_pos" in name:
            assert not value.any()
        else:
            assert torch.equal(value, theirs[name][:, 1:] if name == "pos_embed" else theirs[name]), name


def test_an_encoder_of_another_form_is_refused() -> None:
    encoder = WindowedViT(CONFIG, window=5, global_blocks=())
    with pytest.raises(ValueError, match="depth=3, the detector has depth=4"):
        values_to_start_windowed(encoder, to_start_from(ViT(replace(CONFIG, depth=3))))


def test_blocks_with_windows_have_no_lean_form() -> None:
    with pytest.raises(ValueError, match="recompute_pointwise"):
        make_lean(WindowedViT(CONFIG, window=5, global_blocks=()).blocks[0])
