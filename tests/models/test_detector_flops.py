"""The closed form of a detector's FLOPs against torch's own counter, part by part on ``meta``."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from underpaint.models.detector.config import BOX_LEVELS, POOLED_BOX, POOLED_MASK, DetectorConfig
from underpaint.models.detector.detector import Detector
from underpaint.models.detector.flops import POSITIVE_REGIONS, detection_flops
from underpaint.models.sizes import SIZES
from underpaint.models.vit import ViTConfig

BASE = replace(SIZES["vit_b16"], size=(1024, 1024), final_norm=False)
SMALL = ViTConfig(size=(128, 96), patch=8, width=48, depth=2, heads=3, final_norm=False)
SMALL_DETECTOR = DetectorConfig(window=5, global_blocks=(1,), channels=16, hidden=32, cascade=(0.5, 0.6))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("encoder", "config", "classes"),
    [(BASE, DetectorConfig(), 80), (SMALL, SMALL_DETECTOR, 7)],
    ids=["vit_b16", "small"],
)
def test_flops_are_those_of_the_counter(encoder: ViTConfig, config: DetectorConfig, classes: int) -> None:
    with torch.device("meta"):
        network = Detector(encoder, config, classes)
        image = torch.empty(1, 3, *encoder.size)
        regions = torch.empty(config.sampled_regions, config.channels, POOLED_BOX, POOLED_BOX)
        shown = torch.empty(config.sampled_regions // POSITIVE_REGIONS, config.channels, POOLED_MASK, POOLED_MASK)
    regions.requires_grad_()
    shown.requires_grad_()
    assert network.mask_head is not None
    with FlopCounterMode(display=False) as counter:
        levels = network.pyramid(network.encoder(image))
        scores, offsets = network.proposals.head(levels)
        total = sum(part.sum() for part in (*scores, *offsets))
        for stage in network.cascade.stages:
            total = total + sum(part.sum() for part in stage(regions))
        total = total + network.mask_head(shown).sum()
        assert isinstance(total, torch.Tensor)
        total.backward()
    assert len(levels) == BOX_LEVELS + 1
    assert detection_flops(encoder, config, classes=classes) == pytest.approx(counter.get_total_flops(), rel=0.02)
