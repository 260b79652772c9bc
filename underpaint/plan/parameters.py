"""The parameters of a run's network, counted on the ``meta`` device: exact for every objective, and quick for 6.5B."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]

from underpaint.core import DataInfo
from underpaint.run import Run


@dataclass(frozen=True, kw_only=True)
class Parameter:
    name: str
    shape: tuple[int, ...]
    trained: bool

    @property
    def size(self) -> int:
        return self.shard(1)

    def shard(self, ranks: int) -> int:
        """Elements on the rank that has most: FSDP2 cuts the first dimension into equal parts, rounded up."""
        rest = 1
        for side in self.shape[1:]:
            rest *= side
        return -(-self.shape[0] // ranks) * rest

    @property
    def is_matrix(self) -> bool:
        """A weight of a linear layer or of the patch embedding."""
        return self.name.endswith("weight") and len(self.shape) > 1


@dataclass(frozen=True, kw_only=True)
class Portion:
    """Elements of some parameters, and what one of several ranks holds of them."""

    trained: int
    matrices: int  # trained ones of which autocast keeps a bf16 copy for the backward pass
    largest: int  # trained parameter
    per_rank: int
    own_trained: int


class Parameters:
    """The parameters of a network by name."""

    def __init__(self, named: Iterable[Parameter], *, batch_norm: bool = False) -> None:
        self.named = tuple(named)
        self.batch_norm = batch_norm  # the network normalises over a microbatch, whose size is then no free choice
        self._shares: dict[tuple[tuple[str, ...], int], Portion] = {}
        self.size = sum(p.size for p in self.named)
        self.trained = sum(p.size for p in self.named if p.trained)

    def share(self, prefixes: tuple[str, ...], ranks: int) -> Portion:
        """Elements of the parameters with one of these prefixes, whole and on one of the ranks that share them."""
        key = (prefixes, ranks)
        if key not in self._shares:
            chosen = [p for p in self.named if p.name.startswith(prefixes)]
            trained = [p for p in chosen if p.trained]
            self._shares[key] = Portion(
                trained=sum(p.size for p in trained),
                matrices=sum(p.size for p in trained if p.is_matrix),
                largest=max((p.size for p in trained), default=0),
                per_rank=sum(p.shard(ranks) for p in chosen),
                own_trained=sum(p.shard(ranks) for p in trained),
            )
        return self._shares[key]


def parameters(run: Run, data_info: DataInfo) -> Parameters:
    """Those of the run's objective with all it adds to the encoder."""
    with torch.device("meta"):
        network = run.objective.build(data_info)
    named = (
        Parameter(name=name, shape=tuple(value.shape), trained=value.requires_grad)
        for name, value in network.named_parameters()
    )
    return Parameters(named, batch_norm=any(isinstance(module, _BatchNorm) for module in network.modules()))


def assumed_data(labels: int) -> DataInfo:
    """The information about data that has not been opened: so many labels, all alike."""
    return DataInfo(seed=0, labels=tuple(map(str, range(labels))), label_count=(1,) * labels, images=labels)
