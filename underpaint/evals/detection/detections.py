"""Detections of a model in pixels of each image; kept in the cache, so that a call that was killed goes on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple, NotRequired, Protocol, TypedDict, cast, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from underpaint import files
from underpaint.core import ImageInput
from underpaint.data.cache import cache_folder
from underpaint.data.detection.annotations import ObjectTable
from underpaint.data.detection.whole_images import WholeImages, whole_images
from underpaint.data.source import Files, Folder
from underpaint.evals.detection.average_precision import Detection, RunLengths
from underpaint.evals.engine import Engine
from underpaint.evals.feature_makers import checksum_of
from underpaint.evals.mode import evaluation_mode
from underpaint.models.detector.targets import Detections
from underpaint.progress import Progress

MASK_THRESHOLD = 0.5
BATCH = 8
PART_IMAGES = 64
"""Images of one file in the cache: the work that a kill can cost."""


@runtime_checkable
class FinishedDetector(Protocol):
    """A model that detects objects of the classes ``labels``."""

    labels: tuple[str, ...]

    @property
    def image_input(self) -> ImageInput: ...

    def find(self, image: Float[Tensor, "b c h w"], extent: Float[Tensor, "b 2"]) -> Sequence[Detections]: ...

    def modules(self) -> Iterator[torch.nn.Module]: ...

    def state_dict(self) -> Mapping[str, Tensor]: ...


class DetectedObject(TypedDict):
    """An object in an image."""

    label: int
    """Place of its class among the model's labels."""
    bbox: list[float]
    """Left, top, width and height in pixels of the image."""
    score: float
    segmentation: NotRequired[RunLengths]


class ImageObjects(TypedDict):
    """The objects in one image, the surest first."""

    size: list[int]
    """Height and width of the image; 1 and 1 where it cannot be read."""
    problem: str
    """Reason why it cannot be read, or ""."""
    objects: list[DetectedObject]


@dataclass(frozen=True, kw_only=True)
class Detecting:
    """How images are read and their detections kept."""

    device: torch.device
    """Device that the model stands on already."""
    workers: int = 0
    """Processes that decode images."""
    cached: bool = False
    """Whether detections are kept in the cache, by the model and the names, sizes and times of the images."""
    batch_size: int = BATCH

    @staticmethod
    def by(engine: Engine, *, batch_size: int = BATCH) -> Detecting:
        """Detecting on the device and with the workers of an engine.

        Raises:
            ValueError: under torchrun.
        """
        if engine.staff.group.world > 1:
            raise ValueError("detections are made by one process; start it without torchrun")
        return Detecting(
            device=engine.device, workers=engine.staff.workers, cached=engine.cached, batch_size=batch_size
        )


class Found(NamedTuple):
    """Detections in all images, and the images that could not be read, which have none."""

    detections: list[Detection]
    unread: list[str]


def detect_all(model: FinishedDetector, table: ObjectTable, root: Path, *, how: Detecting) -> Found:
    """Detect objects in every image of a table, whose files lie below ``root``.

    Raises:
        ValueError: if the table has other classes than the model.
    """
    require_classes(model, table)
    detections: list[Detection] = []
    unread: list[str] = []
    answers = detected(model, Folder(root=root), table.paths, name=table.name, how=how)
    for row, answer in enumerate(answers):
        fits = answer["size"] == table.sizes[row].tolist()
        if answer["problem"] or not fits:
            unread.append(table.paths[row])
            continue
        image, categories = table.image_ids[row], table.category_ids
        detections += [in_coco_format(each, image, categories[each["label"]]) for each in answer["objects"]]
    return Found(detections, unread)


def require_classes(model: FinishedDetector, table: ObjectTable) -> None:
    """Raise ValueError, naming the first difference, if annotations have other classes than the model."""
    known, named = model.labels, table.class_names
    if known == named:
        return
    place = next((k for k, pair in enumerate(zip(known, named, strict=False)) if pair[0] != pair[1]), -1)
    first = (
        f"class {place + 1} by ascending id is {named[place]!r} there and {known[place]!r} in the model"
        if place >= 0
        else f"the first that one of them lacks is {(known + named)[min(len(known), len(named))]!r}"
    )
    raise ValueError(
        f"{table.name} has {len(named)} classes, the model {len(known)}; {first}. Give annotations with the classes "
        f"that the model was trained on, in the same order of ids"
    )


