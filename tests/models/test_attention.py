"""Attention by batched products against torch's fused kernel, in values and gradients, and the rule that chooses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from underpaint.models import attention as module
from underpaint.models.attention import Products, attention, uses_products
from underpaint.models.vit import ViT, ViTConfig

SHAPES = [(3, 2, 5, 4), (7, 3, 17, 8), (4, 1, 1, 16), (2, 6, 65, 32)]


def inputs(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """q, k and v in one tensor, as a projection returns them, and a gradient of what comes out."""
    b, heads, n, w = shape
    numbers = torch.Generator().manual_seed(0)
    qkv = torch.randn(b, n, 3, heads, w, generator=numbers).to(dtype).requires_grad_()
    return qkv, torch.randn(b, n, heads, w, generator=numbers).to(dtype)


def fused(*packed: Tensor) -> Tensor:
    q, k, v = (part.transpose(1, 2) for values in packed for part in values.unbind(2))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2)


@pytest.mark.parametrize("scores", [1, 100, 2**20])
@pytest.mark.parametrize("shape", SHAPES)
def test_products_equal_the_fused_kernel(shape: tuple[int, ...], scores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the number of samples that are computed at once, the last slice shorter than the others included."""
    monkeypatch.setattr(module, "SCORES", scores)
    qkv, gradient = inputs(shape, torch.float32)
    expected, found = fused(qkv), Products.apply(qkv)
    assert isinstance(found, Tensor)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    theirs, mine = torch.autograd.grad(expected, qkv, gradient), torch.autograd.grad(found, qkv, gradient)
    for name, one, other in zip("qkv", mine[0].unbind(2), theirs[0].unbind(2), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize("scores", [1, 2**20])
def test_products_from_one_set_of_tokens_to_another(scores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SCORES", scores)
    first, gradient = inputs((3, 2, 5, 4), torch.float32)
    second, _ = inputs((3, 2, 9, 4), torch.float32)
    packed = (first[:, :, :1].detach().requires_grad_(), second[:, :, 1:].detach().requires_grad_())
    expected, found = fused(*packed), attention(*packed)
    assert type(found.grad_fn).__name__ == "ProductsBackward", "not the fused kernel against itself"
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    theirs = torch.autograd.grad(expected, packed, gradient)
    mine = torch.autograd.grad(found, packed, gradient)
    torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)


def test_products_have_the_gradient_that_differences_give() -> None:
    qkv, _ = inputs((2, 2, 5, 3), torch.float64)
    assert torch.autograd.gradcheck(Products.apply, qkv)


def test_bf16_is_as_near_to_the_truth_as_unfused_attention() -> None:
    """Against fp64; the yardstick is attention written out in bf16 with its softmax in fp32, as autocast runs it."""
    qkv, gradient = inputs((4, 6, 65, 32), torch.bfloat16)

    def written_out(qkv: Tensor) -> Tensor:
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        return (((q @ k.mT) * q.shape[-1] ** -0.5).float().softmax(dim=-1).to(v.dtype) @ v).transpose(1, 2)

    def result(kind: object, dtype: torch.dtype) -> list[Tensor]:
        given = qkv.detach().to(dtype).requires_grad_()
        out = kind(given)  # pyright: ignore[reportCallIssue]
        return [out, *torch.autograd.grad(out, given, gradient.to(dtype))[0].unbind(2)]

    truth = result(fused, torch.float64)
    for mine, theirs, true in zip(
        result(Products.apply, torch.bfloat16), result(written_out, torch.bfloat16), truth, strict=True
    ):
        assert (mine - true).square().mean().sqrt() <= 1.1 * (theirs - true).square().mean().sqrt()


def test_the_rule() -> None:
    assert uses_products("cpu", torch.float32, 65, 32)
    assert not uses_products("cpu", torch.float32, 257, 80)
    assert uses_products("cpu", torch.bfloat16, 257, 80)
    assert not uses_products("cpu", torch.bfloat16, 1025, 64)
    assert not uses_products("cuda", torch.bfloat16, 50, 64)
    assert not uses_products("meta", torch.float32, 50, 64)


def test_products_serve_training_alone() -> None:
    qkv, _ = inputs(SHAPES[1], torch.float32)
    with torch.no_grad():
        assert attention(qkv).grad_fn is None
    assert type(attention(qkv).grad_fn).__name__ == "ProductsBackward"


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_an_encoder_keeps_no_scores(precision: torch.dtype) -> None:
    """What autograd keeps grows linearly with the tokens, as the memory plan says."""

    def kept(side: int) -> int:
        config = ViTConfig(size=(side, side), patch=8, width=32, depth=2, heads=2)
        storages: dict[int, int] = {}

        def pack(value: Tensor) -> Tensor:
            storages[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
            return value

        network = ViT(config)
        weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
        with (
            torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value),
            torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == torch.bfloat16),
        ):
            out = network(torch.zeros(4, 3, side, side))
        del out
        return sum(size for place, size in storages.items() if place not in weights)

    small, large = kept(32), kept(128)  # 17 and 257 tokens
    assert large < 16.5 * small
