"""The encoder against timm's VisionTransformer with the same weights, and the facts of paper.md 1.1."""

from __future__ import annotations

from functools import partial

import pytest
import timm.models.vision_transformer as timm_vit
import torch
from torch.utils.flop_counter import FlopCounterMode

from support.starting_encoders import to_start_from
from underpaint.core import DataInfo
from underpaint.models.init import initialise_encoder
from underpaint.models.mae_decoder import DecoderConfig
from underpaint.models.sizes import SIZES
from underpaint.models.vit import ViT, ViTConfig, drop_path_factors, gather_patches, sincos_positions
from underpaint.models.weights import resize_positions, start_from
from underpaint.objectives.classify import ClassifyConfig
from underpaint.objectives.mae import MAEConfig


def small(**changes) -> ViTConfig:
    fields = {"size": (24, 40), "patch": 8, "width": 32, "depth": 3, "heads": 4, "positions": "learned"}
    return ViTConfig(**(fields | changes))


def timm_twin(vit: ViT, *, pool: str) -> timm_vit.VisionTransformer:
    c = vit.config
    twin = timm_vit.VisionTransformer(
        img_size=c.size,
        patch_size=c.patch,
        in_chans=c.channels,
        embed_dim=c.width,
        depth=c.depth,
        num_heads=c.heads,
        num_classes=0,
        global_pool=pool,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
    )
    twin.load_state_dict(vit.state_dict(), strict=True)
    return twin.eval()


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_equals_timm_on_a_grid_that_is_not_square(channels: int) -> None:
    vit = ViT(small(channels=channels, mean=(0.5,) * channels, std=(0.5,) * channels))
    initialise_encoder(vit, scheme="swag", seed=3)
    image = torch.randn(4, channels, 24, 40)
    expected = timm_twin(vit, pool="token").forward_features(image)
    torch.testing.assert_close(vit(image), expected, rtol=0, atol=1e-5)


def test_mean_pooling_equals_timm_with_fc_norm() -> None:
    data_info = DataInfo(seed=0, labels=("a", "b", "c"))
    model = ClassifyConfig(encoder=small(final_norm=False), pooling="mean", head_init_std=0.1).build(data_info)
    with torch.no_grad():
        model.fc_norm.weight.uniform_(0.5, 1.5)
    twin = timm_vit.VisionTransformer(
        img_size=(24, 40),
        patch_size=8,
        embed_dim=32,
        depth=3,
        num_heads=4,
        num_classes=3,
        global_pool="avg",
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
    ).eval()
    ours = {name.removeprefix("encoder."): value for name, value in model.state_dict().items()}
    twin.load_state_dict(ours, strict=True)
    image = torch.randn(4, 3, 24, 40)
    torch.testing.assert_close(model.eval().logits(image), twin(image), rtol=0, atol=1e-5)


def test_keep_encodes_exactly_the_named_patches() -> None:
    """With all patches kept in another order the patch tokens are those of the full pass, in that order."""
    vit = ViT(small())
    initialise_encoder(vit, scheme="swag", seed=0)
    image = torch.randn(2, 3, 24, 40)
    keep = torch.stack([torch.randperm(15) for _ in range(2)])
    full, kept = vit(image), vit(image, keep=keep)
    torch.testing.assert_close(kept[:, 0], full[:, 0], rtol=0, atol=1e-5)
    torch.testing.assert_close(kept[:, 1:], full[:, 1:][torch.arange(2)[:, None], keep], rtol=0, atol=1e-5)


def test_gathered_patches_are_slices_of_the_image() -> None:
    image = torch.randn(2, 3, 24, 40)
    ids = torch.tensor([[0, 14, 7], [5, 4, 9]])
    patches = gather_patches(image, 8, ids)
    for b in range(2):
        for index, patch in enumerate(ids[b].tolist()):
            row, column = divmod(patch, 5)
            expected = image[b, :, row * 8 : row * 8 + 8, column * 8 : column * 8 + 8]
            assert torch.equal(patches[b, index], expected)


