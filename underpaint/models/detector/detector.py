"""The whole detector: ViT, pyramid, proposals, cascade and masks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from underpaint import keyed_random
from underpaint.models.detector.backbone import WindowedViT
from underpaint.models.detector.cascade import Cascade, Extents, Pool, sample_regions
from underpaint.models.detector.config import BOX_LEVELS, POOLED_BOX, POOLED_MASK, DetectorConfig
from underpaint.models.detector.federated import counted_classes
from underpaint.models.detector.mask_head import MaskHead
from underpaint.models.detector.proposals import ProposalNetwork
from underpaint.models.detector.pyramid import FeaturePyramid
from underpaint.models.detector.regions import draw_of, pool_regions
from underpaint.models.detector.targets import Detections, Objects
from underpaint.models.vit import ViTConfig


class Draws(NamedTuple):
    """Source of the random draws of a training step: the seed of the run, and the positions of its images."""

    seed: int
    position: Int64[Tensor, " b"]

    def key(self, purpose: str) -> int:
        return keyed_random.key(self.seed, "detect", purpose)


class Detector(nn.Module):
    """Images to boxes, classes and masks.

    ``frequency`` is the number of training images of each class, for the federated loss.
    """

    frequency: Tensor

    def __init__(
        self, encoder: ViTConfig, config: DetectorConfig, classes: int, *, frequency: Sequence[int] = ()
    ) -> None:
        super().__init__()
        config.require_fit(encoder)
        self.config = config
        self.strides = config.strides(encoder)
        self.encoder = WindowedViT(encoder, window=config.window, global_blocks=config.global_blocks)
        self.pyramid = FeaturePyramid(encoder.width, config.channels)
        self.proposals = ProposalNetwork(config, self.strides)
        self.cascade = Cascade(config, classes)
        self.mask_head = MaskHead(config, classes) if config.masks else None
        counts = torch.tensor(list(frequency) or [1] * classes, dtype=torch.float32)
        self.register_buffer("frequency", counts, persistent=False)

    def losses(
        self,
        image: Float[Tensor, "b c h w"],
        objects: Sequence[Objects],
        extents: Extents,
        *,
        draws: Draws,
        drop_path: Float[Tensor, "b depth 2"] | None = None,
    ) -> dict[str, Float[Tensor, " b"]]:
        """Loss of each image by part: ``proposals``, ``boxes`` and ``masks``; their sum is minimised."""
        levels = self.pyramid(self.encoder(image, drop_path))
        proposals, scored = self.proposals(levels, extents)
        of_proposals = self.proposals.loss(scored, objects, key=draws.key("anchors"), position=draws.position)
        regions = [
            sample_regions(
                boxes,
                each,
                config=self.config,
                background=self.cascade.classes,
                key=draws.key("regions"),
                position=position,
            )
            for boxes, each, position in zip(proposals, objects, draws.position, strict=True)
        ]
        counted = [self._counted(objects, draws, stage) for stage in range(len(self.config.cascade))]
        of_boxes = self.cascade.loss(self._pool(levels, POOLED_BOX), regions, objects, extents=extents, counted=counted)
        losses = {"proposals": of_proposals, "boxes": of_boxes}
        if self.mask_head is not None:
            losses["masks"] = self.mask_head.loss(self._pool(levels, POOLED_MASK), regions, objects)
        return losses

    @torch.no_grad()
    def detect(self, image: Float[Tensor, "b c h w"], extents: Extents) -> list[Detections]:
        """Detections of each image, in pixels of the network's input."""
        levels = self.pyramid(self.encoder(image))
        proposals, _ = self.proposals(levels, extents)
        detections = self.cascade.detect(self._pool(levels, POOLED_BOX), proposals, extents)
        if self.mask_head is None:
            return detections
        return self.mask_head.add_masks(self._pool(levels, POOLED_MASK), detections)

    def _counted(self, objects: Sequence[Objects], draws: Draws, stage: int) -> Float[Tensor, "b classes"] | None:
        """The classes that count in a stage's loss of each image; None where all do."""
        count, key = self.config.federated_classes, draws.key(f"classes {stage}")
        if not count:
            return None
        return torch.stack(
            [
                counted_classes(
                    each.classes,
                    self.frequency,
                    count=count,
                    draw=draw_of(key, position, len(self.frequency)),
                )
                for each, position in zip(objects, draws.position, strict=True)
            ]
        )

    def _pool(self, levels: Sequence[Tensor], side: int) -> Pool:
        return partial(pool_regions, levels[:BOX_LEVELS], strides=self.strides[:BOX_LEVELS], side=side)
