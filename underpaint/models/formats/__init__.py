"""Foreign formats of weights, one file each: recognised by names and shapes, mapped both ways by tables of names."""

from __future__ import annotations

from underpaint.models.formats import hf, mae_checkpoint, maws, maws_clip, ours, swag, timm
from underpaint.models.formats.key_patterns import ForeignFile, Recognised, require_axes
from underpaint.models.formats.known_networks import known_network

FORMATS = (ours, maws_clip, mae_checkpoint, maws, timm, swag, hf)
"""Formats in the order in which they are tried: timm takes files in MAE's naming that neither MAE nor MAWS wrote."""


def recognise(foreign: ForeignFile) -> Recognised:
    """The network that a file holds, recognised by the names and shapes of its tensors and by its configs.

    Raises:
        ValueError: if it is not a plain ViT, is of no known format, lacks tensors, has more, or leaves open what the
            user must give.
    """
    if {"format", "type", "weights"} <= foreign.config.keys():
        raise ValueError(f"{foreign.name} is a folder of underpaint already; name it as it is, without import")
    stranger = known_network(foreign.shapes)
    if stranger is not None:
        advice = f"; {stranger.advice}" if stranger.advice else ""
        raise ValueError(f"{foreign.name} is {stranger.name}; import reads plain ViTs (docs/weights.md){advice}")
    require_axes(foreign)
    for module in FORMATS:
        recognised = module.recognise(foreign)
        if recognised is not None:
            return recognised
    names = sorted(foreign.shapes)
    raise ValueError(
        f"{foreign.name} is of no known format (MAE, MAWS, MAWS-CLIP, SWAG, torchvision, timm, transformers); its "
        f"tensors are {', '.join(names[:6])}{f' and {len(names) - 6} more' if len(names) > 6 else ''}"
    )
