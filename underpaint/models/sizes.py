"""The named encoder sizes: the paper's five (paper.md 1.1) and small ones for laptops and tests."""

from __future__ import annotations

from dataclasses import replace

from underpaint.models.vit import ViTConfig


def _vit(patch: int, width: int, depth: int, heads: int) -> ViTConfig:
    return ViTConfig(patch=patch, width=width, depth=depth, heads=heads)


SIZES: dict[str, ViTConfig] = {
    "vit_ti16": _vit(16, 192, 12, 3),
    "vit_s16": _vit(16, 384, 12, 6),
    "vit_b16": _vit(16, 768, 12, 12),
    "vit_l16": _vit(16, 1024, 24, 16),
    "vit_h14": _vit(14, 1280, 32, 16),
    "vit_2b14": _vit(14, 2560, 24, 32),
    "vit_6.5b14": _vit(14, 4096, 32, 32),
    # for drawings of 48 px on a laptop's processor
    "vit_laptop8": replace(_vit(8, 96, 4, 3), size=(48, 48)),
    "vit_small8": replace(_vit(8, 128, 6, 4), size=(48, 48)),
    "vit_smoke8": replace(_vit(8, 32, 2, 2), size=(32, 32)),
}
