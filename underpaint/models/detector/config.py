"""The numbers of a detector above its encoder; the defaults are ViTDet's for COCO (detectron2's configs)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from underpaint.models.vit import ViTConfig

MASK_SIDE = 28
"""Side of a predicted mask, which covers its box."""
POOLED_BOX, POOLED_MASK = 7, 14
"""Sides of the features that the box head and the mask head see of a region."""
BOX_LEVELS = 4
"""Levels of the pyramid that regions are pooled from; one more is for proposals alone."""
BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
"""Weights of a box's offsets in the first stage; those of stage k are k times as large."""

ScoreKind = Literal["softmax", "sigmoid"]


@dataclass(frozen=True, kw_only=True)
class DetectorConfig:
    window: int = 14  # side of the windows of attention in patches
    global_blocks: tuple[int, ...] = (2, 5, 8, 11)  # the blocks that attend to the whole image
    channels: int = 256  # of the feature pyramid
    hidden: int = 1024  # width of the fully connected layer of each box head
    convolutions: int = 4  # of each box head, and of the mask head
    anchor_sides: tuple[float, ...] = (32.0, 64.0, 128.0, 256.0, 512.0)  # pixels, one for each level of the pyramid
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)  # height over width
    sampled_anchors: int = 256  # of each image, up to half of them positive
    proposals_per_level: tuple[int, int] = (2000, 1000)  # before suppression, in training and in evaluation
    proposals: int = 1000  # of each image, after suppression
    cascade: tuple[float, ...] = (0.5, 0.6, 0.7)  # smallest overlap with an object, stage by stage
    sampled_regions: int = 512  # of each image, up to a quarter of them positive
    scores: ScoreKind = "softmax"  # or one sigmoid per class, for many classes (LVIS)
    federated_classes: int = 0  # classes that count in the loss of an image, with scores=sigmoid; 0 is all
    masks: bool = True
    score_threshold: float = 0.05
    suppression: float = 0.5  # overlap above which the lower of two detections of a class is dropped
    detections: int = 100  # of each image at most

    def __post_init__(self) -> None:
        levels = BOX_LEVELS + 1
        if len(self.anchor_sides) != levels or min(self.anchor_sides) <= 0:
            raise ValueError(f"anchor_sides={self.anchor_sides} needs {levels} positive sides, one for each level")
        if not self.anchor_ratios or min(self.anchor_ratios) <= 0:
            raise ValueError(f"anchor_ratios={self.anchor_ratios} must be positive")
        if not self.cascade or not all(0 < overlap < 1 for overlap in self.cascade):
            raise ValueError(f"cascade={self.cascade} needs an overlap in (0, 1) for each stage, such as 0.5,0.6,0.7")
        counts = ("window", "channels", "hidden", "sampled_anchors", "proposals", "sampled_regions", "detections")
        for name in counts:
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if self.convolutions < 0 or min(self.proposals_per_level) < 1:
            raise ValueError(
                f"convolutions={self.convolutions} must not be negative, and proposals_per_level="
                f"{self.proposals_per_level} at least 1"
            )
        if self.federated_classes < 0 or (self.federated_classes and self.scores == "softmax"):
            raise ValueError(
                f"federated_classes={self.federated_classes} must not be negative, and 0 unless scores=sigmoid"
            )
        if not 0 <= self.score_threshold < 1 or not 0 < self.suppression <= 1:
            raise ValueError(
                f"score_threshold={self.score_threshold} must lie in [0, 1), suppression={self.suppression} in (0, 1]"
            )

    def require_fit(self, encoder: ViTConfig) -> None:
        """Raise ValueError where the encoder's image, patch or blocks do not fit these numbers."""
        missing = [block for block in self.global_blocks if not 0 <= block < encoder.depth]
        if missing:
            raise ValueError(f"global_blocks={self.global_blocks}: the encoder has blocks 0 to {encoder.depth - 1}")
        if encoder.patch % 4 or any(side % 2 for side in encoder.grid):
            raise ValueError(
                f"a pyramid from a quarter to four times the stride of a patch needs patch={encoder.patch} to be a "
                f"multiple of 4 and size={encoder.size} to be a multiple of {2 * encoder.patch}"
            )

    def strides(self, encoder: ViTConfig) -> tuple[int, ...]:
        """Pixels from one place to the next at each level of the pyramid."""
        return tuple(encoder.patch * factor // 4 for factor in (1, 2, 4, 8, 16))
