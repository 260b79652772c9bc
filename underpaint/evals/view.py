"""The view of each image in an evaluation: the whole image, stretched, or its centre."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from underpaint.core import EvaluationView, ImageInput

ViewSetting = Literal["encoder", "stretch", "crop", "crop_oblong"]
"""``stretch``: the whole image, resized straight to the encoder's size. ``crop``: MAE's view, the centre of an image
whose short side is 256/224 of that size (paper.md 2.3, 2.4). ``crop_oblong``: that for images of another shape than the
encoder's, while the others are seen whole; an encoder that comes with a crop of its own keeps it. ``encoder``: as the
encoder's config says."""

CROP_SHARE = 224 / 256
LARGEST_CROPPED = 224
"""Above this size MAE's code cuts off nothing but what goes beyond the shape (its util/datasets.py)."""


def evaluation_input(encoder: ImageInput, view: ViewSetting) -> ImageInput:
    """The images that an encoder takes, in this view."""
    if view == "encoder" or (view == "crop_oblong" and encoder.view == "crop"):
        return encoder
    share = CROP_SHARE if view != "stretch" and max(encoder.size) <= LARGEST_CROPPED else 1.0
    named: EvaluationView = view
    return replace(encoder, view=named, crop_share=share)
