"""Plain safetensors that were exported from here: MAE's names, with the record of the network in config.json."""

from __future__ import annotations

from typing import Any

from underpaint import config as configs
from underpaint.models.formats.key_patterns import ForeignFile, Recognised, Rule, checked
from underpaint.models.mae_decoder import DecoderConfig
from underpaint.models.ngram_tower import NgramConfig
from underpaint.models.text_tower import TextConfig
from underpaint.models.vit import ViTConfig
from underpaint.texts.tokenizer import CONTEXT

KEY = "underpaint"
"""Under which config.json says what we know of the network, in exports whose tool reads no config.json."""
BEFORE = ("encoder.", "decoder.")
"""Prefixes of our names before MAE's; those of a head have none."""


def describe(recognised: Recognised) -> dict[str, Any]:
    """The record of a network for config.json, which ``said`` reads back."""
    return {
        "encoder": configs.record(recognised.encoder),
        "decoder": None if recognised.decoder is None else configs.record(recognised.decoder),
        "pooling": recognised.pooling,
        "classes": recognised.classes,
        "labels": list(recognised.labels),
        "norm_pix": recognised.norm_pix,
        "mask_ratio": recognised.mask_ratio,
        **(
            {}
            if recognised.text is None
            else {
                "text": configs.record(recognised.text),
                "joint_width": recognised.joint_width,
                "text_pooling": recognised.text_pooling,
                "tokens": recognised.tokens,
            }
        ),
        "licence": recognised.licence,
    }


def said(foreign: ForeignFile, rules: tuple[Rule, ...], title: str) -> Recognised | None:
    """The network that config.json records, or None if the file is not one of ours.

    Raises:
        ValueError: if the record is damaged.
    """
    record = foreign.config.get(KEY)
    if not isinstance(record, dict):
        return None
    where = f"{foreign.name}/config.json"
    try:
        decoder, text = record["decoder"], record.get("text")
        return Recognised(
            title=title,
            encoder=configs.from_record(ViTConfig, record["encoder"], where=where),
            rules=rules,
            pooling="mean" if record["pooling"] == "mean" else "cls",
            classes=int(record["classes"]),
            labels=tuple(map(str, record["labels"])),
            decoder=None if decoder is None else configs.from_record(DecoderConfig, decoder, where=where),
            norm_pix=bool(record["norm_pix"]),
            mask_ratio=float(record["mask_ratio"]),
            text=None if text is None else text_config_of(text, where=where),
            joint_width=0 if text is None else int(record["joint_width"]),
            text_pooling="mean" if record.get("text_pooling") == "mean" else "first",
            tokens=int(record.get("tokens", CONTEXT + 2)),
            licence=str(record["licence"]),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"{where} is damaged: {error!r}") from error


def text_config_of(record: object, *, where: str) -> TextConfig | NgramConfig:
    """The form of a text tower from its record."""
    is_ngram = isinstance(record, dict) and record.get("type") == NgramConfig.__name__
    return configs.from_record(NgramConfig if is_ngram else TextConfig, record, where=where)


def plain_name(ours: str) -> str:
    """MAE's name of a tensor of ours."""
    return next((ours.removeprefix(before) for before in BEFORE if ours.startswith(before)), ours)


def our_name(plain: str) -> str:
    """Our name of one of MAE's tensors."""
    if plain.startswith(("head.", "fc_norm.")):
        return plain
    return f"decoder.{plain}" if plain.startswith(("decoder_", "mask_token")) else f"encoder.{plain}"


def recognise(foreign: ForeignFile) -> Recognised | None:
    """An export with ``--to safetensors``."""
    if "patch_embed.proj.weight" not in foreign.shapes or KEY not in foreign.config:
        return None
    rules = tuple(Rule(ours=our_name(name), theirs=(name,)) for name in sorted(foreign.shapes))
    recognised = said(foreign, rules, "export of underpaint")
    return None if recognised is None else checked(recognised, foreign)
