"""Samples for a detector: a view of an image with the objects in it, and batches of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64, Num, UInt8
from torch import Tensor

from underpaint import keyed_random
from underpaint.core import PAD_LABEL, BoxInput, ImageInput, Inputs, MaskInput, ObjectBatch, normalisation
from underpaint.data.decode.image import decode
from underpaint.data.decode.limits import BadImage
from underpaint.data.detection.annotations import ObjectTable
from underpaint.data.detection.views import Placement, jittered, masks_over, moved, show, visible, whole


class Sample(NamedTuple):
    """A view with its objects; boxes are in pixels of the network's input."""

    image: Num[Tensor, "c h w"]
    """The part of the input that shows the image, in [0, 1] or of eight bits."""
    boxes: Float[Tensor, "n 4"]
    classes: Int64[Tensor, " n"]
    masks: UInt8[Tensor, "n side side"] | None


@dataclass(frozen=True, kw_only=True)
class Jitter:
    """Random views of training."""

    scale: tuple[float, float]
    """Range of the factor by which an image that fills the input is resized."""
    flip: bool
    seed: int


@dataclass(frozen=True, kw_only=True)
class SampleMaker:
    """Views of the images of a table; sent to worker processes."""

    table: ObjectTable
    image: ImageInput
    most: int
    """Largest number of objects of a view; of more, the largest are kept."""
    mask_side: int
    """Side of the objects' masks, or 0 for none."""
    jitter: Jitter | None = None
    """Random views of training; None shows whole images."""

    def make(self, row: int, data: bytes, position: int) -> Sample:
        """The view of an image from its bytes.

        Raises:
            BadImage: if it cannot be decoded, or has another size than its annotations say.
        """
        pixels = decode(data, channels=self.image.channels, value_range=self.image.value_range)
        stored = (pixels.shape[1], pixels.shape[2])
        if stored != tuple(self.table.sizes[row].tolist()):
            raise BadImage(f"it has {stored[1]} x {stored[0]} pixels, its annotations say another size")
        placement = self._placement(stored, position)
        objects = self.table.objects_of(row)
        trained = torch.where(~self.table.crowd[objects])[0] + objects.start
        boxes = moved(self.table.boxes[trained], stored, placement)
        kept = visible(boxes, self.most)
        boxes, places = boxes[kept], trained[kept]
        masks = None
        if self.mask_side:
            shapes = [self.table.shapes.shape(place) for place in places.tolist()]
            masks = masks_over(shapes, boxes, stored, placement, self.mask_side)
        return Sample(show(pixels, placement).clone(), boxes, self.table.classes[places], masks)

    def _placement(self, stored: tuple[int, int], position: int) -> Placement:
        if self.jitter is None:
            return whole(*stored, size=self.image.size)
        seed = keyed_random.sample_seed(keyed_random.key(self.jitter.seed, "jitter"), position)
        return jittered(*stored, size=self.image.size, scale=self.jitter.scale, flip=self.jitter.flip, seed=seed)


def sample_maker(table: ObjectTable, inputs: Inputs, *, jitter: Jitter | None) -> SampleMaker:
    """Views for an objective with these inputs.

    Raises:
        ValueError: naming an input that annotated images do not have.
    """
    image, boxes, masks = inputs.get("image"), inputs.get("boxes"), inputs.get("masks")
    known = {"image", "extent", "boxes", "classes", "masks"}
    if set(inputs) - known or not isinstance(image, ImageInput) or not isinstance(boxes, BoxInput):
        raise ValueError(f"{table.name} has the inputs {sorted(known)}, the objective asks for {sorted(inputs)}")
    side = masks.side if isinstance(masks, MaskInput) else 0
    return SampleMaker(table=table, image=image, most=boxes.most, mask_side=side, jitter=jitter)


def collate(samples: Sequence[Sample | None], positions: Sequence[int], maker: SampleMaker) -> ObjectBatch:
    """A batch whose images are still as they were decoded; None is a placeholder of weight 0."""
    b, side = len(samples), maker.mask_side
    image, extent = image_batch([None if sample is None else sample.image for sample in samples], maker.image)
    boxes = torch.zeros(b, maker.most, 4)
    classes = torch.full((b, maker.most), PAD_LABEL)
    masks = torch.zeros(b, maker.most, side, side, dtype=torch.uint8)
    for row, sample in enumerate(samples):
        if sample is None:
            continue
        count = len(sample.boxes)
        boxes[row, :count], classes[row, :count] = sample.boxes, sample.classes
        if sample.masks is not None:
            masks[row, :count] = sample.masks
    batch: ObjectBatch = {
        "image": image,
        "extent": extent,
        "boxes": boxes,
        "classes": classes,
        "position": torch.tensor(list(positions), dtype=torch.int64),
        "weight": torch.tensor([0.0 if sample is None else 1.0 for sample in samples]),
    }
    if side:
        batch["masks"] = masks
    return batch


def image_batch(
    images: Sequence[Tensor | None], format: ImageInput
) -> tuple[Num[Tensor, "b c h w"], Float[Tensor, "b 2"]]:
    """Images (c h w) as they were decoded, each in the upper left corner of an input, and their heights and widths.

    None is a placeholder as large as the input.
    """
    b, (high, wide) = len(images), format.size
    readable = [image for image in images if image is not None]
    eight_bit = bool(readable) and all(image.dtype == torch.uint8 for image in readable)
    batch = torch.zeros(b, format.channels, high, wide, dtype=torch.uint8 if eight_bit else torch.float32)
    extent = torch.tensor([[float(high), float(wide)]]).repeat(b, 1)
    for row, image in enumerate(images):
        if image is None:
            continue
        shown = image / 255 if image.dtype == torch.uint8 and not eight_bit else image
        batch[row, :, : shown.shape[1], : shown.shape[2]] = shown
        extent[row] = torch.tensor(shown.shape[1:])
    return batch, extent


def normalise(batch: ObjectBatch, image: ImageInput) -> None:
    """Normalise the images of a batch in place; what shows no image, and placeholders, are 0, the mean colour."""
    batch["image"] = normalised(batch["image"], batch["extent"], image) * batch["weight"].view(-1, 1, 1, 1)


def normalised(
    stored: Num[Tensor, "b c h w"], extent: Float[Tensor, "b 2"], format: ImageInput
) -> Float[Tensor, "b c h w"]:
    """The images of ``image_batch`` as a network takes them; beyond its image each input is 0, the mean colour."""
    pixels = stored.float().div_(255) if stored.dtype == torch.uint8 else stored
    mean, std = normalisation(format.mean, format.std, pixels)
    pixels.sub_(mean).div_(std)
    for row, (high, wide) in enumerate(extent.long().tolist()):
        pixels[row, :, high:] = 0
        pixels[row, :, :, wide:] = 0
    return pixels
