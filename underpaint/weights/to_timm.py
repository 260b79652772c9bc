"""Export to timm: a folder for ``timm.create_model("local-dir:DIR", pretrained=True)`` or for its hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from underpaint import files
from underpaint.models.formats.key_patterns import Recognised, Rule
from underpaint.models.formats.ours import plain_name
from underpaint.models.formats.timm import ARCHITECTURES
from underpaint.models.pieces import write_pieces
from underpaint.weights.export_model import ExportModel, Tool, largest, network_logits, usual_form

ONE_FILE = 2**63
"""timm reads a single file."""


def _refusal(recognised: Recognised) -> str:
    if recognised.decoder is not None:
        return "timm has no decoder of MAE; export the encoder/ folder"
    return usual_form(recognised, tool="timm's ViT")


def _architecture(recognised: Recognised) -> str:
    c = recognised.encoder
    return ARCHITECTURES.get((c.patch, c.width, c.depth, c.heads), "vit_base_patch16_224")


def _write(folder: Path, subject: ExportModel) -> None:
    recognised, c = subject.recognised, subject.recognised.encoder
    rules = [Rule(ours=name, theirs=(plain_name(name),)) for name in subject.tensors.info]
    write_pieces(folder, subject.under(rules), limit=ONE_FILE)
    pool = "avg" if recognised.pooling == "mean" else "token"
    arguments: dict[str, Any] = {
        "img_size": list(c.size),
        "patch_size": c.patch,
        "in_chans": c.channels,
        "embed_dim": c.width,
        "depth": c.depth,
        "num_heads": c.heads,
        "mlp_ratio": float(c.mlp_ratio),
        "global_pool": pool,
    }
    settings: dict[str, Any] = {
        "custom_load": False,
        "input_size": [c.channels, *c.size],
        "fixed_input_size": True,
        "interpolation": c.interpolation,
        "crop_pct": c.crop_share,
        "crop_mode": "squash" if c.view == "stretch" else "center",
        "mean": list(c.mean),
        "std": list(c.std),
        "num_classes": recognised.classes,
        "pool_size": None,
        "first_conv": "patch_embed.proj",
        "classifier": "head",
        "license": recognised.licence.lower() or None,
    }
    config: dict[str, Any] = {
        "architecture": _architecture(recognised),
        "num_classes": recognised.classes,
        "num_features": c.width,
        "global_pool": pool,
        "model_args": arguments,
        "pretrained_cfg": settings,
    }
    files.write_json(
        folder / "config.json", config | ({"label_names": list(recognised.labels)} if recognised.classes else {})
    )


@torch.no_grad()
def _compare(folder: Path, subject: ExportModel) -> tuple[float, float]:
    import timm

    theirs: Any = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    ours: Any = subject.load()
    image = subject.images()
    if subject.recognised.classes:
        return largest(theirs(image), network_logits(ours, image))
    return largest(theirs.forward_features(image), ours(image))


def _usage(subject: ExportModel) -> str:
    last = (
        "model(image)  # scores" if subject.recognised.classes else "model.forward_features(image)  # tokens, cls first"
    )
    return f"""import timm

model = timm.create_model("local-dir:DIR", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
{last}"""


TOOL = Tool(
    name="timm",
    packages=("timm",),
    tolerance=1e-5,
    refusal=_refusal,
    write=_write,
    compare=_compare,
    usage=_usage,
)
