"""Optimizers and their parameter groups: no-decay groups, layer-wise rates, AdamW, LARS and plain SGD."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, cast, overload

import torch
from torch import Tensor, nn

from underpaint.config import LATER
from underpaint.training import sharded_tensors

SomeOptimizer = TypeVar("SomeOptimizer", bound=torch.optim.Optimizer)

REFERENCE_BATCH = 256
"""``base_lr`` is the peak rate at this batch size; it scales linearly (Goyal et al. 2017)."""


def without_compiler(kind: type[SomeOptimizer]) -> type[SomeOptimizer]:
    """The optimizer without torch's wrappers for ``torch.compile``, whose first call imports the whole compiler.

    That import is a third of the time to a first step. Blocks are compiled here, and never an optimizer.
    """
    names = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")
    plain = {name: inspect.unwrap(getattr(kind, name)) for name in names}
    made = type(kind.__name__, (kind,), {**plain, "step": torch.no_grad()(inspect.unwrap(kind.step))})
    return cast("type[SomeOptimizer]", made)


AdamW, SGD = without_compiler(torch.optim.AdamW), without_compiler(torch.optim.SGD)


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    name: Literal["adamw", "lars", "sgd"] = "adamw"
    base_lr: float = 1.5e-4  # per 256 samples
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.95)  # adamw
    momentum: float = 0.9  # lars, sgd
    nesterov: bool = field(default=False, metadata=LATER)  # sgd: momentum as Nesterov's
    trust: float = 0.001  # lars
    layer_decay: float = 1.0  # factor of the rate from one block to the block below it
    decay_tokens: bool = True  # weight decay on cls, mask and position tokens (MAE: yes; finetuning: no)
    clip: float = math.inf  # largest gradient norm
    # Weight decay on vectors too: on biases, or on biases and the weights of norms (detectron2 decays them).
    decay_vectors: Literal["none", "biases", "all"] = field(default="none", metadata=LATER)

    def __post_init__(self) -> None:
        if not 0 < self.base_lr < math.inf or self.clip <= 0 or not 0 <= self.weight_decay < math.inf:
            raise ValueError(
                f"optim.base_lr={self.base_lr} must be positive and finite, optim.clip={self.clip} positive, "
                f"optim.weight_decay={self.weight_decay} not negative and finite"
            )
        if not all(0 <= beta < 1 for beta in (*self.betas, self.momentum)):
            raise ValueError(f"optim.betas={self.betas} and optim.momentum={self.momentum} must lie in [0, 1)")
        if self.nesterov and not self.momentum:
            raise ValueError("optim.nesterov=true needs a momentum; set optim.momentum=0.9 with it")
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"layer_decay={self.layer_decay} must lie in (0, 1]")

    def peak_lr(self, batch_size: int) -> float:
        return self.base_lr * batch_size / REFERENCE_BATCH


def is_decayed(name: str, parameter: Tensor, config: OptimConfig, *, of_norm: bool) -> bool:
    """Weight decay goes to matrices; to biases, norms and tokens only where the config says so."""
    if of_norm:
        return config.decay_vectors == "all"
    if parameter.ndim <= 1:
        return config.decay_vectors != "none"
    return config.decay_tokens or not name.endswith(("_token", "pos_embed"))


NORMS = (nn.LayerNorm, nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm)


def build_optimizer(
    objective: nn.Module, config: OptimConfig, *, layer_of: Callable[[str], int]
) -> torch.optim.Optimizer:
    """One group per (layer, decayed), from the lowest layer up; ``lr_scale`` of a group is ``layer_decay ** layer``.

    ``layer_of`` says how many layers lie above the parameter of a name.
    """
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    of_norms = {id(p) for module in objective.modules() if isinstance(module, NORMS) for p in module.parameters()}
    for name, parameter in objective.named_parameters():
        if not parameter.requires_grad:
            continue
        layer = layer_of(name) if config.layer_decay < 1 else 0
        decayed = is_decayed(name, parameter, config, of_norm=id(parameter) in of_norms)
        group = groups.setdefault(
            (-layer, decayed),
            {
                "params": [],
                "weight_decay": config.weight_decay if decayed else 0.0,
                "lr_scale": config.layer_decay**layer,
            },
        )
        group["params"].append(parameter)
    if not groups:
        raise ValueError("the objective has no trained parameter; is everything frozen?")
    ordered = [groups[key] for key in sorted(groups)]
    if config.name == "lars":
        return LARS(ordered, momentum=config.momentum, trust=config.trust)
    if config.name == "sgd":
        return SGD(ordered, lr=0.0, momentum=config.momentum, nesterov=config.nesterov)
    return AdamW(ordered, lr=0.0, betas=config.betas, fused=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_scale"]


def clip_gradients(optimizer: torch.optim.Optimizer, largest: float) -> Tensor:
    """Scale the gradients so that their norm is at most ``largest``; the norm before, over all ranks."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if largest == math.inf:  # clip_grad_norm_ would multiply every gradient by 1
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        return sharded_tensors.whole(nn.utils.get_total_norm(gradients))
    return sharded_tensors.whole(nn.utils.clip_grad_norm_(parameters, largest))


@without_compiler
class LARS(torch.optim.Optimizer):
    """Layer-wise adaptive rate scaling (You et al. 2017) as MAE's linear probe uses it (paper.md 2.3).

    Matrices: the gradient (with decay) is rescaled by ``trust * |w| / |g|``; vectors take a plain momentum step.
    """

    def __init__(self, params: Iterable[dict[str, Any]], *, momentum: float, trust: float) -> None:
        super().__init__(params, {"lr": 0.0, "momentum": momentum, "trust": trust, "weight_decay": 0.0})

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        assert closure is None, "LARS takes no closure"
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)
        return None

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> None:
        assert parameter.grad is not None
        update = parameter.grad
        if parameter.ndim > 1:
            update = update.add(parameter, alpha=group["weight_decay"])
            weight_norm, update_norm = parameter.norm(), update.norm()
            usable = (weight_norm > 0) & (update_norm > 0)
            scale = group["trust"] * weight_norm / update_norm.clamp(min=torch.finfo(update.dtype).tiny)
            update = update * torch.where(usable, scale, torch.ones_like(scale))
        state = self.state[parameter]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        momentum = state["momentum_buffer"].mul_(group["momentum"]).add_(update)
        parameter.add_(momentum, alpha=-group["lr"])
