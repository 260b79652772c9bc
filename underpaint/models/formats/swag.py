"""Vision transformers of facebookresearch/SWAG and of torchvision, which took the naming over (paper.md 6.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from underpaint.models.formats import ours
from underpaint.models.formats.key_patterns import (
    BLOCK,
    IMAGENET,
    NON_COMMERCIAL,
    ForeignFile,
    Names,
    Recognised,
    Rule,
    checked,
    depth_of,
    encoder_config,
)

ONCE = {
    "cls_token": "class_token",
    "pos_embed": "encoder.pos_embedding",
    "patch_embed.proj": "conv_proj",
    "norm": "encoder.ln",
}
INSIDE = dict(
    zip(BLOCK, ("ln_1", "self_attention.in_proj", "self_attention.out_proj", "ln_2", "mlp.0", "mlp.3"), strict=True)
)
OLDER_MLP = {"mlp.0": "mlp.linear_1", "mlp.3": "mlp.linear_2"}
"""SWAG, and torchvision's first files."""
SWAG_PIXELS = (384, 512, 518)
"""What SWAG is finetuned at (paper.md 2.2)."""
SWAG_USUAL: dict[str, Any] = IMAGENET | {"view": "crop", "crop_share": 1.0, "interpolation": "bicubic"}
TORCHVISION_USUAL: dict[str, Any] = IMAGENET | {"view": "crop", "crop_share": 0.875, "interpolation": "bilinear"}
"""Resize to 256 bilinearly, cut 224: torchvision's weights trained from scratch."""


def table(layer: str, *, older: bool) -> Names:
    """The names with blocks called ``layer`` (``layer_`` or ``encoder_layer_``) and a number."""
    block = {
        f"blocks.{{i}}.{ours}": f"encoder.layers.{layer}{{i}}.{OLDER_MLP.get(theirs, theirs) if older else theirs}"
        for ours, theirs in INSIDE.items()
    }
    return Names(ONCE, block)


def torchvision_rules(depth: int, *, head: bool) -> tuple[Rule, ...]:
    """What torchvision's VisionTransformer calls its tensors."""
    return table("encoder_layer_", older=False).rules(depth, "encoder.") + (_head("heads.head") if head else ())


def _head(theirs: str) -> tuple[Rule, ...]:
    return tuple(Rule(ours=f"head.{kind}", theirs=(f"{theirs}.{kind}",)) for kind in ("weight", "bias"))


def recognise(foreign: ForeignFile) -> Recognised | None:
    """A file in SWAG's or torchvision's naming, or None."""
    names = foreign.shapes.keys()
    if "conv_proj.weight" not in names:
        return None
    swag = any(name.startswith("encoder.layers.layer_") for name in names)
    layer = "layer_" if swag else "encoder_layer_"
    depth = depth_of(names, rf"encoder\.layers\.{layer}(\d+)\.")
    rules = table(layer, older=any(".mlp.linear_1." in name for name in names)).rules(depth, "encoder.")
    if swag:  # its positions are (tokens, 1, width)
        rules = tuple(replace(rule, swapped=rule.ours == "encoder.pos_embed") for rule in rules)
    head = next((h for h in ("head.layers.head", "heads.head") if f"{h}.weight" in names), "")
    title = "ViT of SWAG" if swag else "ViT of torchvision"
    all_rules = rules + (_head(head) if head else ())
    exported = ours.said(foreign, all_rules, title)
    if exported is not None:
        return checked(exported, foreign)
    assumed: list[str] = []
    usual, licence = _habits(foreign, swag=swag)
    config = encoder_config(foreign, rules, title=title, said={}, usual=usual, assumed=assumed)
    found = Recognised(
        title=title,
        encoder=config,
        rules=all_rules,
        classes=foreign.shapes[f"{head}.weight"][0] if head else 0,
        licence=licence,
        assumed=tuple(assumed),
    )
    return checked(found, foreign)


def _habits(foreign: ForeignFile, *, swag: bool) -> tuple[Mapping[str, Any], str]:
    """How images are prepared and under which licence the weights stand, as far as a name or a size gives it away."""
    positions, patch = foreign.shapes.get("encoder.pos_embedding", (1, 0, 0)), foreign.shapes["conv_proj.weight"][-1]
    pixels = round((max(positions[:2]) - 1) ** 0.5) * patch if max(positions[:2]) > 1 else 0
    if swag or "swag" in foreign.name or pixels in SWAG_PIXELS:
        return SWAG_USUAL, NON_COMMERCIAL
    return TORCHVISION_USUAL, "BSD-3-Clause, or CC-BY-NC-4.0 where the weights are SWAG's"
