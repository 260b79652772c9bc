"""A dataset of ``torch.utils.data`` as a source: images, and with them a class, or tags.

It is read once when it is opened, for the hash that identifies it and the names of the classes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
import xxhash
from PIL import Image

from underpaint.data.decode.deep import EIGHT_BIT
from underpaint.data.decode.limits import BadImage
from underpaint.data.pictures import Indexed, picture_at, stored
from underpaint.data.source import Problem, Record, Source, make_source
from underpaint.data.splits import own_splits
from underpaint.progress import Progress

ROOT = Path(os.sep) / "torch.utils.data"
"""Root of such sources, which is not a folder: their images have no paths."""


def torch_source(name: str, dataset: Indexed) -> Source:
    """The items of a dataset with a length: an image, or a tuple of an image and a class or tags.

    A class is a text, or a number, which the dataset's ``classes`` names where it has them; tags are a list of texts.
    An image is anything that ``encoder.embed`` takes, the same at every reading: without random transforms. Equal
    images are one family.

    Raises:
        ValueError: if no item has an image, or an item has something else beside it.
    """
    files = _Items(dataset)
    classes: Any = getattr(dataset, "classes", ())
    described: dict[str, tuple[str, tuple[str, ...]]] = {}
    family: dict[str, str] = {}
    problems: list[Problem] = []
    state = xxhash.xxh3_128()
    with Progress(f"Reading {name}", total=len(dataset), unit="images") as shown:
        for number in range(len(dataset)):
            path = f"{number:09d}"
            try:
                family[path] = xxhash.xxh3_128_hexdigest(files.read(path))
            except (BadImage, OSError) as error:
                problems.append(Problem(key=f"{name}[{number}]", reason=str(error)))
                continue
            described[path] = _class_and_tags(dataset[number], classes, where=f"{name}[{number}]")
            state.update(repr((path, family[path], described[path])).encode())
            shown.update(number + 1)
    if not family:
        first = f"; {problems[0].key}: {problems[0].reason}" if problems else ""
        raise ValueError(f"{name} is a dataset without images{first}")
    splits = own_splits(family, {path: label for path, (label, _) in described.items()})
    records = [
        Record(path=path, tags=tags, label=label, family=family[path], splits=splits[path], flip=True)
        for path, (label, tags) in described.items()
    ]
    files.hashes = family
    source = make_source(
        name,
        ROOT / name.replace(":", "/"),
        records=records,
        problems=problems,
        licence="",
        attribution="",
        content_hash=state.hexdigest(),
    )
    return replace(source, files=files)


class _Items:
    """The images of a dataset as the bytes of files, by their numbers."""

    def __init__(self, dataset: Indexed) -> None:
        self.dataset = dataset
        self.hashes: dict[str, str] = {}

    def read(self, path: str) -> bytes:
        image = picture_at(self.dataset, int(path))
        if isinstance(image, (str, Path)):
            return Path(image).read_bytes()
        planes = stored(image, channels=3, value_range=EIGHT_BIT)
        if planes.is_floating_point():
            planes = (planes * 255).round().to(torch.uint8)  # as torchvision's ToTensor divided them
        content = BytesIO()
        Image.fromarray(planes.permute(1, 2, 0).contiguous().numpy()).save(content, format="PPM")
        return content.getvalue()

    def stamp(self, path: str) -> list[int | str]:
        """The hash of the image, since an item has no time of change."""
        return [0, self.hashes[path]]


def _class_and_tags(item: Any, classes: Sequence[Any], *, where: str) -> tuple[str, tuple[str, ...]]:
    """The class of an item, "" without one, and its tags."""
    about: Any = item[1] if isinstance(item, (tuple, list)) and len(item) > 1 else ""
    if isinstance(about, (list, tuple)) and all(isinstance(tag, str) for tag in about):
        return "", tuple(dict.fromkeys(about))
    if isinstance(about, str):
        return about, ()
    number: Any = about
    try:
        number = int(number)
    except (TypeError, ValueError):
        raise ValueError(
            f"{where} has a {type(about).__name__} beside its image; give a class (a number or a text), or a list of "
            f"texts as tags"
        ) from None
    return str(classes[number]) if 0 <= number < len(classes) else str(number), ()
