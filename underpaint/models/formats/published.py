"""The sizes in which weights were published: a family and its licence are claimed for these alone (paper.md 1.1, 6.1).

Names and shapes are all that a bare file shows, and anybody may train a ViT with the names of another's code.
"""

from __future__ import annotations

from collections.abc import Collection

from underpaint.models.mae_decoder import DecoderConfig
from underpaint.models.vit import ViTConfig

NON_COMMERCIAL = "CC-BY-NC-4.0"
UNKNOWN_LICENCE = ""
"""Neither the file nor its published twin states a licence: it is for the user to find out and to say."""
IMAGENET_CLASSES = 1000

_SHAPES = {
    (16, 768, 12, 12): "B/16",
    (32, 768, 12, 12): "B/32",
    (16, 1024, 24, 16): "L/16",
    (32, 1024, 24, 16): "L/32",
    (14, 1280, 32, 16): "H/14",
    (14, 2560, 24, 32): "2B/14",
    (14, 4096, 32, 32): "6.5B/14",
}
"""Names by patch, width, depth and heads."""

Sizes = Collection[tuple[str, int]]
"""Names of shapes with the side of the images in pixels."""

MAE: Sizes = {("B/16", 224), ("L/16", 224), ("H/14", 224)}
MAE_DECODER = DecoderConfig(width=512, depth=8, heads=16, mlp_ratio=4)
MAWS: Sizes = {*MAE, ("2B/14", 224), ("6.5B/14", 224)}
MAWS_FINETUNED: Sizes = {("B/16", 512), ("L/16", 512), ("H/14", 518), ("2B/14", 518), ("6.5B/14", 518)}
_SWAG_FINETUNED: Sizes = {("B/16", 384), ("L/16", 512), ("H/14", 518)}
SWAG: Sizes = {*MAE, *_SWAG_FINETUNED}
TORCHVISION: Sizes = {("B/16", 224), ("B/32", 224), ("L/16", 224), ("L/32", 224)}
"""Trained by torchvision itself from scratch; beside these it passes SWAG's files on."""


def is_published(encoder: ViTConfig, sizes: Sizes) -> bool:
    """Whether an encoder has one of these sizes, in everything that its shapes show and its number of heads."""
    name = _SHAPES.get((encoder.patch, encoder.width, encoder.depth, encoder.heads), "")
    plain = (encoder.channels, encoder.mlp_ratio) == (3, 4) and encoder.size[0] == encoder.size[1]
    return plain and (name, encoder.size[0]) in sizes
