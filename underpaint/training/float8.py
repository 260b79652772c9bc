"""Matrix products in float8 by torchao's own linear layer, for the layers where that is quicker than bf16.

Weights, gradients, the optimizer and checkpoints stay as they are: inputs of a product are scaled and cast on the way
in, each tensor by its largest value ("tensorwise"), and the result is bf16.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

import torch
from torch import nn

CAPABILITY = (8, 9)
"""Lowest compute capability of CUDA devices whose tensor cores multiply float8: Ada; Hopper has 9.0, Blackwell 10.0."""
SIDE = 16
"""Number that both sides of a weight must be divisible by."""
SMALL_IN, SMALL_OUT = 4096, 1024
"""A layer with no more inputs and outputs than these loses in the casts what its products gain: torchao's rule, from
its measurements on an H100. We have measured nothing of it."""


def require_support(precision: str, device: torch.device, *, compiled: bool) -> None:
    """Raise ValueError, with what to do, where precision=float8 cannot run or cannot pay; other precisions run."""
    if precision != "float8":
        return
    if device.type != "cuda":
        raise ValueError(f"precision=float8 needs a CUDA GPU, and this run is on {device}; choose precision=bf16")
    capability = torch.cuda.get_device_capability(device)
    if capability < CAPABILITY:
        raise ValueError(
            f"precision=float8 needs a GPU of compute capability {CAPABILITY[0]}.{CAPABILITY[1]} (Ada, Hopper) or "
            f"later; {torch.cuda.get_device_name(device)} has {capability[0]}.{capability[1]}; choose precision=bf16"
        )
    if find_spec("torchao") is None:
        raise ValueError("precision=float8 needs torchao; install it with: pip install '.[float8]'")
    if not compiled:
        raise ValueError(
            "precision=float8 is slower than bf16 where the casts are not compiled into the layers around them; "
            "set parallel.compile=true"
        )


def convert(network: nn.Module, blocks: Sequence[nn.Module], *, emulate: bool = False) -> nn.Module:
    """Let the large linear layers of a network's blocks multiply in float8, in place. Names and values stay.

    With ``emulate`` the casts are made and the products are not in float8, on any device: for tests.

    Raises:
        ValueError: if no layer is large enough.
    """
    from torchao.float8 import Float8LinearConfig, convert_to_float8_training

    config = Float8LinearConfig(emulate=emulate, pad_inner_dim=True)  # tokens of a batch need not divide by 16
    if not any(pays(module) for block in blocks for module in block.modules()):
        raise ValueError(
            f"precision=float8 pays for layers of more than {SMALL_IN} inputs or {SMALL_OUT} outputs, and this network "
            "has none; choose precision=bf16"
        )
    for block in blocks:
        convert_to_float8_training(block, module_filter_fn=lambda module, name: pays(module), config=config)
    return network


def pays(module: nn.Module) -> bool:
    """Whether float8 can multiply with this layer, and gains."""
    if not isinstance(module, nn.Linear) or module.in_features % SIDE or module.out_features % SIDE:
        return False
    return module.in_features > SMALL_IN or module.out_features > SMALL_OUT