def in_coco_format(detected: DetectedObject, image_id: int, category_id: int) -> Detection:
    """A detection as files of results hold it."""
    detection: Detection = {
        "image_id": image_id,
        "category_id": category_id,
        "bbox": detected["bbox"],
        "score": detected["score"],
    }
    if "segmentation" in detected:
        detection["segmentation"] = detected["segmentation"]
    return detection


def detected(
    model: FinishedDetector, images: Files, paths: Sequence[str], *, name: str, how: Detecting
) -> Iterator[ImageObjects]:
    """The objects of each image, in order."""
    parts = _Parts(_folder(model, images, paths) if how.cached else None, total=len(paths))
    reads = [partial(images.read, path) for path in paths[parts.kept :]]
    batches = whole_images(reads, format=model.image_input, batch_size=how.batch_size, workers=how.workers)
    yield from parts.read()
    done = parts.kept
    with Progress(f"Objects in {name}", total=len(paths), unit="images", done=done) as shown:
        for batch in batches:
            with evaluation_mode(model, how.device):
                answers = model.find(batch.image.to(how.device), batch.extent.to(how.device))
            for row, answer in enumerate(answers):
                objects = _objects_of(answer, batch, row)
                parts.add(objects)
                yield objects
            done += len(batch.problems)
            shown.update(done)


@dataclass
class _Parts:
    """Files of so many images each, by the place of the first; the last one may have fewer."""

    folder: Path | None
    total: int
    kept: int = 0
    """Images whose objects were kept by earlier calls."""
    waiting: list[ImageObjects] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            while self.kept < self.total and self._file(self.kept).is_file():
                self.kept = min(self.kept + PART_IMAGES, self.total)
        self.written = self.kept

    def read(self) -> Iterator[ImageObjects]:
        for start in range(0, self.kept, PART_IMAGES):
            yield from cast(list[ImageObjects], files.read_json(self._file(start)))

    def add(self, objects: ImageObjects) -> None:
        if self.folder is None:
            return
        self.waiting.append(objects)
        if len(self.waiting) == min(PART_IMAGES, self.total - self.written):
            files.write_json(self._file(self.written), self.waiting)
            self.written += len(self.waiting)
            self.waiting = []

    def _file(self, start: int) -> Path:
        assert self.folder is not None
        return self.folder / f"{start:09d}.json"


def _folder(model: FinishedDetector, images: Files, paths: Sequence[str]) -> Path:
    """The folder of a model's detections in these images."""
    import xxhash

    form = f"{type(model).__qualname__} {getattr(model, 'config', None)!r} {model.image_input!r}"
    digest = xxhash.xxh3_128(checksum_of(model.state_dict(), form=form).encode())
    for path in paths:
        try:
            stamp = images.stamp(path)
        except OSError:
            stamp = []
        digest.update(f"{path}\0{stamp}\n".encode(errors="backslashreplace"))
    return cache_folder() / "detections" / digest.hexdigest()


def _objects_of(answer: Detections, batch: WholeImages, row: int) -> ImageObjects:
    size, problem = batch.size[row], batch.problems[row]
    if problem:
        return {"size": size.tolist(), "problem": problem, "objects": []}
    return {"size": size.tolist(), "problem": "", "objects": list(_in_pixels(answer, size, batch.extent[row]))}


def _in_pixels(objects: Detections, size: Int64[Tensor, " 2"], extent: Float[Tensor, " 2"]) -> Iterator[DetectedObject]:
    height, width = size.tolist()
    down, across = (size / extent).tolist()
    boxes = objects.boxes.cpu() * torch.tensor([across, down, across, down])
    masks = [None] * len(boxes) if objects.masks is None else objects.masks.cpu()
    for (x0, y0, x1, y1), box, score, label, mask in zip(
        boxes.tolist(), boxes, objects.scores.tolist(), objects.classes.tolist(), masks, strict=True
    ):
        each: DetectedObject = {"label": label, "bbox": [x0, y0, x1 - x0, y1 - y0], "score": score}
        if mask is not None:
            each["segmentation"] = run_lengths(mask, box, (height, width))
        yield each


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
