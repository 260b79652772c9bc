"""Deep visual prompt tuning against a forward pass written by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from underpaint.evals.fitting import frozen
from underpaint.models.init import initialise_encoder
from underpaint.models.pooling import pool
from underpaint.models.prompts import PromptedViT
from underpaint.models.vit import ViT, ViTConfig
from underpaint.models.weights import at_size

CONFIG = ViTConfig(size=(16, 24), patch=8, width=32, depth=3, heads=4, norm_eps=1e-6)


def vit(config: ViTConfig = CONFIG) -> ViT:
    network = ViT(config)
    initialise_encoder(network, scheme="mae", seed=3)
    with torch.no_grad():
        network.cls_token.normal_(generator=torch.Generator().manual_seed(1))
    return network


def images(count: int = 2, size: tuple[int, int] = (16, 24)) -> Tensor:
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(0))


def by_hand(network: ViT, prompts: Tensor, image: Tensor) -> Tensor:
    """One token list per image, attention as a loop over heads: no code of the ViT's forward pass."""
    state = network.state_dict()
    p, d, heads = network.config.patch, network.config.width, network.config.heads
    outputs = []
    for picture in image:
        tokens = [state["cls_token"][0, 0] + state["pos_embed"][0, 0]]
        for row in range(picture.shape[1] // p):
            for column in range(picture.shape[2] // p):
                patch = picture[:, row * p : (row + 1) * p, column * p : (column + 1) * p]
                value = (state["patch_embed.proj.weight"] * patch).sum(dim=(1, 2, 3)) + state["patch_embed.proj.bias"]
                tokens.append(value + state["pos_embed"][0, len(tokens)])
        for number in range(network.config.depth):
            x = torch.stack([tokens[0], *prompts[number], *tokens[1:]])

            def layer(name: str, value: Tensor, number: int = number) -> Tensor:
                prefix = f"blocks.{number}.{name}"
                return value @ state[f"{prefix}.weight"].T + state[f"{prefix}.bias"]

            def norm(name: str, value: Tensor, number: int = number) -> Tensor:
                weight, bias = state[f"blocks.{number}.{name}.weight"], state[f"blocks.{number}.{name}.bias"]
                return F.layer_norm(value, (d,), weight, bias, 1e-6)

            q, k, v = layer("attn.qkv", norm("norm1", x)).split(d, dim=1)
            parts = []
            for head in range(heads):
                of_head = slice(head * d // heads, (head + 1) * d // heads)
                scores = (q[:, of_head] @ k[:, of_head].T) / math.sqrt(d // heads)
                parts.append(scores.exp() / scores.exp().sum(dim=1, keepdim=True) @ v[:, of_head])
            x = x + layer("attn.proj", torch.cat(parts, dim=1))
            x = x + layer("mlp.fc2", F.gelu(layer("mlp.fc1", norm("norm2", x))))
            tokens = [x[0], *x[1 + prompts.shape[1] :]]
        outputs.append(F.layer_norm(torch.stack(tokens), (d,), state["norm.weight"], state["norm.bias"], 1e-6))
    return torch.stack(outputs)


@pytest.mark.parametrize("width", [0, 12])
def test_the_tokens_equal_a_forward_pass_by_hand(width: int) -> None:
    network = vit()
    prompted = PromptedViT(network, count=4, width=width, seed=5)
    prompts = prompted.prompt
    if width:
        prompts = prompts @ prompted.project.weight.T + prompted.project.bias  # type: ignore[operator]
    with torch.no_grad():
        torch.testing.assert_close(prompted(images()), by_hand(network, prompts, images()), rtol=1e-5, atol=1e-5)


def test_prompts_are_trained_and_the_encoder_is_not() -> None:
    network = vit()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    trained_before = [parameter.requires_grad for parameter in network.parameters()]
    network.blocks[1].eval()
    modes = [part.training for part in network.modules()]
    prompted = PromptedViT(network, count=2, width=6)
    with frozen(network):
        prompted.train()
        assert prompted.training
        assert not any(part.training for part in network.modules()), "the encoder left evaluation mode"
        optimizer = torch.optim.SGD([p for p in prompted.parameters() if p.requires_grad], lr=1.0)
        loss = prompted(images()).square().mean()
        loss.backward()
        gradients = {name: p.grad for name, p in prompted.named_parameters() if p.grad is not None}
        optimizer.step()
    assert gradients.keys() == {"prompt", "project.weight", "project.bias"}
    assert all(bool((gradients["prompt"][block] != 0).any()) for block in range(3)), "a block's prompts are not used"
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert [parameter.requires_grad for parameter in network.parameters()] == trained_before
    assert [part.training for part in network.modules()] == modes


def test_prompts_are_left_out_of_the_mean_and_of_resized_positions() -> None:
    """Trap ii: pooling has one token per patch, and another size resizes the positions of the patches alone."""
    network = vit()
    prompted = PromptedViT(network, count=7)
    assert prompted(images()).shape == (2, 1 + 6, 32)
    with torch.no_grad():
        tokens = by_hand(network, prompted.prompt, images())
        torch.testing.assert_close(pool(prompted(images()), "mean"), tokens[:, 1:].mean(dim=1), rtol=1e-4, atol=1e-5)
    larger = at_size(network, (32, 32))
    again = PromptedViT(larger, count=7)
    assert torch.equal(again.prompt, prompted.prompt)
    assert larger.pos_embed.shape == (1, 1 + 16, 32)
    with torch.no_grad():
        image = images(size=(32, 32))
        torch.testing.assert_close(again(image), by_hand(larger, again.prompt, image), rtol=1e-4, atol=1e-5)


def test_prompts_that_no_token_sees_change_nothing() -> None:
    network = vit(ViTConfig(size=(16, 24), patch=8, width=32, depth=1, heads=4))
    prompted = PromptedViT(network, count=3)
    with torch.no_grad():
        for parameter in network.blocks[0].attn.parameters():  # type: ignore[union-attr]
            parameter.zero_()  # no token sees another
        assert torch.equal(prompted(images()), network(images()))


def test_prompts_start_within_the_published_bound() -> None:
    prompted = PromptedViT(vit(), count=500)
    bound = math.sqrt(6 / (3 * 8**2 + 32))
    largest = float(prompted.prompt.detach().abs().max())
    assert 0.99 * bound < largest <= bound
    assert float(prompted.prompt.detach().mean()) == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize(("count", "width"), [(0, 0), (5000, 0), (1, -1)])
def test_impossible_prompts_are_refused(count: int, width: int) -> None:
    with pytest.raises(ValueError, match=f"prompts={count}"):
        PromptedViT(vit(), count=count, width=width)
