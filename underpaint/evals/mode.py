"""Run a network as it is used, not as it is trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import torch
from torch import nn


@runtime_checkable
class Modular(Protocol):
    """The part of ``nn.Module`` that this module needs."""

    def modules(self) -> Iterator[nn.Module]: ...


@contextmanager
def evaluation_mode(module: Modular, device: torch.device) -> Iterator[None]:
    """Evaluation mode, no gradients, no autocast; afterwards every submodule is back in the mode it was in.

    Each submodule's own mode is kept, since a frozen encoder may stand in evaluation mode inside a training objective.
    """
    modes = [(part, part.training) for part in module.modules()]
    for part, _ in modes:
        part.training = False
    try:
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            yield
    finally:
        for part, training in modes:
            part.training = training
