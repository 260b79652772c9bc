"""ImageNet-1k, and the sets that test its classes: ImageNetV2, ReaL and ObjectNet (paper.md 2.1, 2.2)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from underpaint.data.known_sets.class_table import imagenet_classes
from underpaint.data.known_sets.known_set import (
    Images,
    class_folders,
    named,
    record,
    require_classes,
    require_once,
)
from underpaint.files import read_json, read_lines

NUMBER = re.compile(r"ILSVRC2012_val_(\d{8})\.\w+")
LISTS = ("LOC_val_solution.csv", "val.txt", "imagenet_2012_validation_synset_labels.txt")
"""Ground truth of a flat ``val/``: Kaggle's, Caffe's, TensorFlow's."""
DEVELOPMENT_KIT = "ILSVRC2012_validation_ground_truth.txt"


def read_imagenet(root: Path) -> Images:
    """``train/WNID/``, and ``val/WNID/`` or a flat ``val/`` with a list of its classes."""
    wnids = imagenet_classes().wnids
    train = class_folders(root, "train")
    require_classes(train, wnids, where=f"{root / 'train'}")
    records = [record(path, wnid, tested=False) for wnid, paths in train.items() for path in paths]
    records += [record(path, wnid, tested=True) for path, wnid in validation(root).items()]
    return Images(records, class_table=imagenet_classes().xxh3)


def validation(root: Path) -> dict[str, str]:
    """The wnid of each image of ``val/``.

    Raises:
        ValueError: if folders or the list do not fit.
    """
    wnids = imagenet_classes().wnids
    folders = class_folders(root, "val")
    _require_once([path for paths in folders.values() for path in paths], root)
    if set(folders) != {""}:
        require_classes(folders, wnids, where=f"{root / 'val'}")
        return {path: wnid for wnid, paths in folders.items() for path in paths}
    images = sorted(folders[""])
    place = next((root / name for name in LISTS if (root / name).is_file()), None)
    if place is None:
        kit = f"; {DEVELOPMENT_KIT} has numbers in another order than the classes" * (root / DEVELOPMENT_KIT).is_file()
        raise ValueError(
            f"{root / 'val'} has no class folders, and {root} no list of its classes: add one of "
            f"{', '.join(LISTS)}{kit}"
        )
    return _listed(place, images, wnids)


def _require_once(images: Sequence[str], root: Path) -> None:
    """Raise ValueError for an image of ``val/`` that is there twice, in two folders or with two endings."""
    numbered = [Path(path).stem for path in images if NUMBER.fullmatch(Path(path).name)]
    require_once(numbered, where=f"{root / 'val'}", of="files")


def _listed(file: Path, images: list[str], wnids: tuple[str, ...]) -> dict[str, str]:
    rows = read_lines(file)
    if rows[0].startswith("ImageId"):  # Kaggle's header
        rows = rows[1:]
    if len(rows) != len(images):
        raise ValueError(f"{file} has {len(rows):,} lines for {len(images):,} images of val/; it is another list")
    if file.name == LISTS[2]:
        classes = dict(zip(images, rows, strict=True))
    else:
        pairs = [re.split(r"[,\s]+", row)[:2] for row in rows]
        if short := next((row for row, pair in zip(rows, pairs, strict=True) if len(pair) < 2 or not pair[1]), ""):
            raise ValueError(f"{file} has {short!r}, an image without a class; write both in each line")
        require_once([name for name, _ in pairs], where=str(file))
        by_stem = {Path(name).stem: _wnid(text, wnids, file) for name, text in pairs}
        missing = [path for path in images if Path(path).stem not in by_stem]
        if missing:
            raise ValueError(f"{file} lacks {len(missing):,} images of val/ ({named(missing)})")
        classes = {path: by_stem[Path(path).stem] for path in images}
    require_classes(classes.values(), wnids, where=str(file))
    return classes


def _wnid(text: str, wnids: tuple[str, ...], file: Path) -> str:
    if not text.isdecimal():
        return text
    if int(text) >= len(wnids):
        raise ValueError(
            f"{file} has the class {text}; its numbers go from 0 to {len(wnids) - 1}, in order of the wnids"
        )
    return wnids[int(text)]


def last_folders() -> tuple[str, str]:
    """Names of the folders of the last two classes in ImageNetV2: a set that lacks one of them is refused by name."""
    classes = len(imagenet_classes().wnids)
    return str(classes - 2), str(classes - 1)


def read_v2(root: Path) -> Images:
    """Folders named 0 to 999: the numbers of the classes, which sort otherwise as texts."""
    wnids = imagenet_classes().wnids
    folders = class_folders(root, ".")
    require_classes(folders, [str(number) for number in range(len(wnids))], where=str(root))
    records = [record(path, wnids[int(name)], tested=True) for name, paths in folders.items() for path in paths]
    return Images(records, class_table=imagenet_classes().xxh3)


