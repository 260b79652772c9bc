"""The ViT of clips against that of images, a naive loop over pairs of tokens, and torch's counter of FLOPs."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from support.starting_encoders import to_start_from
from underpaint.models.init import Scheme, initialise_encoder
from underpaint.models.recompute import make_lean
from underpaint.models.sizes import SIZES
from underpaint.models.video import ClipConfig, SpaceTimeAttention, VideoViT, inflated_values, initialise_video
from underpaint.models.video_flops import clip_flops
from underpaint.models.vit import ViT, ViTConfig, encoder_layer_of
from underpaint.models.weights import fill

CONFIG = ViTConfig(size=(24, 16), patch=8, width=32, depth=2, heads=2)
CLIP = ClipConfig(frames=6, tubelet=2)
NEW = ("time_pos_embed", "rel_pos_t", "rel_pos_h", "rel_pos_w")


def inflate(encoder: VideoViT, source: ViT, *, reset_final_norm: bool) -> None:
    fill(encoder, inflated_values(encoder, to_start_from(source), reset_final_norm=reset_final_norm))


def trained(config: ViTConfig = CONFIG) -> ViT:
    """An encoder of images with weights as different as those of a trained one."""
    generator = torch.Generator().manual_seed(0)
    vit = ViT(config).eval()
    with torch.no_grad():
        for parameter in vit.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return vit


def randomised(encoder: VideoViT) -> VideoViT:
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if name.endswith(NEW):
                parameter.normal_(std=0.3, generator=torch.Generator().manual_seed(len(name)))
    return encoder.eval()


@pytest.mark.parametrize("tubelet", [1, 2, 4])
@pytest.mark.parametrize("final_norm", [True, False])
def test_a_still_clip_of_one_tubelet_is_its_image(tubelet: int, final_norm: bool) -> None:
    vit = trained(replace(CONFIG, final_norm=final_norm))
    encoder = VideoViT(vit.config, ClipConfig(frames=tubelet, tubelet=tubelet)).eval()
    inflate(encoder, vit, reset_final_norm=False)
    image = torch.randn(2, 3, 24, 16, generator=torch.Generator().manual_seed(1))
    clip = image[:, :, None].expand(-1, -1, tubelet, -1, -1)
    torch.testing.assert_close(encoder(clip), vit(image), rtol=0, atol=1e-5)


def test_tubelets_of_a_still_clip_are_alike_and_those_of_a_moving_one_are_not() -> None:
    encoder = VideoViT(CONFIG, CLIP).eval()
    inflate(encoder, trained(), reset_final_norm=False)
    image = torch.randn(1, 3, 24, 16, generator=torch.Generator().manual_seed(1))
    still = encoder(image[:, :, None].expand(-1, -1, 6, -1, -1))[:, 1:].unflatten(1, (3, 6))
    torch.testing.assert_close(still[:, 0], still[:, 2], rtol=0, atol=1e-5)
    moving = encoder(torch.randn(1, 3, 6, 24, 16))[:, 1:].unflatten(1, (3, 6))
    assert (moving[:, 0] - moving[:, 2]).abs().max() > 0.1


def test_positions_of_another_grid_are_resized_and_new_parameters_stay() -> None:
    encoder = randomised(VideoViT(replace(CONFIG, size=(32, 32)), CLIP))
    before = {name: value.clone() for name, value in encoder.state_dict().items() if name.endswith(NEW)}
    vit = trained()
    inflate(encoder, vit, reset_final_norm=True)
    assert {name for name, value in before.items() if torch.equal(encoder.state_dict()[name], value)} == set(before)
    assert torch.equal(encoder.norm.weight, torch.ones(32))  # pyright: ignore[reportArgumentType]
    assert torch.equal(encoder.pos_embed[:, 0], vit.pos_embed[:, 0])
    with pytest.raises(ValueError, match="has heads=2, this run has heads=4"):
        inflate(VideoViT(replace(CONFIG, heads=4), CLIP), vit, reset_final_norm=False)


def naive(module: SpaceTimeAttention, x: Tensor) -> Tensor:
    """Pair by pair, with the sum over channels alone left to torch."""
    b, n, d = x.shape
    width = d // module.heads
    places = [(t, r, c) for t in range(module.grid[0]) for r in range(module.grid[1]) for c in range(module.grid[2])]
    tables = (module.rel_pos_t, module.rel_pos_h, module.rel_pos_w)
    q, k, v = module.qkv(x).view(b, n, 3, module.heads, width).unbind(2)
    out = torch.empty_like(q)
    for clip in range(b):
        for head in range(module.heads):
            for i in range(n):
                scores = []
                for j in range(n):
                    score = q[clip, i, head] @ k[clip, j, head] / math.sqrt(width)
                    if i and j:
                        for axis, table in enumerate(tables):
                            offset = places[i - 1][axis] - places[j - 1][axis] + module.grid[axis] - 1
                            score = score + q[clip, i, head] @ table[offset]
                    scores.append(score)
                out[clip, i, head] = torch.stack(scores).softmax(0) @ v[clip, :, head]
    return module.proj(out.flatten(2))


def test_relative_positions_are_those_of_a_loop_over_pairs() -> None:
    module = SpaceTimeAttention(16, 2, grid=(3, 2, 4))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.3, generator=generator)
        x = torch.randn(2, 25, 16, generator=generator)
        torch.testing.assert_close(module(x), naive(module, x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("scheme", ["mae", "swag"])
def test_a_start_from_scratch_is_that_of_an_image_encoder(scheme: Scheme) -> None:
    encoder, vit = VideoViT(CONFIG, CLIP), ViT(CONFIG)
    initialise_video(encoder, scheme=scheme, seed=3)
    initialise_encoder(vit, scheme=scheme, seed=3)
    state = encoder.state_dict()
    for name, value in vit.state_dict().items():
        if name != "patch_embed.proj.weight":
            assert torch.equal(state[name], value), name
    assert all(not state[name].any() for name in state if name.endswith(NEW))
    assert 0.01 < float(state["patch_embed.proj.weight"].std()) < 0.1


def test_every_parameter_has_its_layer_and_its_gradient() -> None:
    """Exponents of layer-wise decay; all new parameters are trained, though they start from zero."""
    encoder = VideoViT(replace(CONFIG, positions="sincos_trained"), CLIP)
    initialise_video(encoder, scheme="mae", seed=0)
    encoder(torch.randn(2, 3, 6, 24, 16))[:, 1].square().sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0 or name.endswith("norm.bias"), name
    layers = {name: encoder_layer_of(f"encoder.{name}", depth=2) for name, _ in encoder.named_parameters()}
    assert {layers[name] for name in ("cls_token", "pos_embed", "time_pos_embed", "patch_embed.proj.weight")} == {3}
    assert layers["blocks.0.attn.rel_pos_t"] == layers["blocks.0.mlp.fc1.weight"] == 2
    assert layers["blocks.1.attn.rel_pos_h"] == 1
    assert layers["norm.weight"] == 0


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="frames=5 must be a multiple of tubelet=2"):
        ClipConfig(frames=5)
    with pytest.raises(ValueError, match="stride=0"):
        ClipConfig(stride=0)
    encoder = VideoViT(CONFIG, CLIP)
    with pytest.raises(ValueError, match=r"clip of shape \(1, 3, 4, 24, 16\).* floats \(b, 3, 6, 24, 16\)"):
        encoder(torch.zeros(1, 3, 4, 24, 16))
    with pytest.raises(ValueError, match="no form for blocks"):
        make_lean(encoder.blocks[0])


@pytest.mark.parametrize("encoder", [replace(CONFIG, size=(64, 48)), SIZES["vit_b16"]], ids=["small", "vit_b16"])
def test_flops_are_those_of_the_counter(encoder: ViTConfig) -> None:
    clip = ClipConfig(frames=16)
    with torch.device("meta"):
        network = VideoViT(encoder, clip)
        head = torch.nn.Linear(encoder.width, 400)
        frames = torch.empty(1, 3, 16, *encoder.size)
    with FlopCounterMode(display=False) as counter:
        head(network(frames)[:, 1:].mean(dim=1)).sum().backward()
    assert clip_flops(encoder, clip, 400) == pytest.approx(counter.get_total_flops(), rel=0.02)
