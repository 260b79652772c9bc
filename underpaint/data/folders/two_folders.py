"""Training and test images in two folders of class folders, named as ``train=DIR,val=DIR``."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from underpaint.data.cache import hash_files
from underpaint.data.folders.listing import list_folder
from underpaint.data.source import Record, Source, make_source
from underpaint.data.splits import copies_left_out, copies_of_two_classes, given_splits
from underpaint.messages import counted

FORM = "train=DIR,val=DIR"


def is_two_folders(source: str) -> bool:
    return source.startswith("train=")


def two_folders_of(source: str) -> dict[str, Path]:
    """The folders of ``train=DIR,val=DIR``.

    Raises:
        ValueError: if the name has another form.
    """
    first, comma, second = source.removeprefix("train=").partition(",val=")
    if not (first and comma and second):
        raise ValueError(f"{source!r} must name two folders, as {FORM}")
    return {"train": Path(first).expanduser(), "val": Path(second).expanduser()}


def open_two_folders(source: str) -> Source:
    """The images of ``train=DIR,val=DIR``; their classes are the first folders in each.

    Exact copies of test images are not trained on.

    Raises:
        ValueError: if the name has another form, a folder is missing, the classes of the two differ, or all training
            images are exact copies of test images.
    """
    places = two_folders_of(source)
    for place in places.values():
        if not place.is_dir():
            raise ValueError(f"{place} is not a folder")
    resolved = {half: place.resolve() for half, place in places.items()}
    if resolved["train"] == resolved["val"]:
        raise ValueError(f"{source} names one folder twice; name one with training images and one with test images")
    if any(a in b.parents for a, b in (tuple(resolved.values()), tuple(resolved.values())[::-1])):
        raise ValueError(f"{source}: the folders lie in each other; training images would be test images")
    root = Path(os.path.commonpath(list(resolved.values())))
    half_of: dict[str, str] = {}
    label: dict[str, str] = {}
    for half, place in resolved.items():
        for inner in list_folder(place).images:
            path = (place / inner).relative_to(root).as_posix()
            half_of[path] = half
            label[path] = inner.partition("/")[0] if "/" in inner else ""
    _require_same_classes(places, half_of, label)
    family, unreadable = hash_files(root, tuple(half_of))
    label, half_of = ({path: column[path] for path in family} for column in (label, half_of))
    splits = given_splits(half_of, family, label)
    records = [
        Record(path=path, tags=(), label=label[path], family=family[path], splits=splits[path], flip=True)
        for path in family
    ]
    source_of_both = make_source(
        _name(root, resolved),
        root,
        records=records,
        problems=unreadable,
        licence="your own images",
        attribution=source,
    )
    copies = copies_left_out(half_of, splits)
    notes = [f"{counted(len(copies), 'training image')} left out as exact copies of test images"] if copies else []
    return replace(source_of_both, notes=(*notes, *copies_of_two_classes(family, label, splits)))


def _name(root: Path, resolved: dict[str, Path]) -> str:
    """A name that tells such sources apart: the parent of both folders, and their paths below it."""
    inner = ["_".join(place.relative_to(root).parts) for place in resolved.values()]
    return "-".join([*([root.name] if root.name else []), "+".join(inner)])


def _require_same_classes(places: dict[str, Path], half_of: dict[str, str], label: dict[str, str]) -> None:
    classes = {half: {label[path] for path in half_of if half_of[path] == half} for half in places}
    for half, other_half in (("train", "val"), ("val", "train")):
        if not classes[half] or "" in classes[half]:
            raise ValueError(f"{places[half]} must hold class folders, with all images in them")
        if only := sorted(classes[half] - classes[other_half]):
            number = counted(len(only), "class", "classes")
            raise ValueError(
                f"{places[half]} has {number} that {places[other_half]} lacks, such as {only[0]!r}; make "
                f"the folders equal, or give a table path,class,split with data.labels"
            )
