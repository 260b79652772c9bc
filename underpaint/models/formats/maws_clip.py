"""CLIP models of facebookresearch/maws: an image tower, XLM-R in torchtext's naming, and two projections.

(paper.md 6.1.) torchtext renamed the tensors of its transformer once; both namings are known. The tokenizer is a file
beside the weights.
"""

from __future__ import annotations

import re
from dataclasses import replace

import torch

from underpaint.models.formats import ours
from underpaint.models.formats.key_patterns import (
    ForeignFile,
    Names,
    Recognised,
    Rule,
    checked,
    depth_of,
    encoder_config,
    names_wrong,
)
from underpaint.models.formats.mae_checkpoint import PLAIN
from underpaint.models.formats.maws import ENCODER_USUAL
from underpaint.models.formats.published import MAWS, NON_COMMERCIAL, UNKNOWN_LICENCE, is_published
from underpaint.models.ngram_tower import NgramConfig, NgramTower
from underpaint.models.text_tower import TextConfig

TITLE = "MAWS-CLIP"
IMAGE = "vision_encoder."
TEXT = "text_encoder.encoder.transformer."
NGRAMS = "text_encoder.ngrams."
"""Before the names of a tower of n-grams in exports of ours."""
ALONE = {
    "image_projection": "vision_projection",
    "text_projection": "text_projection",
    "logit_scale": "logit_scale",
    "text.token_embed.weight": f"{TEXT}token_embedding.weight",
    "text.pos_embed.weight": f"{TEXT}positional_embedding.embedding.weight",
}
"""Tensors that do not come as a pair of weight and bias."""
ONCE = {"norm": f"{TEXT}embedding_layer_norm"}
INSIDE = {
    "attn.qkv": "self_attn.in_proj",
    "attn.proj": "self_attn.out_proj",
    "norm1": "norm1",
    "mlp.fc1": "linear1",
    "mlp.fc2": "linear2",
    "norm2": "norm2",
}
OLDER_INSIDE = {
    "attn.qkv": "attention.input_projection",
    "attn.proj": "attention.output_projection",
    "norm1": "attention_layer_norm",
    "mlp.fc1": "residual_mlp.mlp.0",
    "mlp.fc2": "residual_mlp.mlp.3",
    "norm2": "final_layer_norm",
}
PUBLISHED = {
    (16, 768, 12): (TextConfig(), 768),
    (16, 1024, 24): (TextConfig(width=1024, depth=24, heads=16), 1024),
    (14, 1280, 32): (TextConfig(width=1024, depth=24, heads=16), 1024),
    (14, 2560, 24): (TextConfig(width=1024, depth=24, heads=16), 2048),
}
"""The tower for texts and the width of the common space by patch, width and depth of the tower for images."""
TEXT_HEADS = {(768, 12): 12, (1024, 24): 16}
"""Attention heads of XLM-R base and large by width and depth."""


def rules(depth: int, text_depth: int, *, older: bool = False) -> tuple[Rule, ...]:
    """Rules for all tensors; ``older`` names the text tower as torchtext did at first."""
    layer, inside = ("layers.{i}", OLDER_INSIDE) if older else ("layers.layers.{i}", INSIDE)
    block = {f"blocks.{{i}}.{mine}": f"{TEXT}{layer}.{theirs}" for mine, theirs in inside.items()}
    image = (
        replace(rule, theirs=tuple(IMAGE + name for name in rule.theirs)) for rule in PLAIN.rules(depth, "encoder.")
    )
    alone = (Rule(ours=mine, theirs=(theirs,)) for mine, theirs in ALONE.items())
    return (*image, *Names(ONCE, block).rules(text_depth, "text."), *alone)


def rules_of(depth: int, text: TextConfig | NgramConfig) -> tuple[Rule, ...]:
    """Rules for a model with this text tower; one of n-grams, which MAWS has not, keeps our names."""
    if isinstance(text, TextConfig):
        return rules(depth, text.depth)
    with torch.device("meta"):
        names = [f"text.{name}" for name in NgramTower(text).state_dict()]
    kept = (rule for rule in rules(depth, 0) if not rule.ours.startswith("text."))
    return (*kept, *(Rule(ours=name, theirs=(NGRAMS + name.removeprefix("text."),)) for name in names))


