"""ViT and ViTMAE of Hugging Face's transformers: a folder with config.json (paper.md 6.1).

Files on disk have the names of version 4, which version 5 still writes; its names in memory are read too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from underpaint.models.formats.key_patterns import (
    IMAGENET,
    ForeignFile,
    Names,
    Recognised,
    Rule,
    checked,
    depth_of,
    encoder_config,
)
from underpaint.models.formats.mae_checkpoint import decoder_config

ONCE = {
    "cls_token": "embeddings.cls_token",
    "pos_embed": "embeddings.position_embeddings",
    "patch_embed.proj": "embeddings.patch_embeddings.projection",
    "norm": "layernorm",
}
ON_DISK: dict[str, tuple[str, ...]] = {
    "norm1": ("layernorm_before",),
    "attn.qkv": tuple(f"attention.attention.{name}" for name in ("query", "key", "value")),
    "attn.proj": ("attention.output.dense",),
    "norm2": ("layernorm_after",),
    "mlp.fc1": ("intermediate.dense",),
    "mlp.fc2": ("output.dense",),
}
IN_MEMORY = ON_DISK | {
    "attn.qkv": tuple(f"attention.{name}" for name in ("q_proj", "k_proj", "v_proj")),
    "attn.proj": ("attention.o_proj",),
    "mlp.fc1": ("mlp.fc1",),
    "mlp.fc2": ("mlp.fc2",),
}
DECODER_ONCE = {
    name: f"decoder.{name}"
    for name in ("mask_token", "decoder_pos_embed", "decoder_embed", "decoder_norm", "decoder_pred")
}
RESAMPLE = {2: "bilinear", 3: "bicubic"}
"""Pillow's numbers."""
MAE_USUAL: dict[str, Any] = IMAGENET | {"view": "stretch", "interpolation": "bilinear"}
"""Preprocessing of transformers for ViTMAE without a preprocessor_config.json."""
MAE_EPS = 1e-6


def encoder_names(prefix: str, layer: str, *, on_disk: bool) -> Names:
    inside = ON_DISK if on_disk else IN_MEMORY
    return Names(
        {ours: prefix + theirs for ours, theirs in ONCE.items()},
        {
            f"blocks.{{i}}.{ours}": tuple(f"{prefix}{layer}.{{i}}.{t}" for t in theirs)
            for ours, theirs in inside.items()
        },
    )


def decoder_names(layer: str, *, on_disk: bool) -> Names:
    inside = ON_DISK if on_disk else IN_MEMORY
    block = {
        f"decoder_blocks.{{i}}.{ours}": tuple(f"decoder.{layer}.{{i}}.{t}" for t in theirs)
        for ours, theirs in inside.items()
    }
    return Names(DECODER_ONCE, block)


def saved_rules(depth: int, *, head: bool = False, decoder_depth: int = 0) -> tuple[Rule, ...]:
    """The names in files: of ViTModel, and of ViTForImageClassification or ViTMAEForPreTraining."""
    prefix = "vit." if head or decoder_depth else ""
    rules = encoder_names(prefix, "encoder.layer", on_disk=True).rules(depth, "encoder.")
    if decoder_depth:
        rules += decoder_names("decoder_layers", on_disk=True).rules(decoder_depth, "decoder.")
    return rules + (_head_rules() if head else ())


def _head_rules() -> tuple[Rule, ...]:
    return tuple(Rule(ours=f"head.{kind}", theirs=(f"classifier.{kind}",)) for kind in ("weight", "bias"))


def recognise(foreign: ForeignFile) -> Recognised | None:
    """A folder of ViT or ViTMAE, or None.

    Raises:
        ValueError: for the weights alone, without config.json.
    """
    names = foreign.shapes.keys()
    if not any(name.endswith("embeddings.patch_embeddings.projection.weight") for name in names):
        return None
    kind = foreign.config.get("model_type")
    if kind not in ("vit", "vit_mae"):
        raise ValueError(f"{foreign.name} has the names of transformers' ViT; give the folder with its config.json")
    title = "ViTMAE of transformers" if kind == "vit_mae" else "ViT of transformers"
    prefix = "vit." if any(name.startswith("vit.") for name in names) else ""
    on_disk = any(".attention.attention." in name for name in names)
    layer = "encoder.layer" if on_disk else "layers"
    depth = depth_of(names, re.escape(prefix + layer) + r"\.(\d+)\.")
    rules = encoder_names(prefix, layer, on_disk=on_disk).rules(depth, "encoder.")
    assumed: list[str] = []
    config = encoder_config(
        foreign,
        rules,
        title=title,
        said=_said(foreign),
        usual=MAE_USUAL if kind == "vit_mae" else {},
        assumed=assumed,
    )
    if kind == "vit_mae" and config.norm_eps != MAE_EPS:
        assumed.append(
            f"norm_eps={config.norm_eps} from config.json; MAE itself trains with {MAE_EPS} (norm_eps={MAE_EPS})"
        )
    classes = foreign.shapes["classifier.weight"][0] if "classifier.weight" in names else 0
    recognised = Recognised(
        title=title,
        encoder=config,
        rules=rules + (_head_rules() if classes else ()),
        classes=classes,
        labels=_labels(foreign.config, classes),
        licence=foreign.licence,
        left_out=tuple(
            name for name in sorted(names) if "pooler.dense." in name or name.endswith("embeddings.mask_token")
        ),
        assumed=tuple(assumed),
    )
    return checked(_with_decoder(recognised, foreign) if "decoder.mask_token" in names else recognised, foreign)


