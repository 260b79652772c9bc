"""Plain safetensors that were exported from here: our names, with the record of the network in config.json."""

from __future__ import annotations

from typing import Any

from underpaint import config as configs
from underpaint.models.formats.layout import Foreign, Found, Rule
from underpaint.models.mae_decoder import DecoderConfig
from underpaint.models.vit import ViTConfig

KEY = "underpaint"
"""Under which config.json says what we know of the network, in exports whose tool reads no config.json."""


def describe(found: Found) -> dict[str, Any]:
    """What ``said`` reads back."""
    return {
        KEY: {
            "encoder": configs.record(found.encoder),
            "decoder": None if found.decoder is None else configs.record(found.decoder),
            "pooling": found.pooling,
            "classes": found.classes,
            "labels": list(found.labels),
            "norm_pix": found.norm_pix,
            "mask_ratio": found.mask_ratio,
            "licence": found.licence,
        }
    }


def said(foreign: Foreign, rules: tuple[Rule, ...], title: str) -> Found | None:
    """What config.json says, if it is one of ours."""
    record = foreign.config.get(KEY)
    if not isinstance(record, dict):
        return None
    where = f"{foreign.name}/config.json"
    try:
        decoder = record["decoder"]
        return Found(
            title=title,
            encoder=configs.from_record(ViTConfig, record["encoder"], where=where),
            rules=rules,
            pooling="mean" if record["pooling"] == "mean" else "cls",
            classes=int(record["classes"]),
            labels=tuple(map(str, record["labels"])),
            decoder=None if decoder is None else configs.from_record(DecoderConfig, decoder, where=where),
            norm_pix=bool(record["norm_pix"]),
            mask_ratio=float(record["mask_ratio"]),
            licence=str(record["licence"]),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"{where} is damaged: {error!r}") from error


def recognise(foreign: Foreign) -> Found | None:
    """An export with ``--to safetensors``."""
    rules = tuple(Rule(ours=name, theirs=(name,)) for name in sorted(foreign.shapes))
    return said(foreign, rules, "export of underpaint") if "encoder.cls_token" in foreign.shapes else None
