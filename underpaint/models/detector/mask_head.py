"""The mask head: a small mask of each class for every region (He et al. 2017), and what it learns."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import maskrcnn_inference, maskrcnn_loss

from underpaint.core import UNKNOWN_MASK
from underpaint.models.detector.cascade import Pool, Regions
from underpaint.models.detector.config import DetectorConfig
from underpaint.models.detector.pyramid import NORM
from underpaint.models.detector.regions import Boxes
from underpaint.models.detector.targets import Detections, Objects


class MaskHead(nn.Module):
    def __init__(self, config: DetectorConfig, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.features = MaskRCNNHeads(config.channels, [config.channels] * config.convolutions, 1, norm_layer=NORM)
        self.predictor = MaskRCNNPredictor(config.channels, config.channels, classes)

    def forward(self, pooled: Float[Tensor, "regions c side side"]) -> Float[Tensor, "regions classes _side _side"]:
        return self.predictor(self.features(pooled)).float()

    def loss(self, pool: Pool, regions: Sequence[Regions], objects: Sequence[Objects]) -> Float[Tensor, " b"]:
        """Cross-entropy of each image's positive regions, the mean over regions and pixels; 0 without any."""
        positive = [
            Regions(*(part[self._learnt(each, image)] for part in each))
            for each, image in zip(regions, objects, strict=True)
        ]
        logits = self(pool([part.boxes for part in positive])).split([len(part.boxes) for part in positive])
        losses = []
        for logit, part, each in zip(logits, positive, objects, strict=True):
            if each.masks is None or not len(part.boxes):
                losses.append(logit.sum() * 0)
                continue
            inside = within_masks(part.boxes, each.boxes[part.matched], side=each.masks.shape[-1])
            losses.append(maskrcnn_loss(logit, [inside], [each.masks], [each.classes], [part.matched]))
        return torch.stack(losses)

    def _learnt(self, regions: Regions, objects: Objects) -> Bool[Tensor, " n"]:
        """Whether each region shows an object with a known mask."""
        learnt = regions.classes < self.classes
        if objects.masks is None or not len(objects.masks):
            return learnt & False
        return learnt & (objects.masks[regions.matched, 0, 0] != UNKNOWN_MASK)

    def add_masks(self, pool: Pool, detections: Sequence[Detections]) -> list[Detections]:
        """The detections with the mask of the class of each."""
        logits = self(pool([each.boxes for each in detections]))
        masks = maskrcnn_inference(logits, [each.classes for each in detections])
        return [each._replace(masks=mask[:, 0]) for each, mask in zip(detections, masks, strict=True)]


def within_masks(boxes: Boxes, around: Boxes, *, side: int) -> Boxes:
    """Boxes in the pixels of masks of ``side`` that each cover a box of ``around``.

    The centre of the first pixel is 0, as ``maskrcnn_loss`` has it.
    """
    size = (around[:, 2:] - around[:, :2]).repeat(1, 2)
    return (boxes - around[:, :2].repeat(1, 2)) / size * side - 0.5
