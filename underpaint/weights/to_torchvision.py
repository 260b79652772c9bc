"""Export to torchvision's VisionTransformer: its names, and the arguments that build it in config.json."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from underpaint import files
from underpaint.models.formats import ours
from underpaint.models.formats.key_patterns import Recognised
from underpaint.models.formats.swag import torchvision_rules
from underpaint.models.pieces import write_pieces
from underpaint.weights.export_model import ExportModel, Tool, largest, network_logits, plain_input, usual_form

ONE_FILE = 2**63


def _refusal(recognised: Recognised) -> str:
    if recognised.decoder is not None:
        return "torchvision has no decoder of MAE; export the encoder/ folder"
    if recognised.pooling == "mean":
        return "torchvision's ViT classifies by the cls token, this network by the mean of the patches"
    return plain_input(recognised, tool="torchvision's ViT") or usual_form(recognised, tool="torchvision's ViT")


def _arguments(recognised: Recognised) -> dict[str, int]:
    c = recognised.encoder
    return {
        "image_size": c.size[0],
        "patch_size": c.patch,
        "num_layers": c.depth,
        "num_heads": c.heads,
        "hidden_dim": c.width,
        "mlp_dim": c.mlp_ratio * c.width,
        "num_classes": recognised.classes or 1,
    }


def _write(folder: Path, subject: ExportModel) -> None:
    recognised = subject.recognised
    rules = torchvision_rules(recognised.encoder.depth, head=bool(recognised.classes))
    write_pieces(folder, subject.under(rules), limit=ONE_FILE)
    files.write_json(
        folder / "config.json", {"torchvision": _arguments(recognised), ours.KEY: ours.describe(recognised)}
    )


@torch.no_grad()
def _compare(folder: Path, subject: ExportModel) -> tuple[float, float]:
    from safetensors.torch import load_file
    from torchvision.models import VisionTransformer

    arguments: dict[str, Any] = files.read_json(folder / "config.json")["torchvision"]
    theirs = VisionTransformer(**arguments, norm_layer=partial(nn.LayerNorm, eps=1e-6)).eval()
    if not subject.recognised.classes:
        theirs.heads = nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
    theirs.load_state_dict(load_file(folder / "model.safetensors"))
    network: Any = subject.load()
    image = subject.images()
    expected = network_logits(network, image) if subject.recognised.classes else network(image)[:, 0]
    return largest(theirs(image), expected)


def _usage(subject: ExportModel) -> str:
    arguments = ", ".join(f"{name}={value}" for name, value in _arguments(subject.recognised).items())
    headless = "" if subject.recognised.classes else "model.heads = torch.nn.Identity()  # returns the cls token\n"
    return f"""import torch
from safetensors.torch import load_file
from torchvision.models import VisionTransformer

model = VisionTransformer({arguments}).eval()
{headless}model.load_state_dict(load_file("DIR/model.safetensors"))"""


TOOL = Tool(
    name="torchvision",
    packages=("torchvision",),
    tolerance=1e-5,
    refusal=_refusal,
    write=_write,
    compare=_compare,
    usage=_usage,
)