@pytest.mark.parametrize("grid", [(3, 3), (2, 5)])
def test_sincos_positions_follow_the_formula(grid: tuple[int, int]) -> None:
    width, (rows, columns) = 16, grid
    table = sincos_positions(width, grid)[0]
    assert torch.equal(table[0], torch.zeros(width))
    for row in range(rows):
        for column in range(columns):
            got = table[1 + row * columns + column]
            for half, place in enumerate((column, row)):  # w first
                for i in range(width // 4):
                    angle = torch.tensor(place / 10000 ** (i / (width / 4)), dtype=torch.float64)
                    assert got[half * 8 + i].item() == pytest.approx(angle.sin().item(), abs=1e-6)
                    assert got[half * 8 + 4 + i].item() == pytest.approx(angle.cos().item(), abs=1e-6)


@pytest.mark.parametrize(
    ("name", "millions"),
    [("vit_b16", 85.8), ("vit_l16", 303.3), ("vit_h14", 630.8), ("vit_2b14", 1890), ("vit_6.5b14", 6448)],
)
def test_named_sizes_have_the_published_parameter_counts(name: str, millions: float) -> None:
    with torch.device("meta"):
        vit = ViT(SIZES[name])
    assert sum(p.numel() for p in vit.parameters()) / 1e6 == pytest.approx(millions, rel=1e-3)


@pytest.mark.parametrize("name", ["vit_b16", pytest.param("vit_2b14", marks=pytest.mark.slow)])
def test_flops_equal_torchs_counter_on_meta(name: str) -> None:
    data_info, batch = DataInfo(seed=0, labels=tuple(map(str, range(28_000)))), 2
    for config in (
        MAEConfig(encoder=SIZES[name]),
        MAEConfig(encoder=SIZES[name], decoder=DecoderConfig(width=256, depth=2, heads=8), mask_ratio=0.6),
        MAEConfig(encoder=SIZES[name], decode_fraction=0.25, masks_per_image=2),
        MAEConfig(encoder=SIZES[name], decoder=DecoderConfig(depth=3, cross=True), decode_fraction=0.5),
        ClassifyConfig(encoder=SIZES[name]),
    ):
        with torch.device("meta"):
            model = config.build(data_info)
            image = torch.randn(batch, 3, 224, 224)
            labels = torch.zeros(batch, 1, dtype=torch.int64)
            weight, position = torch.ones(batch), torch.arange(batch)
        with FlopCounterMode(display=False) as counter:
            model({"image": image, "labels": labels, "weight": weight, "position": position}).loss.backward()
        assert config.flops_per_sample(data_info) * batch == pytest.approx(counter.get_total_flops(), rel=0.02)


def test_initial_weights_depend_on_seed_and_name_alone() -> None:
    shallow, deep, other = (ViT(small(depth=depth)) for depth in (2, 3, 2))
    for vit, seed in ((shallow, 0), (deep, 0), (other, 1)):
        torch.rand(seed + 7)  # the global generator plays no part
        initialise_encoder(vit, scheme="mae", seed=seed)
    assert torch.equal(shallow.blocks[1].mlp.fc1.weight, deep.blocks[1].mlp.fc1.weight)
    assert not torch.equal(shallow.blocks[1].mlp.fc1.weight, other.blocks[1].mlp.fc1.weight)
    assert not torch.equal(shallow.blocks[0].mlp.fc1.weight, shallow.blocks[1].mlp.fc1.weight)


def test_swag_initialisation_has_the_stated_deviations() -> None:
    vit = ViT(ViTConfig(size=(64, 64), patch=8, width=256, depth=1, heads=4, positions="learned"))
    initialise_encoder(vit, scheme="swag", seed=0)
    assert vit.pos_embed.std().item() == pytest.approx(0.02, rel=0.05)
    assert vit.patch_embed.proj.weight.std().item() == pytest.approx((3 * 64) ** -0.5, rel=0.05)
    assert vit.blocks[0].mlp.fc1.bias.std().item() == pytest.approx(1e-6, rel=0.2)
    assert not vit.cls_token.any()
    bound = (6 / (256 + 1024)) ** 0.5
    assert vit.blocks[0].mlp.fc1.weight.abs().max().item() == pytest.approx(bound, rel=0.01)


def test_drop_path_has_the_right_rate_and_mean_and_no_state() -> None:
    factors = drop_path_factors(5, torch.arange(20_000), depth=3, rate=0.4)
    dropped = (factors == 0).float().mean(dim=(0, 2))
    torch.testing.assert_close(dropped, torch.tensor([0.0, 0.2, 0.4]), rtol=0, atol=0.01)
    torch.testing.assert_close(factors.mean(dim=(0, 2)), torch.ones(3), rtol=0, atol=0.02)
    assert torch.equal(factors[100:110], drop_path_factors(5, torch.arange(100, 110), depth=3, rate=0.4))


def test_positions_are_resized_like_timm_without_antialias() -> None:
    positions = torch.randn(1, 1 + 15, 8)
    grown = resize_positions(positions, (3, 5), (6, 10))
    grid = positions[:, 1:].reshape(1, 3, 5, 8).permute(0, 3, 1, 2)
    expected = torch.nn.functional.interpolate(grid, size=(6, 10), mode="bicubic", align_corners=False)
    assert torch.equal(grown[:, :1], positions[:, :1])
    torch.testing.assert_close(grown[:, 1:], expected.permute(0, 2, 3, 1).reshape(1, 60, 8))
    assert resize_positions(positions, (3, 5), (3, 5)) is positions


def test_start_from_keeps_or_resets_the_final_norm_and_refuses_another_shape() -> None:
    source, kept, reset = (ViT(small()) for _ in range(3))
    for seed, vit in enumerate((source, kept, reset)):
        initialise_encoder(vit, scheme="mae", seed=seed)
    with torch.no_grad():
        source.norm.weight.fill_(2.0)
    start_from(kept, to_start_from(source), reset_final_norm=False)
    start_from(reset, to_start_from(source), reset_final_norm=True)
    image = torch.randn(1, 3, 24, 40)
    torch.testing.assert_close(kept(image), source(image))
    assert reset.norm.weight.eq(1).all()
    assert torch.equal(reset.blocks[2].attn.qkv.weight, source.blocks[2].attn.qkv.weight)
    with pytest.raises(ValueError, match="depth=3, this run has depth=4"):
        start_from(ViT(small(depth=4)), to_start_from(source), reset_final_norm=False)


def test_bad_configurations_and_images_are_named() -> None:
    with pytest.raises(ValueError, match="divisible by patch=8"):
        small(size=(24, 41))
    with pytest.raises(ValueError, match="one per channel"):
        small(channels=4)
    with pytest.raises(ValueError, match=r"takes normalised floats \(b, 3, 24, 40\)"):
        ViT(small())(torch.randn(1, 3, 40, 24))
