"""One feature of an image from the tokens of its last layer."""

from __future__ import annotations

from typing import Literal

from jaxtyping import Float
from torch import Tensor

Pooling = Literal["cls", "mean"]
"""The class token, or the mean of the patch tokens."""


def pool(tokens: Float[Tensor, "b t d"], pooling: Pooling) -> Float[Tensor, "b d"]:
    """The feature of each image; ``tokens`` are the class token and then those of the patches."""
    return tokens[:, 0] if pooling == "cls" else tokens[:, 1:].mean(dim=1)
