"""Detections of a model in the images of an annotation file, in COCO's format and in pixels of each image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from underpaint.core import BoxInput, ImageInput
from underpaint.data.decode.limits import BadImage
from underpaint.data.detection.annotations import ObjectTable
from underpaint.data.detection.samples import collate, normalise, sample_maker
from underpaint.evals.detection.average_precision import Detection, RunLengths
from underpaint.evals.mode import evaluation_mode
from underpaint.models.detector.targets import Detections

MASK_THRESHOLD = 0.5


@runtime_checkable
class ObjectDetector(Protocol):
    """A model that detects objects of the classes ``labels``."""

    labels: tuple[str, ...]

    @property
    def image_input(self) -> ImageInput: ...

    def find(self, image: Float[Tensor, "b c h w"], extent: Float[Tensor, "b 2"]) -> Sequence[Detections]: ...

    def modules(self) -> Iterator[torch.nn.Module]: ...


class Found(NamedTuple):
    """Detections in all images, and the images that could not be read, which have none."""

    detections: list[Detection]
    unread: list[str]


def detect_all(
    model: ObjectDetector, table: ObjectTable, root: Path, *, device: torch.device, batch_size: int = 8
) -> Found:
    """Detect objects in every image of a table, whose files lie below ``root``; the model is on ``device``.

    Raises:
        ValueError: if the table has other classes than the model.
    """
    if table.class_names != model.labels:
        raise ValueError(
            f"{table.name} has the classes {', '.join(table.class_names[:5])}..., the model "
            f"{', '.join(model.labels[:5])}...; both must be the same, in the order of their ids"
        )
    maker = sample_maker(table, {"image": model.image_input, "boxes": BoxInput(most=1)}, jitter=None)
    detections: list[Detection] = []
    unread: list[str] = []
    for start in range(0, len(table.paths), batch_size):
        rows = range(start, min(start + batch_size, len(table.paths)))
        samples = []
        for row in rows:
            try:
                samples.append(maker.make(row, (root / table.paths[row]).read_bytes(), position=0))
            except (BadImage, OSError):
                samples.append(None)
                unread.append(table.paths[row])
        batch = collate(samples, rows, maker)
        normalise(batch, maker.image)
        with evaluation_mode(model, device):
            images = model.find(batch["image"].to(device), batch["extent"].to(device))
        for row, sample, extent, each in zip(rows, samples, batch["extent"], images, strict=True):
            if sample is not None:
                detections += _in_coco_format(each, table, row, extent)
    return Found(detections, unread)


def _in_coco_format(
    objects: Detections, table: ObjectTable, row: int, extent: Float[Tensor, " 2"]
) -> Iterator[Detection]:
    height, width = table.sizes[row].tolist()
    down, across = (table.sizes[row] / extent).tolist()
    boxes = objects.boxes.cpu() * torch.tensor([across, down, across, down])
    masks = [None] * len(boxes) if objects.masks is None else objects.masks.cpu()
    for (x0, y0, x1, y1), box, score, label, mask in zip(
        boxes.tolist(), boxes, objects.scores.tolist(), objects.classes.tolist(), masks, strict=True
    ):
        detection: Detection = {
            "image_id": table.image_ids[row],
            "category_id": table.category_ids[label],
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "score": score,
        }
        if mask is not None:
            detection["segmentation"] = run_lengths(mask, box, (height, width))
        yield detection


def run_lengths(mask: Float[Tensor, "side side"], box: Float[Tensor, " 4"], size: tuple[int, int]) -> RunLengths:
    """The mask of an image of ``size`` from the probabilities over a box, where they are above a half.

    Raises:
        ValueError: if hotcoco is not installed.
    """
    try:
        from hotcoco import mask as coco_mask
    except ImportError as error:
        raise ValueError("masks of detections need hotcoco: pip install '.[detection]'") from error
    from torchvision.models.detection.roi_heads import paste_masks_in_image

    pasted = paste_masks_in_image(mask[None, None], box[None], size)[0, 0] > MASK_THRESHOLD
    encoded = coco_mask.encode(np.asfortranarray(pasted.numpy().astype(np.uint8)))
    counts = encoded["counts"]
    return {"size": [size[0], size[1]], "counts": counts if isinstance(counts, str) else counts.decode()}
