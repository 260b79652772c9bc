"""Initial weights: every parameter is filled from a separate generator, seeded by its name.

So the start is the same for any number of ranks and does not change when a layer is added elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from underpaint import keyed_random
from underpaint.models.vit import ViT, sincos_positions

Scheme = Literal["mae", "swag"]
Rule = Callable[[str, Tensor, torch.Generator], None]


def mae_rule(name: str, value: Tensor, generator: torch.Generator) -> None:
    """MAE (paper.md 1.3): xavier-uniform linear layers and patch embedding, zero biases, tokens N(0, 0.02)."""
    if name.endswith(("cls_token", "mask_token", "pos_embed")):
        nn.init.normal_(value, std=0.02, generator=generator)
    elif value.ndim >= 2:
        nn.init.xavier_uniform_(value.flatten(1), generator=generator)
    else:
        _norm_or_bias(name, value)


def swag_rule(name: str, value: Tensor, generator: torch.Generator) -> None:
    """SWAG's ViT (paper.md 1.4): cls zero, positions N(0, 0.02), patch embedding by fan-in, MLP bias N(0, 1e-6)."""
    if name.endswith("cls_token"):
        nn.init.zeros_(value)
    elif name.endswith("pos_embed"):
        nn.init.normal_(value, std=0.02, generator=generator)
    elif value.ndim >= 4:  # patches, or tubelets of a clip
        fan_in = value[0].numel()
        nn.init.trunc_normal_(value, std=fan_in**-0.5, generator=generator)
    elif name.endswith("attn.proj.weight"):  # torch's own default for the output projection of attention
        nn.init.kaiming_uniform_(value, a=5**0.5, generator=generator)
    elif value.ndim >= 2:
        nn.init.xavier_uniform_(value, generator=generator)
    elif ".mlp." in name:
        nn.init.normal_(value, std=1e-6, generator=generator)
    else:
        _norm_or_bias(name, value)


def head_rule(std: float) -> Rule:
    """A classifier's head: normal weights, truncated at two deviations (all zero for ``std=0``, as SWAG's 28K head)."""

    def rule(name: str, value: Tensor, generator: torch.Generator) -> None:
        if value.ndim >= 2 and std > 0:
            nn.init.trunc_normal_(value, std=std, a=-2 * std, b=2 * std, generator=generator)
        elif value.ndim >= 2:
            nn.init.zeros_(value)
        else:
            _norm_or_bias(name, value)

    return rule


def text_rule(name: str, value: Tensor, generator: torch.Generator) -> None:
    """BERT and XLM-R: N(0, 0.02) for all matrices, embeddings among them, and zero biases."""
    if value.ndim >= 2:
        nn.init.normal_(value, std=0.02, generator=generator)
    else:
        _norm_or_bias(name, value)


def projection_rule(name: str, value: Tensor, generator: torch.Generator) -> None:
    """CLIP: N(0, 1/sqrt(width)) for a matrix (width, out) that is multiplied from the right (paper.md 1.6)."""
    nn.init.normal_(value, std=value.shape[0] ** -0.5, generator=generator)


def _norm_or_bias(name: str, value: Tensor) -> None:
    if name.endswith("weight"):
        nn.init.ones_(value)
    else:
        nn.init.zeros_(value)


@torch.no_grad()
def initialise(module: nn.Module, *, rule: Rule, seed: int, prefix: str) -> None:
    """Fill every trained parameter of ``module``; ``prefix`` is its name inside the objective.

    On ``meta`` there is nothing to fill; inside ``without_memory`` it is kept for later.
    """
    later = _LATER.get()
    for name, parameter in module.named_parameters():
        value = partial(initial_value, f"{prefix}.{name}", tuple(parameter.shape), rule=rule, seed=seed)
        if parameter.is_meta and later is not None:
            later[id(parameter)] = value
        elif parameter.requires_grad and not parameter.is_meta:
            parameter.copy_(value())


@torch.no_grad()
def initial_value(name: str, shape: tuple[int, ...], *, rule: Rule, seed: int) -> Tensor:
    """The initial value of one parameter, by its full name."""
    value = torch.empty(shape, device="cpu")
    rule(name, value, keyed_random.parameter_generator(seed, name))
    return value


Values = dict[str, Callable[[], Tensor]]
"""Functions that make the tensors of a network, by name."""
_LATER: ContextVar[dict[int, Callable[[], Tensor]] | None] = ContextVar("later", default=None)


def build_without_memory(build: Callable[[], nn.Module]) -> tuple[nn.Module, Values]:
    """A network whose layers are on ``meta``, and the values that each of its parameters and buffers is to have.

    So a network too large for one rank is cut up before it is filled, with the values it has everywhere else.

    Raises:
        ValueError: if a layer is not initialised by name, so that no other process could make the same values.
    """
    later: dict[int, Callable[[], Tensor]] = {}
    token = _LATER.set(later)
    try:
        with _LayersOnMeta():
            network = build()
    finally:
        _LATER.reset(token)
    values: Values = {}
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        if not tensor.is_meta:
            values[name] = partial(torch.clone, tensor.detach().clone())
        elif id(tensor) in later:
            values[name] = later[id(tensor)]
        else:
            raise ValueError(f"{name} has no initial value by name; fill it with models.init.initialise to shard it")
    return network, values


class _LayersOnMeta(TorchFunctionMode):
    """``torch.empty``, with which every layer makes its weights, gives tensors without memory; the rest is small."""

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        named = dict(kwargs or {})
        if func is torch.empty and named.get("device") is None:
            named["device"] = "meta"
        return func(*args, **named)


@torch.no_grad()
def initialise_encoder(vit: ViT, *, scheme: Scheme, seed: int) -> None:
    """Fill an encoder; sin-cos positions are written last because only they are not random."""
    initialise(vit, rule=mae_rule if scheme == "mae" else swag_rule, seed=seed, prefix="encoder")
    if vit.config.positions != "learned":
        vit.pos_embed.copy_(sincos_positions(vit.config.width, vit.config.grid))
