"""Encoders to start from that lie in memory alone."""

from __future__ import annotations

from functools import partial

import torch

from underpaint.models.vit import ViT
from underpaint.models.weights import TrainedEncoder


def to_start_from(encoder: ViT) -> TrainedEncoder:
    """An encoder in memory, as if it lay on disk."""
    return TrainedEncoder(encoder.config, {name: partial(torch.clone, t) for name, t in encoder.state_dict().items()})
