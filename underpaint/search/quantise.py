"""Embeddings in eight bits: fewer numbers by the axes along which images differ, then one byte each with a scale."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float32, Int8
from torch import Tensor

MOST_NUMBERS = 256
"""Numbers of an embedding in a page: 100,000 images then take 26 MB."""
FITTED_IMAGES = 20_000
"""Images that the axes are computed from, evenly spaced."""
LARGEST = 127


class Bytes(NamedTuple):
    """Vectors as rows of whole numbers from -127 to 127, each times the scale of its row."""

    value: Int8[np.ndarray, "n d"]
    scale: Float32[np.ndarray, " n"]

    def vectors(self) -> Float[np.ndarray, "n d"]:
        """The vectors that are meant, float64."""
        return self.value.astype(np.float64) * self.scale.astype(np.float64)[:, None]


def quantise(vectors: Float[Tensor, "n d"]) -> Bytes:
    """Rows in eight bits: the largest number of a row becomes 127, so that each is off by 1/254 of it at most."""
    x = vectors.numpy().astype(np.float64)
    scale = (np.abs(x).max(axis=1, initial=0) / LARGEST).astype(np.float32)
    divisor = np.where(scale > 0, scale, 1).astype(np.float64)
    value = np.rint(x / divisor[:, None]).clip(-LARGEST, LARGEST)
    return Bytes(value.astype(np.int8), scale)


def image_axes(images: Float[Tensor, "n e"], most: int = MOST_NUMBERS) -> Float[Tensor, "e d"] | None:
    """The axes that keep most of the images' lengths, or None where an embedding has no more than ``most`` numbers.

    They are the leading right singular vectors of the images, without a mean taken off: a cosine with any text then
    loses only the small part of the image that lies outside of them.
    """
    width = images.shape[1]
    if width <= most:
        return None
    fitted = images[:: max(1, len(images) // FITTED_IMAGES)].double()
    _, axes = torch.linalg.eigh(fitted.T @ fitted)  # ascending
    return axes[:, -most:].flip(1).float()


def shortened(vectors: Float[Tensor, "n e"], axes: Float[Tensor, "e d"] | None) -> Float[Tensor, "n d"]:
    """Vectors in the numbers along some axes; unchanged where there are none."""
    return vectors if axes is None else vectors @ axes
