"""Files of facebookresearch/maws: encoders after WSP, or after MAE on the same images; finetuned on ImageNet-1k.

Bare state dicts of timm's ViT (paper.md 6.1). Its CLIP models hold such an encoder under ``vision_encoder.``.
"""

from __future__ import annotations

from typing import Any

from underpaint.models.formats.key_patterns import (
    IMAGENET,
    ForeignFile,
    Recognised,
    checked,
    encoder_config,
    head_rules,
)
from underpaint.models.formats.mae_checkpoint import PLAIN, plain_blocks
from underpaint.models.formats.published import (
    IMAGENET_CLASSES,
    MAWS,
    MAWS_FINETUNED,
    NON_COMMERCIAL,
    is_published,
)

ENCODER_USUAL: dict[str, Any] = IMAGENET | {"view": "crop", "crop_share": 1.0, "interpolation": "bicubic"}
"""Zero-shot: short side to 224, centre cut (paper.md 6.2)."""
FINETUNED_USUAL: dict[str, Any] = IMAGENET | {"view": "stretch", "interpolation": "bicubic"}
"""Finetuned: resized straight to the square (paper.md 2.2)."""
LOOKALIKES = "that the weights are MAWS's: those of timm and DINO in this size have the same names and shapes, " + (
    "another licence and perhaps another normalisation (licence=... mean=... std=... if they are)"
)


def recognise(foreign: ForeignFile) -> Recognised | None:
    """A bare encoder, or one with ImageNet's classes, of a size that MAWS was published in; None for anything else."""
    names = foreign.shapes.keys()
    if not {"patch_embed.proj.weight", "pos_embed", "norm.weight"} <= names or foreign.wrapped or foreign.config:
        return None
    classes = foreign.shapes["head.weight"][0] if "head.weight" in names else 0
    if classes not in (0, IMAGENET_CLASSES):
        return None
    rules = PLAIN.rules(plain_blocks(foreign), "encoder.") + (head_rules() if classes else ())
    assumed = [] if classes else [LOOKALIKES]
    usual = FINETUNED_USUAL if classes else ENCODER_USUAL
    config = encoder_config(foreign, rules, title="bare ViT", said={}, usual=usual, assumed=assumed)
    if not is_published(config, MAWS_FINETUNED if classes else MAWS):
        return None
    recognised = Recognised(
        title="finetuned MAWS" if classes else "encoder of MAWS or IG-MAE",
        encoder=config,
        rules=rules,
        classes=classes,
        licence=NON_COMMERCIAL,
        assumed=tuple(assumed),
    )
    return checked(recognised, foreign)