def read_real(root: Path) -> Images:
    """ImageNet's ``val/`` with ``real.json``: a list of classes per image; those with none are not counted."""
    wnids = imagenet_classes().wnids
    rows = real_labels(root / "real.json")
    images = [path for paths in class_folders(root, "val").values() for path in paths]
    _require_once(images, root)
    records = []
    for path in images:
        match = NUMBER.fullmatch(Path(path).name)
        if match is None or not 1 <= int(match[1]) <= len(rows):
            raise ValueError(f"{root / path} is not ILSVRC2012_val_00000001 to {len(rows):08d}, ReaL's order of images")
        accepted = tuple(wnids[number] for number in rows[int(match[1]) - 1])
        if accepted:
            records.append(record(path, accepted[0], tested=True, accepted=accepted))
    skipped = f"{len(images) - len(records):,} of {len(images):,} images have no label in ReaL and are not counted"
    return Images(records, (skipped,), class_table=imagenet_classes().xxh3)


def real_labels(file: Path) -> list[list[int]]:
    """The classes of each validation image by its number.

    Raises:
        ValueError: if it is not such a list.
    """
    if not file.is_file():
        raise ValueError(f"{file} is not there: it is real.json of google-research/reassessed-imagenet")
    rows = read_json(file)
    valid = isinstance(rows, list) and all(
        isinstance(row, list) and all(type(label) is int and 0 <= label < 1000 for label in row) for row in rows
    )
    if not valid:
        raise ValueError(f"{file} is not ReaL's list: it must hold a list of class numbers for each image")
    return rows


def read_objectnet(root: Path) -> Images:
    """``images/FOLDER/`` and ``mappings/``; the images whose class is also one of ImageNet's."""
    wnids = imagenet_classes().wnids
    numbers = objectnet_map(root / "mappings")
    folders = class_folders(root, "images")
    missing = sorted(numbers.keys() - folders.keys())
    if missing:
        raise ValueError(f"{root / 'images'} lacks {len(missing)} of {len(numbers)} folders ({named(missing)})")
    records = [
        record(path, folder, tested=True, accepted=tuple(wnids[number] for number in ids))
        for folder, ids in numbers.items()
        for path in folders[folder]
    ]
    together = sum(map(len, numbers.values()))
    note = f"{together} classes of ImageNet are {len(numbers)} of ObjectNet; the red border of 2 pixels is cut off"
    return Images(records, (note,), class_table=imagenet_classes().xxh3, border=2)


def objectnet_map(mappings: Path) -> dict[str, list[int]]:
    """The numbers of ImageNet's classes that each folder of ObjectNet shows, from ObjectNet's own files.

    Raises:
        ValueError: if one is missing, names a class that another lacks, or a number that is not a class of ImageNet.
    """
    names = ("folder_to_objectnet_label.json", "objectnet_to_imagenet_1k.json", "pytorch_to_imagenet_2012_id.json")
    texts = mappings / "imagenet_to_label_2012_v2"
    for file in (*(mappings / name for name in names), texts):
        if not file.is_file():
            raise ValueError(f"{file} is not there; it comes with ObjectNet")
    label_of, imagenet_of, place_of = (_texts(mappings / name) for name in names)
    folder_of = {label: folder for folder, label in label_of.items()}
    classes = len(imagenet_classes().wnids)
    wrong = [number for number in place_of if not number.isdecimal() or int(number) >= classes]
    if wrong:
        raise ValueError(f"{mappings / names[2]} has the class {wrong[0]!r}; its numbers go from 0 to {classes - 1}")
    number_of = {place: int(number) for number, place in place_of.items()}
    lines = read_lines(texts)
    number_of_text = {line: number_of[str(place)] for place, line in enumerate(lines) if str(place) in number_of}
    numbers: dict[str, list[int]] = {}
    for label, text in imagenet_of.items():
        parts = text.split("; ")
        unknown = [part for part in parts if part not in number_of_text]
        if unknown or label not in folder_of:
            raise ValueError(
                f"{mappings}: {label!r} is {text!r} in one file, and {(unknown or [label])[0]!r} in no other"
            )
        numbers[folder_of[label]] = [number_of_text[part] for part in parts]
    return numbers


def _texts(file: Path) -> Mapping[str, str]:
    content = read_json(file)
    if not isinstance(content, dict):
        raise ValueError(f"{file} is not one of ObjectNet's mappings: it must hold names by names")
    return {str(key): str(value) for key, value in content.items()}
