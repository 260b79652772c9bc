"""The cascade: box heads in a row, each trained on the boxes of the one before, at a higher overlap."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead
from torchvision.ops import batched_nms, box_iou, clip_boxes_to_image, remove_small_boxes

from underpaint.models.detector.config import BOX_WEIGHTS, POOLED_BOX, DetectorConfig
from underpaint.models.detector.pyramid import NORM
from underpaint.models.detector.regions import Boxes, draw_of, sample_balanced
from underpaint.models.detector.targets import Detections, Objects

POSITIVE_SHARE = 0.25
SMALLEST_SIDE = 0.01
"""Detections less wide or high, in pixels, are dropped: they lie outside the image."""
Pool = Callable[[Sequence[Boxes]], Float[Tensor, "regions c side side"]]
"""Pools the features of the boxes of all images."""
Extents = Sequence[tuple[float, float]]
"""Height and width of each image inside the network's padded input."""


class Regions(NamedTuple):
    """Boxes of one image and the object that each overlaps most."""

    boxes: Boxes
    classes: Int64[Tensor, " n"]
    """Class of the object; the number of classes stands for background."""
    matched: Int64[Tensor, " n"]
    """Index of the object, 0 for background."""


class Stage(nn.Module):
    """One head: pooled features to scores of the classes and of the background, and to offsets of the box."""

    def __init__(self, config: DetectorConfig, classes: int) -> None:
        super().__init__()
        self.features = FastRCNNConvFCHead(
            (config.channels, POOLED_BOX, POOLED_BOX),
            [config.channels] * config.convolutions,
            [config.hidden],
            norm_layer=NORM,
        )
        self.cls_score = nn.Linear(config.hidden, classes + 1)
        self.bbox_pred = nn.Linear(config.hidden, 4)

    def forward(
        self, pooled: Float[Tensor, "regions c side side"]
    ) -> tuple[Float[Tensor, "regions _scores"], Float[Tensor, "regions 4"]]:
        hidden = self.features(pooled)
        return self.cls_score(hidden).float(), self.bbox_pred(hidden).float()


class Cascade(nn.Module):
    """All stages; scores are averaged over them, boxes are those of the last."""

    def __init__(self, config: DetectorConfig, classes: int) -> None:
        super().__init__()
        self.config = config
        self.classes = classes
        self.stages = nn.ModuleList(Stage(config, classes) for _ in config.cascade)
        self.coders = [box_coder(index) for index in range(len(config.cascade))]

    def loss(
        self,
        pool: Pool,
        regions: list[Regions],
        objects: Sequence[Objects],
        *,
        extents: Extents,
        counted: Sequence[Float[Tensor, "b classes"] | None],
    ) -> Float[Tensor, " b"]:
        """Loss of each image, the sum over the stages, from the sampled regions of the first.

        Each stage's features have a gradient divided by the number of stages. ``counted`` has the classes of each
        stage and image that count in the loss of sigmoid scores (1, else 0), or None where all do.
        """
        total = torch.zeros(len(objects), device=regions[0].boxes.device)
        boxes = [part.boxes for part in regions]
        for index, (stage, coder) in enumerate(zip(self.stages, self.coders, strict=True)):
            if index:
                regions = [
                    match(kept_boxes(part, extent), each, overlap=self.config.cascade[index], background=self.classes)
                    for part, each, extent in zip(boxes, objects, extents, strict=True)
                ]
            pooled = pool([part.boxes for part in regions])
            if pooled.requires_grad:
                pooled.register_hook(lambda gradient: gradient / len(self.stages))
            logits, offsets = stage(pooled)
            total = total + self._stage_loss(logits, offsets, regions, objects, coder, counted[index])
            boxes = decoded(coder, offsets, [part.boxes for part in regions])
        return total

    def _stage_loss(
        self,
        logits: Float[Tensor, "regions _scores"],
        offsets: Float[Tensor, "regions 4"],
        regions: list[Regions],
        objects: Sequence[Objects],
        coder: BoxCoder,
        counted: Float[Tensor, "b classes"] | None,
    ) -> Float[Tensor, " b"]:
        counts = [len(part.boxes) for part in regions]
        losses = []
        images = zip(logits.split(counts), offsets.split(counts), regions, objects, strict=True)
        for image, (logit, offset, part, each) in enumerate(images):
            positive = torch.where(part.classes < self.classes)[0]
            target = coder.encode_single(each.boxes[part.matched[positive]], part.boxes[positive])
            of_boxes = F.l1_loss(offset[positive], target, reduction="sum")
            if self.config.scores == "softmax":
                of_scores = F.cross_entropy(logit, part.classes, reduction="sum")
            else:
                of_scores = sigmoid_loss(logit, part.classes, None if counted is None else counted[image])
            losses.append((of_scores + of_boxes) / max(len(part.boxes), 1))
        return torch.stack(losses)

    def detect(self, pool: Pool, proposals: Sequence[Boxes], extents: Extents) -> list[Detections]:
        """Detections of each image."""
        boxes = list(proposals)
        counts = [len(part) for part in boxes]
        scores = []
        for stage, coder in zip(self.stages, self.coders, strict=True):
            logits, offsets = stage(pool(boxes))
            scores.append(logits.softmax(dim=1) if self.config.scores == "softmax" else logits.sigmoid())
            boxes = [
                clip_boxes_to_image(part, extent)  # pyright: ignore[reportArgumentType]
                for part, extent in zip(decoded(coder, offsets, boxes), extents, strict=True)
            ]
        mean = torch.stack(scores).mean(dim=0)[:, : self.classes]
        return [self._best(part, score) for part, score in zip(boxes, mean.split(counts), strict=True)]

    def _best(self, boxes: Boxes, scores: Float[Tensor, "n classes"]) -> Detections:
        """The surest detections, after suppression within each class; a box may be detected as several classes."""
        region, label = torch.where(scores > self.config.score_threshold)
        visible = remove_small_boxes(boxes[region], SMALLEST_SIDE)
        region, label = region[visible], label[visible]
        sure, boxes = scores[region, label], boxes[region]
        keep = batched_nms(boxes, sure, label, self.config.suppression)[: self.config.detections]
        return Detections(boxes[keep], sure[keep], label[keep])


