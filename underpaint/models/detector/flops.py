"""Training FLOPs of a detector in closed form, as torch's counter sees them (models/flops.py)."""

from __future__ import annotations

from underpaint.models.detector.config import BOX_LEVELS, MASK_SIDE, POOLED_BOX, POOLED_MASK, DetectorConfig
from underpaint.models.flops import BACKWARD
from underpaint.models.vit import ViTConfig

POSITIVE_REGIONS = 4
"""One in so many sampled regions has a mask, at most; the cost of masks is that of the most."""


def detection_flops(encoder: ViTConfig, config: DetectorConfig, *, classes: int) -> int:
    """FLOPs of one training sample, forward and backward, with as many regions as are sampled.

    The patch embedding's backward needs no gradient for the pixels, so it has one product instead of two.
    """
    embedding = encoder.num_patches * encoder.patch_values * encoder.width
    above = pyramid_macs(encoder, config) + head_macs(config, classes)
    return 2 * ((1 + BACKWARD) * (windowed_macs(encoder, config) + above) - embedding)


def windowed_macs(encoder: ViTConfig, config: DetectorConfig) -> int:
    """Multiply-adds of the encoder for one image; windows at the border are as large as the others."""
    embedding = encoder.num_patches * encoder.patch_values * encoder.width
    shared = encoder.num_patches * encoder.width**2 * 2 * encoder.mlp_ratio
    total = embedding + encoder.depth * shared
    for block in range(encoder.depth):
        window = encoder.grid if block in config.global_blocks else (config.window, config.window)
        total += attention_macs(encoder, window)
    return total


def attention_macs(encoder: ViTConfig, window: tuple[int, int]) -> int:
    """Multiply-adds of attention within windows, relative positions among the channels of queries and keys."""
    (rows, columns), (high, wide), width = encoder.grid, window, encoder.width
    windows, places = -(-rows // high) * -(-columns // wide), high * wide
    projections = 4 * places * width**2
    positions = places * width * (high + wide)
    channels = width + encoder.heads * (high + wide)  # of queries, keys and values of all heads
    return windows * (projections + positions + 2 * places**2 * channels)


def pyramid_macs(encoder: ViTConfig, config: DetectorConfig) -> int:
    """Multiply-adds of the pyramid and of the network of proposals for one image."""
    width, channels, n = encoder.width, config.channels, encoder.num_patches
    half, quarter = width // 2, width // 4
    up = 4 * n * (width * half + 4 * half * quarter + width * half)
    mixed = n * (16 * quarter + 4 * half + width + width // 4) * channels
    places = [n * 16, n * 4, n, n // 4]
    smoothed = sum(places) * 9 * channels**2
    anchors = len(config.anchor_ratios)
    rows, columns = encoder.grid
    places.append(-(-rows // 4) * -(-columns // 4))
    assert len(places) == BOX_LEVELS + 1
    return up + mixed + smoothed + sum(places) * (2 * 9 * channels**2 + 5 * anchors * channels)


def head_macs(config: DetectorConfig, classes: int) -> int:
    """Multiply-adds of all stages and of the mask head for the sampled regions of one image."""
    channels, hidden = config.channels, config.hidden
    convolution = 9 * channels**2
    box = POOLED_BOX**2 * (config.convolutions * convolution + channels * hidden) + hidden * (classes + 1 + 4)
    mask = POOLED_MASK**2 * (config.convolutions * convolution + 4 * channels**2) + MASK_SIDE**2 * channels * classes
    masks = config.sampled_regions // POSITIVE_REGIONS * mask if config.masks else 0
    return len(config.cascade) * config.sampled_regions * box + masks
