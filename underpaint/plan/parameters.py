"""The parameters of a run's network, counted on the ``meta`` device: exact for every objective, and quick for 6.5B."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from underpaint.core import Facts
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
        """Whether autocast keeps a bf16 copy of it for the backward pass."""
        return self.name.endswith("weight") and len(self.shape) > 1


def parameters(run: Run, facts: Facts) -> list[Parameter]:
    with torch.device("meta"):
        network = run.objective.build(facts)
    return [
        Parameter(name=name, shape=tuple(value.shape), trained=value.requires_grad)
        for name, value in network.named_parameters()
    ]


def assumed_facts(labels: int) -> Facts:
    """Facts of data that has not been opened: so many labels, all alike."""
    return Facts(seed=0, labels=tuple(map(str, range(labels))), label_count=(1,) * labels, images=labels)
