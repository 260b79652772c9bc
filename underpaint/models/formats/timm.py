"""ViTs of timm: a folder with its config.json, as timm saves it, or a bare state dict.

The names are MAE's; what a config.json says of normalisation and preprocessing is taken from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from underpaint.models.formats.key_patterns import ForeignFile, Recognised, Rule, checked, encoder_config, head_rules
from underpaint.models.formats.mae_checkpoint import PLAIN, plain_blocks

ARCHITECTURES = {
    (16, 192, 12, 3): "vit_tiny_patch16_224",
    (16, 384, 12, 6): "vit_small_patch16_224",
    (16, 768, 12, 12): "vit_base_patch16_224",
    (16, 1024, 24, 16): "vit_large_patch16_224",
    (14, 1280, 32, 16): "vit_huge_patch14_224",
}
"""timm's names by patch, width, depth and heads; any other plain ViT is ``vit_base_patch16_224`` with arguments."""
BARE_USUAL: dict[str, Any] = {"view": "crop", "crop_share": 0.9, "interpolation": "bicubic"}
"""timm's preprocessing of most ViTs; its normalisation differs from model to model and must be given."""


def recognise(foreign: ForeignFile) -> Recognised | None:
    """A file in MAE's naming with timm's config.json, or with none and of no other format."""
    names = foreign.shapes.keys()
    described = "architecture" in foreign.config
    if "patch_embed.proj.weight" not in names or (foreign.config and not described):
        return None
    settings: Mapping[str, Any] = foreign.config.get("pretrained_cfg", foreign.config)
    arguments: Mapping[str, Any] = foreign.config.get("model_args") or {}
    pool = arguments.get("global_pool", foreign.config.get("global_pool", "token"))
    mean_pooled = "fc_norm.weight" in names and "norm.weight" not in names
    classes = foreign.shapes["head.weight"][0] if "head.weight" in names else 0
    if classes and pool != ("avg" if mean_pooled else "token"):
        raise ValueError(f"{foreign.name} is a ViT of timm with global_pool={pool!r}, which has no counterpart here")
    title = "ViT of timm" if described else "ViT in the naming of timm"
    assumed: list[str] = []
    rules = PLAIN.rules(plain_blocks(foreign), "encoder.", leave=("norm",) if mean_pooled else ())
    config = encoder_config(
        foreign,
        rules,
        title=title,
        said=_said(settings, arguments),
        usual={} if described else BARE_USUAL,
        assumed=assumed,
    )
    if mean_pooled and classes:
        rules += tuple(Rule(ours=f"fc_norm.{kind}", theirs=(f"fc_norm.{kind}",)) for kind in ("weight", "bias"))
    recognised = Recognised(
        title=title,
        encoder=config,
        rules=rules + (head_rules() if classes else ()),
        pooling="mean" if mean_pooled else "cls",
        classes=classes,
        labels=tuple(map(str, settings.get("label_names") or foreign.config.get("label_names") or ())),
        licence=str(settings.get("license") or foreign.licence),
        left_out=tuple(sorted(name for name in names if name.startswith("fc_norm.") and not classes)),
        assumed=tuple(assumed),
    )
    return checked(recognised, foreign)


def _said(settings: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of our config from timm's settings of preprocessing and its arguments of the network."""
    said: dict[str, Any] = {}
    for name in ("mean", "std"):
        if isinstance(settings.get(name), (list, tuple)):
            said[name] = tuple(float(value) for value in settings[name])
    if "crop_pct" in settings or "crop_mode" in settings:
        said["view"] = "stretch" if settings.get("crop_mode") == "squash" else "crop"
        said["crop_share"] = 1.0 if said["view"] == "stretch" else min(1.0, float(settings.get("crop_pct") or 1.0))
    if settings.get("interpolation") in ("bicubic", "bilinear"):
        said["interpolation"] = settings["interpolation"]
    if isinstance(arguments.get("num_heads"), int):
        said["heads"] = arguments["num_heads"]
    size = arguments.get("img_size")
    if isinstance(size, (list, tuple)) and len(size) == 2:
        said["size"] = (int(size[0]), int(size[1]))
    return said
