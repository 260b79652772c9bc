"""Vision transformers of facebookresearch/SWAG and of torchvision, which took the naming over (paper.md 6.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from underpaint.models.formats import ours
from underpaint.models.formats.key_patterns import (
    BLOCK,
    IMAGENET,
    ForeignFile,
    Names,
    Recognised,
    Rule,
    checked,
    depth_of,
    encoder_config,
)
from underpaint.models.formats.published import (
    IMAGENET_CLASSES,
    NON_COMMERCIAL,
    SWAG,
    TORCHVISION,
    UNKNOWN_LICENCE,
    is_published,
)
from underpaint.models.vit import ViTConfig

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
"""Image sizes that SWAG is finetuned at (paper.md 2.2)."""
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
    """Rules for the tensor names of torchvision's VisionTransformer."""
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
    title = "ViT in SWAG's naming" if swag else "ViT of torchvision"
    all_rules = rules + (_head(head) if head else ())
    exported = ours.said(foreign, all_rules, title)
    if exported is not None:
        return checked(exported, foreign)
    assumed: list[str] = []
    usual = _usual(foreign, swag=swag)
    config = encoder_config(foreign, rules, title=title, said={}, usual=usual, assumed=assumed)
    classes = foreign.shapes[f"{head}.weight"][0] if head else 0
    licence = _licence(foreign.name, config, classes, swag=swag)
    recognised = Recognised(
        title="ViT of SWAG" if swag and licence else title,
        encoder=config,
        rules=all_rules,
        classes=classes,
        licence=licence,
        assumed=tuple(assumed),
    )
    return checked(recognised, foreign)


def _usual(foreign: ForeignFile, *, swag: bool) -> Mapping[str, Any]:
    """Preprocessing of images, as far as it follows from a name or a size."""
    positions, patch = foreign.shapes.get("encoder.pos_embedding", (1, 0, 0)), foreign.shapes["conv_proj.weight"][-1]
    pixels = round((max(positions[:2]) - 1) ** 0.5) * patch if max(positions[:2]) > 1 else 0
    return SWAG_USUAL if swag or "swag" in foreign.name or pixels in SWAG_PIXELS else TORCHVISION_USUAL


def _licence(name: str, config: ViTConfig, classes: int, *, swag: bool) -> str:
    """The licence of the published weights of this size; unknown where there are none.

    torchvision passes SWAG's on: all finetuned ones, and at 224 px those of a linear classifier.
    """
    if swag:
        return NON_COMMERCIAL if classes in (0, IMAGENET_CLASSES) and is_published(config, SWAG) else UNKNOWN_LICENCE
    if classes != IMAGENET_CLASSES:
        return UNKNOWN_LICENCE
    of_torchvision, of_swag = is_published(config, TORCHVISION), is_published(config, SWAG)
    if of_swag and (not of_torchvision or "swag" in name):
        return NON_COMMERCIAL
    if of_swag:
        return "BSD-3-Clause, or CC-BY-NC-4.0 where the weights are SWAG's"
    return "BSD-3-Clause" if of_torchvision and "swag" not in name else UNKNOWN_LICENCE