def recognise(foreign: ForeignFile) -> Recognised | None:
    """A file with a tower for images and something for texts, or None."""
    names = foreign.shapes.keys()
    if not any(name.startswith(IMAGE) for name in names) or not any(name.startswith("text_") for name in names):
        return None
    depth = depth_of(names, re.escape(IMAGE) + r"blocks\.(\d+)\.")
    if any(name.startswith(NGRAMS) for name in names):
        return _ngrams(foreign, depth)
    older = any(".attention.input_projection." in name for name in names)
    text_depth = depth_of(names, re.escape(TEXT) + (r"layers\.(\d+)\." if older else r"layers\.layers\.(\d+)\."))
    all_rules = rules(depth, text_depth, older=older)
    exported = ours.said(foreign, all_rules, TITLE)
    if exported is not None:
        return checked(exported, foreign)
    assumed: list[str] = []
    recognised = Recognised(
        title=f"model in the layout of {TITLE}",
        encoder=encoder_config(foreign, all_rules, title=TITLE, said={}, usual=ENCODER_USUAL, assumed=assumed),
        rules=all_rules,
        text=_text_config(foreign, all_rules, text_depth, assumed),
        joint_width=(0, *foreign.shapes.get("vision_projection", ()))[-1],
        licence=UNKNOWN_LICENCE,
        assumed=tuple(assumed),
    )
    if _is_published(recognised):
        recognised = replace(recognised, title=TITLE, licence=NON_COMMERCIAL)
    return checked(recognised, foreign)


def _ngrams(foreign: ForeignFile, depth: int) -> Recognised:
    """An export of ours with a tower of n-grams, whose form stands in its config.json."""
    record = foreign.config.get(ours.KEY)
    text = record.get("text") if isinstance(record, dict) else None
    if not isinstance(text, dict):
        raise ValueError(f"{foreign.name} has a text tower of n-grams, whose form its config.json does not tell")
    config = ours.text_config_of(text, where=f"{foreign.name}/config.json")
    exported = ours.said(foreign, rules_of(depth, config), TITLE)
    assert exported is not None, "the record is there"
    return checked(exported, foreign)


def _is_published(recognised: Recognised) -> bool:
    c, text = recognised.encoder, recognised.text
    towers = PUBLISHED.get((c.patch, c.width, c.depth))
    return is_published(c, MAWS) and text is not None and towers == (text, recognised.joint_width)


def _text_config(foreign: ForeignFile, all_rules: tuple[Rule, ...], depth: int, assumed: list[str]) -> TextConfig:
    """The form of the text tower from its tensors.

    Raises:
        ValueError: if they are not there, or nobody tells its heads.
    """
    theirs = {rule.ours: rule.theirs[0] for rule in all_rules}
    needed = ("text.token_embed.weight", "text.pos_embed.weight", "text.blocks.0.mlp.fc1.weight")
    missing = [theirs.get(name, f"{TEXT}layers.*") for name in needed]
    missing = [name for name in missing if name not in foreign.shapes]
    if missing:
        raise ValueError(f"{foreign.name} looks like a {TITLE}, but {names_wrong(missing, ())}")
    (vocabulary, width), (positions, _), (hidden, _) = (foreign.shapes[theirs[name]] for name in needed)
    heads = foreign.given.get("text_heads", TEXT_HEADS.get((width, depth), 0))
    if not heads:
        raise ValueError(
            f"{foreign.name} has a text tower of width {width} and depth {depth}, not XLM-R's: add text_heads=N"
        )
    if hidden % width:
        raise ValueError(f"{foreign.name} has an MLP of {hidden} in a text tower of width {width}; no whole multiple")
    if "text_heads" not in foreign.given:
        assumed.append(f"{heads} heads in a text tower of width {width} and depth {depth}, as in XLM-R")
    return TextConfig(
        vocabulary=vocabulary,
        positions=positions,
        width=width,
        depth=depth,
        heads=heads,
        mlp_ratio=hidden // width,
    )
