"""Region proposals: torchvision's network with our anchors, L1 offsets and samples drawn by position."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead, concat_box_prediction_layers

from underpaint.models.detector.config import DetectorConfig
from underpaint.models.detector.regions import Boxes, anchors_at, draw_of, sample_balanced
from underpaint.models.detector.targets import Objects

POSITIVE, NEGATIVE = 0.7, 0.3
"""Overlaps with an object from which an anchor is positive, and below which it is negative."""
POSITIVE_SHARE = 0.5
SUPPRESSION = 0.7


class Scored(NamedTuple):
    """Anchors of an image with the network's scores and offsets of them."""

    anchors: Boxes
    scores: Float[Tensor, "b n"]
    offsets: Float[Tensor, "b n 4"]


class ProposalNetwork(RegionProposalNetwork):
    """Scores and moves anchors of all levels; the best are the regions that the cascade looks at."""

    def __init__(self, config: DetectorConfig, strides: Sequence[int]) -> None:
        training, testing = config.proposals_per_level
        super().__init__(
            AnchorGenerator(),  # never called: it rounds anchors
            RPNHead(config.channels, len(config.anchor_ratios), conv_depth=2),
            fg_iou_thresh=POSITIVE,
            bg_iou_thresh=NEGATIVE,
            batch_size_per_image=config.sampled_anchors,
            positive_fraction=POSITIVE_SHARE,
            pre_nms_top_n={"training": training, "testing": testing},
            post_nms_top_n={"training": config.proposals, "testing": config.proposals},
            nms_thresh=SUPPRESSION,
        )
        self.config = config
        self.strides = tuple(strides)

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, levels: list[Float[Tensor, "b c _rows _columns"]], extents: Sequence[tuple[float, float]]
    ) -> tuple[list[Boxes], Scored]:
        """Proposals of each image, clipped to its extent (height, width), and what their loss is computed from."""
        scores, offsets = self.head(levels)
        anchors = torch.cat(self.anchors(levels))
        counts = [score[0].numel() for score in scores]
        flat_scores, flat_offsets = concat_box_prediction_layers(scores, offsets)
        b = levels[0].shape[0]
        scored = Scored(anchors, flat_scores.float().view(b, -1), flat_offsets.float().view(b, -1, 4))
        with torch.no_grad():
            moved = self.box_coder.decode(scored.offsets.detach(), [anchors] * b).view(b, -1, 4)
            boxes, _ = self.filter_proposals(moved, scored.scores, list(extents), counts)  # pyright: ignore[reportArgumentType]
        return boxes, scored

    def anchors(self, levels: Sequence[Float[Tensor, "b c _rows _columns"]]) -> list[Boxes]:
        """Anchors of each level."""
        sides, ratios = self.config.anchor_sides, self.config.anchor_ratios
        return [
            anchors_at((level.shape[2], level.shape[3]), stride, side=side, ratios=ratios, device=level.device)
            for level, stride, side in zip(levels, self.strides, sides, strict=True)
        ]

    def loss(
        self, scored: Scored, objects: Sequence[Objects], *, key: int, position: Int64[Tensor, " b"]
    ) -> Float[Tensor, " b"]:
        """Loss of each image: cross-entropy of the sampled anchors and L1 of the positive ones, over their number."""
        b = len(objects)
        targets = [{"boxes": each.boxes} for each in objects]
        labels, matched = self.assign_targets_to_anchors([scored.anchors] * b, targets)
        losses = []
        for image in range(b):
            positive, negative = sample_balanced(
                torch.where(labels[image] == 1)[0],
                torch.where(labels[image] == 0)[0],
                count=self.config.sampled_anchors,
                positive_share=POSITIVE_SHARE,
                draw=draw_of(key, position[image], len(scored.anchors)),
            )
            chosen = torch.cat([positive, negative])
            score = F.binary_cross_entropy_with_logits(
                scored.scores[image, chosen], labels[image][chosen], reduction="sum"
            )
            target = self.box_coder.encode_single(matched[image][positive], scored.anchors[positive])
            offset = F.l1_loss(scored.offsets[image, positive], target, reduction="sum")
            losses.append((score + offset) / self.config.sampled_anchors)
        return torch.stack(losses)
