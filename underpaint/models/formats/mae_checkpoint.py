"""Files of facebookresearch/mae: encoder, encoder and decoder, training checkpoints, finetuned classifiers.

Its names are those of our own networks (paper.md 6.1).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from underpaint.models.formats.key_patterns import (
    BLOCK,
    ENCODER,
    IMAGENET,
    ForeignFile,
    Names,
    Recognised,
    Rule,
    checked,
    depth_of,
    encoder_config,
    head_rules,
)
from underpaint.models.formats.published import (
    IMAGENET_CLASSES,
    MAE,
    MAE_DECODER,
    NON_COMMERCIAL,
    UNKNOWN_LICENCE,
    is_published,
)
from underpaint.models.mae_decoder import DecoderConfig

PLAIN = Names({name: name for name in ENCODER}, {f"blocks.{{i}}.{name}": f"blocks.{{i}}.{name}" for name in BLOCK})
"""The names of MAE, MAWS and timm."""
DECODER = Names(
    {name: name for name in ("mask_token", "decoder_pos_embed", "decoder_embed", "decoder_norm", "decoder_pred")},
    {f"decoder_blocks.{{i}}.{name}": f"decoder_blocks.{{i}}.{name}" for name in BLOCK},
)
USUAL: dict[str, Any] = IMAGENET | {"view": "crop", "crop_share": 0.875, "interpolation": "bicubic"}
"""MAE evaluates at 256 / 224, and without a margin above 224 (paper.md 2.2)."""
DECODER_HEADS = {512: 16}


def plain_blocks(foreign: ForeignFile) -> int:
    return depth_of(foreign.shapes, r"blocks\.(\d+)\.")


def recognise(foreign: ForeignFile) -> Recognised | None:
    """A file in MAE's layout, or None."""
    names = foreign.shapes.keys()
    decoder = any(name.startswith(("decoder_", "mask_token")) for name in names)
    mean_pooled = "fc_norm.weight" in names and "norm.weight" not in names
    if "patch_embed.proj.weight" not in names or foreign.config or not (foreign.wrapped or decoder or mean_pooled):
        return None
    rules = PLAIN.rules(plain_blocks(foreign), "encoder.", leave=("norm",) if mean_pooled else ())
    if mean_pooled:
        rules += tuple(Rule(ours=f"fc_norm.{kind}", theirs=(f"fc_norm.{kind}",)) for kind in ("weight", "bias"))
    classes = foreign.shapes["head.weight"][0] if "head.weight" in names else 0
    if classes:
        rules += head_rules()
    title = "MAE with its decoder" if decoder else f"{'classifier' if classes else 'encoder'} in MAE's layout"
    assumed: list[str] = []
    if decoder:
        rules += DECODER.rules(depth_of(names, r"decoder_blocks\.(\d+)\."), "decoder.")
    large = foreign.shapes.get("pos_embed", (1, 1))[1] > 1 + (224 // foreign.shapes["patch_embed.proj.weight"][-1]) ** 2
    usual = USUAL | {"crop_share": 1.0} if large else USUAL
    config = encoder_config(foreign, rules, title=title, said={}, usual=usual, assumed=assumed)
    recognised = Recognised(
        title=title,
        encoder=config,
        rules=rules,
        pooling="mean" if mean_pooled else "cls",
        classes=classes,
        licence=UNKNOWN_LICENCE,
        assumed=tuple(assumed),
    )
    return checked(_published(_with_decoder(recognised, foreign) if decoder else recognised), foreign)


def _published(recognised: Recognised) -> Recognised:
    """MAE's title and licence for the sizes and parts that it was published in.

    Anybody trains with its code, and DeiT, among others, saves a classifier of the cls token in the same layout.
    """
    finetuned = (recognised.classes, recognised.pooling) == (IMAGENET_CLASSES, "mean")
    parts = finetuned or (not recognised.classes and recognised.decoder in (None, MAE_DECODER))
    if not parts or not is_published(recognised.encoder, MAE):
        return recognised
    titles = {"encoder in MAE's layout": "encoder of MAE", "classifier in MAE's layout": "finetuned classifier of MAE"}
    return replace(recognised, title=titles.get(recognised.title, recognised.title), licence=NON_COMMERCIAL)


def _with_decoder(recognised: Recognised, foreign: ForeignFile) -> Recognised:
    """The decoder's form, and what its targets were: neither shapes nor names tell that."""
    decoder = decoder_config(
        foreign, "decoder_embed.weight", "decoder_blocks.0.mlp.fc1.weight", r"decoder_blocks\.(\d+)\."
    )
    assumed = list(recognised.assumed)
    if "decoder_heads" not in foreign.given:
        assumed.append(f"{decoder.heads} heads in a decoder of width {decoder.width}")
    return replace(
        recognised,
        decoder=decoder,
        norm_pix=_norm_pix(foreign, assumed),
        mask_ratio=_mask_ratio(foreign, assumed),
        assumed=tuple(assumed),
    )


def decoder_config(foreign: ForeignFile, embed: str, fc1: str, block: str, *, heads: int = 0) -> DecoderConfig:
    """The form of a decoder from its tensors.

    Raises:
        ValueError: if they are not there, or nobody tells its heads.
    """
    missing = [name for name in (embed, fc1) if name not in foreign.shapes]
    if missing:
        raise ValueError(f"{foreign.name} holds a part of MAE's decoder but lacks {', '.join(missing)}")
    width, hidden = foreign.shapes[embed][0], foreign.shapes[fc1][0]
    heads = foreign.given.get("decoder_heads", heads or DECODER_HEADS.get(width, 0))
    if not heads:
        raise ValueError(f"{foreign.name} has a decoder of width {width}, which is not MAE's own: add decoder_heads=N")
    if hidden % width:
        raise ValueError(f"{foreign.name} has a decoder MLP of {hidden} for a width of {width}; no whole multiple")
    return DecoderConfig(width=width, depth=depth_of(foreign.shapes, block), heads=heads, mlp_ratio=hidden // width)


def _norm_pix(foreign: ForeignFile, assumed: list[str]) -> bool:
    """Whether the targets were normalised per patch: mae_visualize_* predict plain pixels, mae_pretrain_* do not."""
    for stated in (foreign.given.get("norm_pix"), foreign.arguments.get("norm_pix_loss")):
        if isinstance(stated, bool):
            return stated
    for part, normalised in (("mae_visualize", False), ("mae_pretrain", True)):
        if part in foreign.name:
            assumed.append(f"norm_pix={str(normalised).lower()}, as in the released files called {part}_*")
            return normalised
    raise ValueError(
        f"{foreign.name} does not say whether its decoder predicts normalised patches: add norm_pix=true or "
        f"norm_pix=false"
    )


def _mask_ratio(foreign: ForeignFile, assumed: list[str]) -> float:
    for stated in (foreign.given.get("mask_ratio"), foreign.arguments.get("mask_ratio")):
        if isinstance(stated, float):
            return stated
    assumed.append("mask_ratio=0.75")
    return 0.75
