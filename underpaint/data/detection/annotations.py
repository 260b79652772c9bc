"""Annotation files of COCO and LVIS: read once, checked entry by entry, and kept in columns."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TypeGuard

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from underpaint.data.decode.limits import MAX_PIXELS, MAX_SIDE
from underpaint.data.detection.json_lists import read_lists
from underpaint.data.detection.shapes import NoShape, Shapes, ShapeWriter, parse_shape
from underpaint.data.source import Problem

LISTED = 1000
"""Most bad annotations that are kept with their reasons; all are counted."""
LARGEST_ID = 2**62


@dataclass(frozen=True, kw_only=True)
class ObjectTable:
    """Images and their annotated objects, those of each image together and in the order of the file."""

    name: str
    """Name of the annotation file, without its extension."""
    paths: tuple[str, ...]
    """Path of each image below the folder of images."""
    image_ids: tuple[int, ...]
    sizes: Int64[Tensor, "images 2"]
    """Height and width in pixels, as the file tells them."""
    first: Int64[Tensor, " images+1"]
    """Place of each image's first object; a last entry with the number of objects."""
    boxes: Float[Tensor, "objects 4"]
    """Left, top, right and bottom, cut off at the border of the image."""
    classes: Int64[Tensor, " objects"]
    crowd: Bool[Tensor, " objects"]
    """Whether the box is around a group, which is not trained on."""
    shapes: Shapes
    """Shapes of the objects; an object without a segmentation has none."""
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    """The file's id of each class, ascending; it may have holes."""
    problems: tuple[Problem, ...]
    """The first bad annotations, which were left out."""
    bad: int
    """Number of bad annotations."""
    clipped: int
    """Number of boxes that were cut off at the border of their image."""
    federated: bool = False
    """Whether an image lists the classes that were looked for in vain, as those of LVIS do; others may be there."""

    def objects_of(self, image: int) -> slice:
        """Places of an image's objects."""
        return slice(int(self.first[image]), int(self.first[image + 1]))

    def share_memory(self) -> None:
        """Let worker processes read the same memory."""
        for tensor in (self.sizes, self.first, self.boxes, self.classes, self.crowd):
            tensor.share_memory_()
        self.shapes.share_memory()


def read_annotations(path: Path) -> ObjectTable:
    """The table of an annotation file.

    Categories are numbered by ascending id. Bad annotations (a box that is empty, not finite or outside its image, an
    unknown image or category, an id that an earlier one has) are left out and counted.

    Raises:
        ValueError: if the file is not such JSON, or its images or categories are not usable.
    """
    if not path.is_file():
        raise ValueError(f"{path} is not a file of annotations; give a JSON file in the format of COCO or LVIS")
    reader = _Reader(path)
    read_lists(
        path,
        {"images": reader.add_image, "categories": reader.add_category, "annotations": reader.keep_annotation},
    )
    return reader.table()


@dataclass
class _Columns:
    image: array[int] = field(default_factory=lambda: array("q"))
    category: array[int] = field(default_factory=lambda: array("q"))
    box: array[float] = field(default_factory=lambda: array("d"))
    crowd: array[int] = field(default_factory=lambda: array("b"))
    mask_size: array[int] = field(default_factory=lambda: array("i"))
    """Height and width of run lengths, 0 and 0 of polygons."""


