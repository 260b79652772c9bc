"""Initial weights of a detector: those of detectron2's heads, each drawn by the name of its parameter."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from underpaint.models.detector.backbone import initialise_windowed
from underpaint.models.detector.detector import Detector
from underpaint.models.init import initialise

NORMAL = {"cls_logits": 0.01, "cls_score": 0.01, "bbox_pred": 0.001, "mask_fcn_logits": 0.001}
"""Deviations of the last layers; the offsets of anchors alone have 0.01."""


def initialise_detector(detector: Detector, *, seed: int, prefix: str = "") -> None:
    """Fill a detector that starts from scratch; ``prefix`` is its name inside the objective, with a point."""
    initialise_windowed(detector.encoder, seed=seed)
    for name, part in detector.named_children():
        if part is not detector.encoder:
            initialise(part, rule=_rule, seed=seed, prefix=f"{prefix}{name}")


def _rule(name: str, value: Tensor, generator: torch.Generator) -> None:
    kind = name.rpartition(".")[0].rpartition(".")[2]
    if value.ndim < 2:
        nn.init.constant_(value, 1.0 if name.endswith("weight") else 0.0)
    elif "proposals.head." in name:
        nn.init.normal_(value, std=0.01, generator=generator)
    elif kind in NORMAL:
        nn.init.normal_(value, std=NORMAL[kind], generator=generator)
    elif "pyramid." in name:  # torch's own default
        nn.init.kaiming_uniform_(value, a=5**0.5, generator=generator)
    elif value.ndim == 2:
        nn.init.kaiming_uniform_(value, a=1, generator=generator)
    else:
        nn.init.kaiming_normal_(value, mode="fan_out", nonlinearity="relu", generator=generator)
