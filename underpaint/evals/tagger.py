"""Models that give probabilities to named labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn

from underpaint.core import ImageInput
from underpaint.evals.engine import ScoringNetwork


@runtime_checkable
class Tagger(Protocol):
    """A model that gives probabilities to named labels; satisfied by ``Classify`` and ``ZeroShot``."""

    @property
    def image_input(self) -> ImageInput: ...

    @property
    def labels(self) -> tuple[str, ...]: ...

    def probabilities(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]: ...

    def modules(self) -> Iterator[nn.Module]: ...


@runtime_checkable
class SplitTagger(ScoringNetwork, Tagger, Protocol):
    """A tagger whose probabilities follow from its scores; satisfied by ``Classify`` and ``ZeroShot``."""

    def probabilities_of(self, scores: Float[Tensor, "b k"]) -> Float[Tensor, "b k"]: ...