class _Reader:
    """Checks entries as they come; annotations may come before their images, so they are joined in the end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.shapes = ShapeWriter()
        self.images: dict[int, tuple[str, int, int]] = {}
        self.categories: dict[int, str] = {}
        self.ids = set[int]()
        self.columns = _Columns()
        self.problems: list[Problem] = []
        self.bad = 0
        self.federated = False

    def add_image(self, entry: object) -> None:
        fields = self._fields(entry, "images")
        self.federated |= "neg_category_ids" in fields
        number = self._id(fields, "images", self.images)
        height, width = fields.get("height"), fields.get("width")
        if not _is_whole(height) or not _is_whole(width) or not _is_possible(height, width):
            raise ValueError(f"{self.path}: image {number} has height={height!r:.40} and width={width!r:.40}")
        self.images[number] = (self._path(fields, number), height, width)

    def add_category(self, entry: object) -> None:
        fields = self._fields(entry, "categories")
        number, name = self._id(fields, "categories", self.categories), fields.get("name")
        if not isinstance(name, str) or not name:
            raise ValueError(f"{self.path}: category {number} has name={name!r:.40}, which must be a text")
        self.categories[number] = name

    def keep_annotation(self, entry: object) -> None:
        """Check what an annotation tells by itself."""
        fields = entry if isinstance(entry, dict) else {}
        number = fields.get("id")
        key = f"annotation {number!r:.40}"
        reason = self._reason(fields)
        if reason:
            self._refuse(key, reason)
            return
        box, crowd = fields["bbox"], bool(fields.get("iscrowd"))
        # the size of run lengths is compared with that of their image, which may come later in the file
        segmentation = fields.get("segmentation")
        height, width = _size_of_runs(segmentation)
        try:
            shape = parse_shape(segmentation, height=height, width=width)
        except NoShape as error:
            self._refuse(key, str(error))
            return
        self.shapes.add(shape)
        self.columns.mask_size.extend((height, width))
        self.columns.image.append(fields["image_id"])
        self.columns.category.append(fields["category_id"])
        self.columns.box.extend((box[0], box[1], box[0] + box[2], box[1] + box[3]))
        self.columns.crowd.append(crowd)

    def _reason(self, fields: Mapping[str, object]) -> str:
        """Why an annotation cannot be used, or ""."""
        number, box = fields.get("id"), fields.get("bbox")
        if not _is_whole(number):
            return f"id={number!r:.40} must be a whole number"
        if number in self.ids:
            return f"id={number} stands twice"
        self.ids.add(number)
        for name in ("image_id", "category_id"):
            if not _is_whole(fields.get(name)):
                return f"{name}={fields.get(name)!r:.40} must be a whole number"
        if not isinstance(box, list) or len(box) != 4 or not all(type(each) in (int, float) for each in box):
            return f"bbox={box!r:.60} must be four numbers: left, top, width, height"
        if not all(math.isfinite(each) and abs(each) < LARGEST_ID for each in box):
            return f"bbox={box!r:.60} is not finite"
        if box[2] <= 0 or box[3] <= 0:
            return f"bbox={box!r:.60} has no area"
        if fields.get("iscrowd", 0) not in (0, 1):
            return f"iscrowd={fields.get('iscrowd')!r:.40} must be 0 or 1"
        return ""

    def table(self) -> ObjectTable:
        """The columns, once everything was read."""
        if not self.images or not self.categories:
            raise ValueError(f"{self.path} has {len(self.images)} images and {len(self.categories)} categories")
        image_ids, category_ids = sorted(self.images), sorted(self.categories)
        sizes = torch.tensor([self.images[number][1:] for number in image_ids])
        image = _places(np.array(self.columns.image), np.array(image_ids))
        category = _places(np.array(self.columns.category), np.array(category_ids))
        boxes = torch.from_numpy(np.array(self.columns.box)).view(-1, 4)
        limit = sizes[image.clamp(min=0)].flip(1).repeat(1, 2)
        inside = torch.minimum(boxes.clamp(min=0), limit.double())
        visible = (inside[:, 2:] - inside[:, :2] > 0).all(dim=1)
        masks = torch.from_numpy(np.array(self.columns.mask_size)).view(-1, 2)
        visible &= ((masks == 0) | (masks == sizes[image.clamp(min=0)])).all(dim=1)
        known = (image >= 0) & (category >= 0)
        fitting = known & visible
        self._refuse_all(known, visible)
        order = torch.where(fitting)[0]
        order = order[image[order].argsort(stable=True)]
        first = torch.searchsorted(image[order], torch.arange(len(image_ids) + 1))
        return ObjectTable(
            name=self.path.stem,
            paths=tuple(self.images[number][0] for number in image_ids),
            image_ids=tuple(image_ids),
            sizes=sizes,
            first=first,
            boxes=inside[order].float(),
            classes=category[order],
            crowd=torch.from_numpy(np.array(self.columns.crowd)).bool()[order],
            shapes=self.shapes.finish(order),
            class_names=tuple(self.categories[number] for number in category_ids),
            category_ids=tuple(category_ids),
            problems=tuple(self.problems),
            bad=self.bad,
            clipped=int((inside != boxes)[fitting].any(dim=1).sum()),
            federated=self.federated,
        )

    def _refuse_all(self, known: Bool[Tensor, " n"], visible: Bool[Tensor, " n"]) -> None:
        for place in torch.where(~known)[0].tolist():
            image, category = self.columns.image[place], self.columns.category[place]
            self._refuse(f"an annotation of image {image}", f"image {image} or category {category} is not in the file")
        for place in torch.where(known & ~visible)[0].tolist():
            box = list(self.columns.box[4 * place : 4 * place + 4])
            self._refuse(
                f"an annotation of image {self.columns.image[place]}", f"{box} or its mask lies outside the image"
            )

    def _refuse(self, key: str, reason: str) -> None:
        self.bad += 1
        if len(self.problems) < LISTED:
            self.problems.append(Problem(key=key, reason=reason))

    def _fields(self, entry: object, kind: str) -> dict[str, object]:
        if not isinstance(entry, dict):
            raise ValueError(f"{self.path}: {entry!r:.40} in {kind} is not an object")
        return entry

    def _id(self, fields: Mapping[str, object], kind: str, known: Mapping[int, object]) -> int:
        number = fields.get("id")
        if not _is_whole(number):
            raise ValueError(f"{self.path}: id={number!r:.40} in {kind} must be a whole number")
        if number in known:
            raise ValueError(f"{self.path}: id={number} stands twice in {kind}; which of them is meant?")
        return number

    def _path(self, fields: Mapping[str, object], number: int) -> str:
        """``file_name``, or in LVIS the last folder and name of ``coco_url``: a path that stays below its folder."""
        name = fields.get("file_name")
        if name is None and isinstance(url := fields.get("coco_url"), str):
            name = "/".join(url.split("/")[-2:])
        if not isinstance(name, str) or not name or "\0" in name:
            raise ValueError(f"{self.path}: image {number} has file_name={name!r:.40}, which must be a text")
        if name.startswith("/") or "\\" in name or ".." in PurePosixPath(name).parts:
            raise ValueError(f"{self.path}: image {number} has file_name={name!r:.60}, which leaves the folder")
        return name


def _is_whole(value: object) -> TypeGuard[int]:
    """Whether it is a whole number, which true and false are not."""
    return type(value) is int and abs(value) <= LARGEST_ID


def _is_possible(height: int, width: int) -> bool:
    return 0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE and height * width <= MAX_PIXELS


def _size_of_runs(segmentation: object) -> tuple[int, int]:
    """Height and width that run lengths tell of themselves; (0, 0) where they tell none that is possible."""
    size = segmentation.get("size") if isinstance(segmentation, dict) else None
    if isinstance(size, list) and len(size) == 2 and _is_whole(size[0]) and _is_whole(size[1]):
        return (size[0], size[1]) if _is_possible(size[0], size[1]) else (0, 0)
    return 0, 0


def _places(values: np.ndarray, known: np.ndarray) -> Int64[Tensor, " n"]:
    """Place of each value among the sorted known ones, -1 where it is not there."""
    place = np.searchsorted(known, values).clip(0, len(known) - 1)
    return torch.from_numpy(np.where(known[place] == values, place, -1).astype(np.int64))
