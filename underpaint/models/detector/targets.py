"""The objects of an image, as a detector learns them, and its detections."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from underpaint.models.detector.regions import Boxes


class Objects(NamedTuple):
    """Annotated objects of one image."""

    boxes: Boxes
    classes: Int64[Tensor, " n"]
    masks: UInt8[Tensor, "n side side"] | None
    """Mask of each object over its box, 0 or 1, or UNKNOWN_MASK (core.py); None where none are learnt."""


class Detections(NamedTuple):
    """Detected objects of one image, the surest first."""

    boxes: Boxes
    scores: Float[Tensor, " n"]
    classes: Int64[Tensor, " n"]
    masks: Float[Tensor, "n side side"] | None = None
    """Probability of each place of the box to be the object."""
