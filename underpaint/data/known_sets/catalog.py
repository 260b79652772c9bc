"""Catalog of published datasets that lie on the user's disk: ``in1k:/data/imagenet`` names one and its folder."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from underpaint.data.known_sets.borders import WithoutBorder
from underpaint.data.known_sets.imagenet import last_folders, read_imagenet, read_objectnet, read_real, read_v2
from underpaint.data.known_sets.known_set import KnownSet
from underpaint.data.known_sets.other_sets import read_caltech, read_cifar, read_food, read_inaturalist
from underpaint.data.source import Source, make_source, one_outer_folder

RESEARCH = "non-commercial research and education (image-net.org)"
KNOWN_SETS = (
    KnownSet(
        name="in1k", title="ImageNet-1k", licence=RESEARCH, classes=1000, train=1_281_167, test=50_000,
        layout="train/WNID/*.JPEG and val/WNID/*.JPEG, or a flat val/ with LOC_val_solution.csv", read=read_imagenet,
    ),
    KnownSet(
        name="inat18", title="iNaturalist 2018", licence="non-commercial research (inaturalist.org)", classes=8142,
        train=437_513, test=24_426, layout="train2018.json, val2018.json and train_val2018/", read=read_inaturalist,
    ),
    KnownSet(
        name="in-v2", title="ImageNetV2, matched frequency", licence="MIT (the list); images of Flickr", classes=1000,
        train=0, test=10_000, layout="folders 0 to 999", read=read_v2,
    ),
    KnownSet(
        name="in-real", title="ImageNet-ReaL", licence=f"Apache-2.0 (the labels); {RESEARCH}", classes=1000, train=0,
        test=46_837, layout="val/ with ImageNet's file names, and real.json", read=read_real,
    ),
    KnownSet(
        name="objectnet", title="ObjectNet", licence="CC BY 4.0, for evaluation only (objectnet.dev)", classes=113,
        train=0, test=18_574, layout="images/ and mappings/", read=read_objectnet,
    ),
    KnownSet(
        name="food101", title="Food-101", licence="none stated; images of foodspotting.com", classes=101,
        train=75_750, test=25_250, layout="images/CLASS/*.jpg, meta/train.txt and meta/test.txt", read=read_food,
    ),
    KnownSet(
        name="caltech101", title="Caltech-101", licence="CC BY 4.0", classes=101, train=3_030, test=5_647,
        layout="101_ObjectCategories/CLASS/*.jpg", read=read_caltech,
    ),
    KnownSet(
        name="cifar10", title="CIFAR-10", licence="none stated", classes=10, train=50_000, test=10_000,
        layout="train/CLASS/*.png and test/CLASS/*.png", read=read_cifar,
    ),
)  # fmt: skip


def is_known_set(source: str) -> bool:
    """Whether a source's name is that of a dataset of this catalog and a folder."""
    name, separator, _ = source.partition(":")
    return bool(separator) and any(known.name == name for known in KNOWN_SETS)


def open_known_set(source: str) -> Source:
    """The images of ``NAME:FOLDER``, if the folder holds the whole dataset.

    Raises:
        ValueError: naming what is missing, in one line.
    """
    name, _, folder = source.partition(":")
    known = next(each for each in KNOWN_SETS if each.name == name)
    root = Path(folder or ".").expanduser()
    if not root.is_dir():
        raise ValueError(f"{root} is not a folder; {known.title} lies in one with {known.layout}")
    root = root.resolve()
    try:
        images = known.read(root)
    except ValueError as error:
        raise ValueError(f"{source} is not {known.title}: {error}; it must hold {known.layout}") from None
    opened = make_source(
        known.name, root, records=images.records, problems=(), licence=known.licence, attribution=known.title
    )
    require_counts(known, opened, root)
    opened = replace(opened, notes=images.notes, class_table=images.class_table)
    return replace(opened, files=WithoutBorder(opened.files, images.border)) if images.border else opened


def robustness_sets(folder: Path) -> list[str]:
    """Names, as ``open_known_set`` takes them, of the sets below a folder that only test a classifier of ImageNet.

    Raises:
        ValueError: if there is none.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder; name one with ImageNetV2, ReaL and ObjectNet in it")
    places = [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]
    marks = {"in-v2": last_folders(), "in-real": ("real.json",), "objectnet": ("mappings",)}
    names = [
        f"{name}:{place}"
        for place in places
        for name, several in marks.items()
        if any((place / mark).exists() for mark in several)
    ]
    if not names:
        raise ValueError(
            f"{folder} has neither ImageNetV2 (folders 0 to 999) nor ReaL (real.json and val/) nor ObjectNet (images/ "
            f"and mappings/) in it or in its folders"
        )
    return names


def require_counts(known: KnownSet, source: Source, root: Path) -> None:
    """Raise ValueError where images or classes are more or fewer than were published."""
    halves = Counter("test" if "test" in splits else "train" for splits in source.splits)
    labels = {name for names in source.accepted for name in names} or set(source.label)
    classes = len(set(source.label)) if known.name == "objectnet" else len(labels)
    counted = (("training images", halves["train"], known.train), ("test images", halves["test"], known.test))
    wrong = [
        f"{there:,} {what} instead of {published:,}"
        for what, there, published in (*counted, ("classes", classes, known.classes))
        if there != published
    ]
    if wrong:
        raise ValueError(
            f"{root} is not all of {known.title}: it has {', '.join(wrong)}. Complete it, or name the folder alone "
            f"(data={one_outer_folder(source) or root}) to use the part that is there"
        )
