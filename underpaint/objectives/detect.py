"""Detection: boxes, classes and masks of objects by ViTDet's Cascade Mask R-CNN (paper section 4.4; Li et al. 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from underpaint.core import BoxClassInput, BoxInput, DataInfo, ExtentInput, ImageInput, Inputs, MaskInput
from underpaint.models.detector.backbone import require_windowed_start
from underpaint.models.detector.config import DetectorConfig
from underpaint.models.detector.flops import detection_flops
from underpaint.models.vit import ViTConfig
from underpaint.objectives.detection_layers import DetectionPart, detection_layers

if TYPE_CHECKING:
    from underpaint.objectives.detection_network import Detect

MASK_SIDE = 112
"""Cells of a side of an annotated mask over its box: four times those of a predicted one."""


@dataclass(frozen=True, kw_only=True)
class DetectConfig:
    encoder: ViTConfig = field(default_factory=lambda: ViTConfig(size=(1024, 1024), final_norm=False))
    detector: DetectorConfig = field(default_factory=DetectorConfig)
    drop_path: float = 0.0  # rate at the last block
    objects: int = 100  # largest number of objects of a view that are learnt
    stage: Literal["detect"] = "detect"

    def __post_init__(self) -> None:
        if not 0 <= self.drop_path < 1:
            raise ValueError(f"drop_path={self.drop_path} must lie in [0, 1)")
        if not 1 <= self.objects <= 10_000:
            raise ValueError(f"objects={self.objects} must lie between 1 and 10,000")
        self.detector.require_fit(self.encoder)

    @property
    def inputs(self) -> Inputs:
        inputs: dict[str, ImageInput | ExtentInput | BoxInput | BoxClassInput | MaskInput] = {
            "image": self.encoder.image_input,
            "extent": ExtentInput(size=self.encoder.size),
            "boxes": BoxInput(most=self.objects),
            "classes": BoxClassInput(most=self.objects),
        }
        if self.detector.masks:
            inputs["masks"] = MaskInput(most=self.objects, side=MASK_SIDE)
        return inputs

    def require_start(self, source: ViTConfig, *, start: str) -> None:
        """Raise ValueError if a pretrained ViT does not fit; its patches may have another size, and are resized."""
        require_windowed_start(self.encoder, source, start=start)

    def build(self, data_info: DataInfo) -> Detect:
        from underpaint.objectives.detection_network import Detect

        if not data_info.labels:
            raise ValueError("a detector needs at least one class, but the data has none")
        return Detect(self.encoder, self.detector, drop_path=self.drop_path, data_info=data_info)

    def flops_per_sample(self, data_info: DataInfo) -> int:
        return detection_flops(self.encoder, self.detector, classes=len(data_info.labels))

    def layers(self, data_info: DataInfo) -> Sequence[DetectionPart]:
        """Its parts, for the planner."""
        return detection_layers(
            self.encoder,
            self.detector,
            classes=len(data_info.labels),
            objects=self.objects,
            drop_path=self.drop_path > 0,
        )