def box_coder(stage: int) -> BoxCoder:
    """Offsets of a stage: ever smaller, so ever more enlarged."""
    x, y, width, height = (weight * (stage + 1) for weight in BOX_WEIGHTS)
    return BoxCoder((x, y, width, height))


def decoded(coder: BoxCoder, offsets: Float[Tensor, "regions 4"], boxes: Sequence[Boxes]) -> list[Boxes]:
    """The boxes of each image moved by their offsets; no gradient flows through them."""
    moved = coder.decode_single(offsets.detach(), torch.cat(list(boxes)))
    return list(moved.split([len(part) for part in boxes]))


def kept_boxes(boxes: Boxes, extent: tuple[float, float]) -> Boxes:
    """Boxes clipped to the image, without those that are empty."""
    boxes = clip_boxes_to_image(boxes, extent)  # pyright: ignore[reportArgumentType]
    return boxes[(boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])]


def match(boxes: Boxes, objects: Objects, *, overlap: float, background: int) -> Regions:
    """Match each box with the object it overlaps most, if it does by ``overlap``, else with the background."""
    if not len(objects.boxes) or not len(boxes):
        nothing = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
        return Regions(boxes, nothing + background, nothing)
    matched = Matcher(overlap, overlap)(box_iou(objects.boxes, boxes))
    classes = torch.where(matched < 0, background, objects.classes[matched.clamp(min=0)])
    return Regions(boxes, classes, matched.clamp(min=0))


def sample_regions(
    proposals: Boxes,
    objects: Objects,
    *,
    config: DetectorConfig,
    background: int,
    key: int,
    position: Int64[Tensor, ""],
) -> Regions:
    """The regions of an image that the first stage learns from: of its proposals and objects, positive ones first."""
    regions = match(torch.cat([proposals, objects.boxes]), objects, overlap=config.cascade[0], background=background)
    chosen = torch.cat(
        sample_balanced(
            torch.where(regions.classes < background)[0],
            torch.where(regions.classes == background)[0],
            count=config.sampled_regions,
            positive_share=POSITIVE_SHARE,
            draw=draw_of(key, position, len(regions.boxes)),
        )
    )
    return Regions(*(part[chosen] for part in regions))


def sigmoid_loss(
    logits: Float[Tensor, "n _scores"], labels: Int64[Tensor, " n"], counted: Float[Tensor, " classes"] | None
) -> Float[Tensor, ""]:
    """Sum of one binary cross-entropy per region and class; the last column, of the background, counts as none."""
    classes = logits.shape[1] - 1
    target = F.one_hot(labels, classes + 1)[:, :classes].to(logits.dtype)
    loss = F.binary_cross_entropy_with_logits(logits[:, :classes], target, reduction="none")
    return (loss if counted is None else loss * counted).sum()
