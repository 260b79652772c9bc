"""iNaturalist 2018, Food-101, Caltech-101 and CIFAR-10 as they lie on disk."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from underpaint import keyed_random
from underpaint.data.known_sets.known_set import (
    Images,
    class_folders,
    record,
    require_classes,
    require_files,
    require_once,
)
from underpaint.data.source import Record
from underpaint.files import read_json, read_lines

CALTECH_TRAIN = 30
"""Training images of each class of Caltech-101, as in Fei-Fei et al.'s protocol; they are drawn by a hash."""
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def read_inaturalist(root: Path) -> Images:
    """``train2018.json`` and ``val2018.json`` in COCO's form, and the images at the paths that they name."""
    train, val = (read_annotations(root / f"{half}2018.json") for half in ("train", "val"))
    both = sorted(train.keys() & val.keys())
    if both:
        raise ValueError(f"{root}: {both[0]} is in train2018.json and in val2018.json")
    require_classes(val.values(), sorted(set(train.values())), where=str(root / "val2018.json"))
    require_files(root, [*train, *val], where=f"{root}/*2018.json")
    return Images([record(path, name, tested=half is val) for half in (train, val) for path, name in half.items()])


def read_annotations(file: Path) -> dict[str, str]:
    """The class name of each image of an annotation file with images, annotations and categories.

    Raises:
        ValueError: if it is not such a file, or lists an image twice.
    """
    if not file.is_file():
        raise ValueError(f"{file} is not there")
    content: Any = read_json(file)
    images = _objects(content, "images", ("id", "file_name"), file)
    categories = _objects(content, "categories", ("id", "name"), file)
    annotations = _objects(content, "annotations", ("image_id", "category_id"), file)
    require_once([str(name) for _, name in images], where=str(file))
    path_of = {number: str(name) for number, name in images}
    name_of = {number: str(name) for number, name in categories}
    for image, category in annotations:
        if image not in path_of or category not in name_of:
            what, number = ("image", image) if image not in path_of else ("category", category)
            raise ValueError(f"{file}: an annotation has the {what} {number}, which is not among its {what} ids")
    labelled = [(path_of[image], name_of[category]) for image, category in annotations]
    require_once([path for path, _ in labelled], where=f"{file} (annotations)")
    outside = [path for path, _ in labelled if path.startswith("/") or ".." in path.split("/")]
    if outside:
        raise ValueError(f"{file}: the path {outside[0]!r} leaves the folder")
    if len(labelled) < len(path_of):
        raise ValueError(f"{file} has {len(path_of) - len(labelled):,} images without an annotation")
    return dict(labelled)


def _objects(content: Any, field: str, keys: tuple[str, str], file: Path) -> list[tuple[Any, Any]]:
    """Two values of each object in a list of an annotation file; the first is a number or a text."""
    rows = content.get(field) if isinstance(content, dict) else None
    if not isinstance(rows, list):
        raise ValueError(f"{file} is not a file of annotations: it must be an object with the list {field!r}")
    for number, row in enumerate(rows):
        values = [row.get(key) for key in keys] if isinstance(row, dict) else []
        if not values or not all(isinstance(value, (int, str)) for value in values):
            raise ValueError(
                f"{file} is not a file of annotations: entry {number} of {field!r} must be an object with the numbers "
                f"or texts {keys[0]!r} and {keys[1]!r}"
            )
    return [(row[keys[0]], row[keys[1]]) for row in rows]


def read_food(root: Path) -> Images:
    """``images/CLASS/`` with the lists ``meta/train.txt`` and ``meta/test.txt``."""
    records: list[Record] = []
    for half in ("train", "test"):
        file = root / "meta" / f"{half}.txt"
        if not file.is_file():
            raise ValueError(f"{file} is not there")
        names = read_lines(file)
        require_once(names, where=str(file))
        if any(not re.fullmatch(r"[\w-]+/[\w-]+", name) for name in names):
            raise ValueError(f"{file} must hold CLASS/IMAGE without extension in each line")
        paths = [f"images/{name}.jpg" for name in names]
        require_files(root, paths, where=str(file))
        records += [record(path, path.split("/")[1], tested=half == "test") for path in paths]
    return Images(records)


def read_caltech(root: Path) -> Images:
    """``101_ObjectCategories/CLASS/``, without the background; 30 training images of each class are drawn by a hash."""
    folders = class_folders(root, "101_ObjectCategories")
    folders.pop("BACKGROUND_Google", None)
    records: list[Record] = []
    for name, paths in folders.items():
        drawn = sorted(paths, key=lambda path: keyed_random.key("caltech101", path))
        records += [record(path, name, tested=place >= CALTECH_TRAIN) for place, path in enumerate(drawn)]
    note = f"{CALTECH_TRAIN} training images of each class are drawn by a hash, the others are test images"
    return Images(records, (note,))


def read_cifar(root: Path) -> Images:
    """``train/CLASS/`` and ``test/CLASS/``: its pickles are not read, since a pickle can run code."""
    if (root / "cifar-10-batches-py").is_dir() or list(root.glob("data_batch_*")):
        raise ValueError(
            f"{root} holds CIFAR-10 as pickles, which are not read, since they can run code; save its images as "
            f"train/CLASS/*.png and test/CLASS/*.png"
        )
    records: list[Record] = []
    for half in ("train", "test"):
        folders = class_folders(root, half)
        require_classes(folders, CIFAR10, where=str(root / half))
        records += [record(path, name, tested=half == "test") for name, paths in folders.items() for path in paths]
    return Images(records)