def _with_decoder(recognised: Recognised, foreign: ForeignFile) -> Recognised:
    names = foreign.shapes.keys()
    layer = next(
        (x for x in ("decoder_layers", "decoder_encoder.layer") if any(n.startswith(f"decoder.{x}.0.") for n in names)),
        "decoder_layers",
    )
    on_disk = any(n.startswith(f"decoder.{layer}.0.attention.attention.") for n in names)
    fc1 = f"decoder.{layer}.0.{'intermediate.dense' if on_disk else 'mlp.fc1'}.weight"
    block = re.escape(f"decoder.{layer}") + r"\.(\d+)\."
    heads = foreign.config.get("decoder_num_attention_heads", 0)
    decoder = decoder_config(foreign, "decoder.decoder_embed.weight", fc1, block, heads=heads)
    return replace(
        recognised,
        rules=recognised.rules + decoder_names(layer, on_disk=on_disk).rules(decoder.depth, "decoder."),
        decoder=decoder,
        norm_pix=foreign.given.get("norm_pix", bool(foreign.config.get("norm_pix_loss", False))),
        mask_ratio=foreign.given.get("mask_ratio", float(foreign.config.get("mask_ratio", 0.75))),
    )


def _labels(config: Mapping[str, Any], classes: int) -> tuple[str, ...]:
    """Names of the classes in order, where all are there."""
    table = config.get("id2label")
    if not isinstance(table, dict) or set(table) != {str(index) for index in range(classes)}:
        return ()
    return tuple(str(table[str(index)]) for index in range(classes))


def _said(foreign: ForeignFile) -> dict[str, Any]:
    """Fields of our config from config.json and preprocessor_config.json.

    Raises:
        ValueError: for a network or a preprocessing that ours is not.
    """
    config = foreign.config
    if config.get("hidden_act", "gelu") != "gelu":
        raise ValueError(f"{foreign.name} has hidden_act={config['hidden_act']!r}; only the exact 'gelu' can be used")
    said: dict[str, Any] = {"norm_eps": float(config.get("layer_norm_eps", 1e-12))}
    if isinstance(config.get("num_attention_heads"), int):
        said["heads"] = config["num_attention_heads"]
    size = config.get("image_size")
    if isinstance(size, (list, tuple)) and len(size) == 2:
        said["size"] = (int(size[0]), int(size[1]))
    return said | (_preprocessing(foreign) if foreign.preprocessor else {})


def _preprocessing(foreign: ForeignFile) -> dict[str, Any]:
    given = foreign.preprocessor
    channels = foreign.config.get("num_channels", 3)
    said: dict[str, Any] = {"mean": (0.0,) * channels, "std": (1.0,) * channels}
    if given.get("do_normalize", True):
        said = {name: tuple(map(float, given[f"image_{name}"])) for name in said if f"image_{name}" in given}
    factor = given.get("rescale_factor", 1 / 255)
    if not given.get("do_rescale", True) or not isinstance(factor, float) or factor <= 0:
        raise ValueError(f"{foreign.name}: preprocessor_config.json does not rescale to [0, 1], which ours always does")
    said["value_range"] = (0.0, float(round(1 / factor)))
    said["interpolation"] = RESAMPLE.get(given.get("resample", 2), "")
    if not said["interpolation"]:
        raise ValueError(f"{foreign.name}: resample={given['resample']} is neither bilinear (2) nor bicubic (3)")
    size, crop = given.get("size", {}), given.get("crop_size", {})
    said["view"] = "crop" if given.get("do_center_crop", False) else "stretch"
    if said["view"] == "crop" and isinstance(size, dict) and isinstance(crop, dict) and "shortest_edge" in size:
        said["crop_share"] = min(1.0, int(crop.get("height", size["shortest_edge"])) / int(size["shortest_edge"]))
    return said
