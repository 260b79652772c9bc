"""Norms and GELU computed again on the way back: the same values and gradients, less memory, nothing else touched."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from underpaint.models.mae_decoder import CrossBlock
from underpaint.models.recompute import make_lean
from underpaint.models.vit import Block
from underpaint.training.parallel import ParallelConfig, prepare_blocks

WIDTH = 64
RECOMPUTED_BIASES = ("qkv.bias", "q.bias", "kv.bias", "proj.bias", "fc1.bias", "fc2.bias")
"""Summed in another order than autograd sums them."""


def prepared(kind: type[nn.Module], *, recompute: bool, **more: bool) -> nn.Module:
    torch.manual_seed(0)
    block = kind(WIDTH, 4, 4, 1e-6)
    with torch.no_grad():
        for parameter in block.parameters():  # norms with weights and biases that matter
            parameter.add_(0.1 * torch.randn_like(parameter))
    prepare_blocks([block], ParallelConfig(recompute_pointwise=recompute, **more), make_lean=make_lean)
    return block


def numbers(tokens: int, seed: int) -> Tensor:
    return torch.randn(3, tokens, WIDTH, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def gradients(block: nn.Module, given: list[Tensor], *, bf16: bool) -> dict[str, Tensor]:
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        out = block(*given)
    out.backward(numbers(out.shape[1], 9).detach().to(out.dtype))
    found = {name: parameter.grad for name, parameter in block.named_parameters()}
    found |= {f"input {number}": value.grad for number, value in enumerate(given)}
    assert all(value is not None for value in found.values()), found.keys()
    return {"out": out.detach()} | {name: value for name, value in found.items() if value is not None}


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("kind", [Block, CrossBlock])
def test_values_and_gradients_are_those_of_the_plain_block(kind: type[nn.Module], bf16: bool) -> None:
    def given() -> list[Tensor]:
        return [numbers(17, 1), *([numbers(5, 2)] if kind is CrossBlock else [])]

    plain = gradients(prepared(kind, recompute=False), given(), bf16=bf16)
    again = gradients(prepared(kind, recompute=True), given(), bf16=bf16)
    assert plain.keys() == again.keys()
    for name, value in plain.items():
        assert again[name].dtype == value.dtype
        if name.endswith(RECOMPUTED_BIASES):
            close = 0.02 if bf16 else 1e-5
            torch.testing.assert_close(again[name], value, rtol=close, atol=close * float(value.abs().max()))
        else:
            assert torch.equal(again[name], value), name


def kept(block: nn.Module, *, tokens: int) -> int:
    """Bytes that autograd keeps, beside the weights."""
    storages: dict[int, int] = {}

    def pack(value: Tensor) -> Tensor:
        storages[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        return value

    weights = {parameter.untyped_storage().data_ptr() for parameter in block.parameters()}
    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value),
        torch.autocast("cpu", torch.bfloat16),
    ):
        out = block(numbers(tokens, 1))
    del out
    return sum(size for place, size in storages.items() if place not in weights)


def test_two_fifths_less_is_kept() -> None:
    """Per token and width in bf16: 4 bytes of the input, 2 of what attention adds to it, 6 of q, k and v, 2 of what
    goes into their projection, 8 of the hidden layer; not 2 more for the sum, 4 of normed inputs and 8 behind GELU.
    """
    unit, few, many = 3 * WIDTH, 100, 1100
    plain, lean = (
        (kept(block, tokens=many) - kept(block, tokens=few)) / (unit * (many - few))
        for block in (prepared(Block, recompute=False), prepared(Block, recompute=True))
    )
    assert 36 <= plain < 37
    assert 22 <= lean < 23


def test_nothing_is_recomputed_without_gradients_or_in_exported_graphs() -> None:
    block = prepared(Block, recompute=True)
    with torch.no_grad():
        assert block(numbers(5, 1)).grad_fn is None
    exported = torch.export.export(block, (numbers(5, 1),))
    assert "LinearAfter" not in str(exported.graph)
    with torch.no_grad():
        torch.testing.assert_close(exported.module()(numbers(5, 1)), block(numbers(5, 1)))


def test_it_goes_with_checkpointing() -> None:
    plain = gradients(prepared(Block, recompute=False), [numbers(17, 1)], bf16=True)
    both = gradients(prepared(Block, recompute=True, checkpoint_activations=True), [numbers(17, 1)], bf16=True)
    assert torch.equal(plain["out"], both["out"])
    assert torch.equal(plain["input 0"], both["input 0"])


def test_it_goes_with_frozen_layers() -> None:
    block = prepared(Block, recompute=True)
    block.get_submodule("mlp.fc1").requires_grad_(False)
    block.get_submodule("norm1").requires_grad_(False)
    plain = prepared(Block, recompute=False)
    expected = gradients(plain, [numbers(7, 1)], bf16=False)
    block(numbers(7, 1)).backward(numbers(7, 9).detach())
    for name, parameter in block.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None
            torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-5, atol=1e-5)
        else:
            assert parameter.grad is None


def test_a_block_of_another_class_is_refused_by_name() -> None:
    config = ParallelConfig(recompute_pointwise=True)
    with pytest.raises(
        ValueError,
        match=r"recompute_pointwise=true has no form for blocks of this class or with windows, TransformerEnc",
    ):
        prepare_blocks([nn.TransformerEncoderLayer(8, 2)], config, make_lean=make_lean)
