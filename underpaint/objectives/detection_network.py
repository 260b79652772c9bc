"""The network of the objective of detection, apart from its config, since torchvision's detection is slow to import."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from underpaint import keyed_random
from underpaint.core import PAD_LABEL, DataInfo, ImageInput, ObjectBatch, Step, weighted_mean
from underpaint.models.detector.config import DetectorConfig
from underpaint.models.detector.detector import Detector, Draws
from underpaint.models.detector.initial_weights import initialise_detector
from underpaint.models.detector.targets import Detections, Objects
from underpaint.models.vit import ViTConfig, drop_path_factors, encoder_layer_of


class Detect(Detector):
    """A detector with its loss: the sum of those of proposals, cascade and masks, image by image."""

    def __init__(self, encoder: ViTConfig, detector: DetectorConfig, *, drop_path: float, data_info: DataInfo) -> None:
        super().__init__(encoder, detector, len(data_info.labels), frequency=data_info.label_count)
        self.labels = data_info.labels
        self.seed = data_info.seed
        self.drop_path = drop_path
        self.drop_path_key = keyed_random.key(data_info.seed, "detect", "drop_path")
        initialise_detector(self, seed=data_info.seed)

    @property
    def image_input(self) -> ImageInput:
        """The images that it takes: whole ones, fitted into its size, without regard to the encoder's view."""
        return self.encoder.config.image_input

    def blocks(self) -> list[nn.Module]:
        return list(self.encoder.blocks)

    def layer_of(self, name: str) -> int:
        return encoder_layer_of(name, len(self.encoder.blocks))

    def forward(self, batch: ObjectBatch) -> Step:
        drop_path = None
        if self.training and self.drop_path:
            depth = len(self.encoder.blocks)
            drop_path = drop_path_factors(self.drop_path_key, batch["position"], depth, self.drop_path)
        losses = self.losses(
            batch["image"],
            objects_of(batch),
            extents_of(batch),
            draws=Draws(self.seed, batch["position"]),
            drop_path=drop_path,
        )
        total = torch.stack(list(losses.values())).sum(dim=0)
        scalars = {name: weighted_mean(value, batch["weight"]).detach() for name, value in losses.items()}
        return Step(weighted_mean(total, batch["weight"]), scalars)

    def find(self, image: Float[Tensor, "b c h w"], extent: Float[Tensor, "b 2"]) -> list[Detections]:
        """Detections in images fitted into the input, in its pixels; ``extent`` is the part that shows the image."""
        return self.detect(image, _sizes(extent))


def objects_of(batch: ObjectBatch) -> list[Objects]:
    """The objects of each image, without padding."""
    masks = batch.get("masks")
    objects = []
    for row, classes in enumerate(batch["classes"]):
        count = int((classes != PAD_LABEL).sum())
        mask = None if masks is None else masks[row, :count]
        objects.append(Objects(batch["boxes"][row, :count], classes[:count], mask))
    return objects


def extents_of(batch: ObjectBatch) -> list[tuple[float, float]]:
    return _sizes(batch["extent"])


def _sizes(extent: Float[Tensor, "b 2"]) -> list[tuple[float, float]]:
    return [(high, wide) for high, wide in extent.tolist()]
