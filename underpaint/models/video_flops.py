"""Training FLOPs of a classifier of clips in closed form, as torch's counter sees them (models/flops.py)."""

from __future__ import annotations

from underpaint.models.flops import BACKWARD, block_macs
from underpaint.models.video import ClipConfig
from underpaint.models.vit import ViTConfig


def clip_flops(encoder: ViTConfig, clip: ClipConfig, classes: int, *, frozen_encoder: bool = False) -> int:
    """FLOPs of one training clip, forward and backward; a frozen encoder has no backward.

    The backward of the tubelet embedding needs no gradient for the pixels, so it has one product instead of two.
    """
    embedding = clip.frames * encoder.num_patches * encoder.patch_values * encoder.width
    forward = embedding + encoder.depth * space_time_block_macs(encoder, clip)
    head = encoder.width * classes
    if frozen_encoder:
        return 2 * (forward + 2 * head)
    return 2 * ((1 + BACKWARD) * (forward + head) - embedding)


def space_time_block_macs(encoder: ViTConfig, clip: ClipConfig) -> int:
    """Multiply-adds of one block for one clip, relative positions among the channels of queries, keys and values."""
    tubelets = clip.tubelets * encoder.num_patches
    offsets = clip.tubelets + sum(encoder.grid)
    further = tubelets * encoder.width * offsets + 2 * (1 + tubelets) ** 2 * encoder.heads * offsets
    return block_macs(1 + tubelets, encoder.width, encoder.mlp_ratio) + further
