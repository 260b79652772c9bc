"""Files of facebookresearch/maws: encoders after WSP, or after MAE on the same images; finetuned on ImageNet-1k.

Bare state dicts of timm's ViT (paper.md 6.1). Its CLIP models hold such an encoder under ``vision_encoder.``.
"""

from __future__ import annotations

from typing import Any

from underpaint.models.formats.key_patterns import (
    IMAGENET,
    NON_COMMERCIAL,
    ForeignFile,
    Recognised,
    checked,
    encoder_config,
    head_rules,
)
from underpaint.models.formats.mae_checkpoint import PLAIN, plain_blocks

ENCODER_USUAL: dict[str, Any] = IMAGENET | {"view": "crop", "crop_share": 1.0, "interpolation": "bicubic"}
"""Zero-shot: short side to 224, centre cut (paper.md 6.2)."""
FINETUNED_USUAL: dict[str, Any] = IMAGENET | {"view": "stretch", "interpolation": "bicubic"}
"""Finetuned: resized straight to the square (paper.md 2.2)."""
FINETUNED_PIXELS = {16: 512, 14: 518}


def recognise(foreign: ForeignFile) -> Recognised | None:
    """A bare encoder, or one with a classifier at the size that MAWS is finetuned at; None for anything else."""
    names = foreign.shapes.keys()
    if not {"patch_embed.proj.weight", "pos_embed", "norm.weight"} <= names or foreign.wrapped or foreign.config:
        return None
    classes = foreign.shapes["head.weight"][0] if "head.weight" in names else 0
    patch = foreign.shapes["patch_embed.proj.weight"][-1]
    grid = FINETUNED_PIXELS.get(patch, 0) // patch
    if classes and foreign.shapes["pos_embed"][1:2] != (grid * grid + 1,):
        return None
    rules = PLAIN.rules(plain_blocks(foreign), "encoder.") + (head_rules() if classes else ())
    title = "finetuned MAWS" if classes else "encoder of MAWS or IG-MAE"
    assumed: list[str] = []
    usual = FINETUNED_USUAL if classes else ENCODER_USUAL
    config = encoder_config(foreign, rules, title=title, said={}, usual=usual, assumed=assumed)
    found = Recognised(
        title=title,
        encoder=config,
        rules=rules,
        classes=classes,
        licence=NON_COMMERCIAL,
        assumed=tuple(assumed),
    )
    return checked(found, foreign)
