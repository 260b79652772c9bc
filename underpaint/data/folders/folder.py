"""Opening of a folder of a user's images, with tags, classes, both or neither."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from underpaint.data.cache import hash_files
from underpaint.data.decode.formats import EXTENSIONS
from underpaint.data.folders.annotations import LabelsFile, TagsFile, read_labels, read_tags
from underpaint.data.folders.listing import Listing, list_folder, say_skipped
from underpaint.data.source import Record, Source, Split, make_source
from underpaint.data.splits import (
    TESTED_SHARE,
    copies_left_out,
    copies_of_two_classes,
    given_splits,
    own_splits,
    split_folders,
    unread_halves,
)
from underpaint.data.tables.table_file import TableFile, table_file
from underpaint.messages import counted
from underpaint.tags.label_names import TagRulesName, label_names

CLASS_FOLDERS = "folders"
"""Value of ``labels`` by which class folders are the classes beside a table of tags, too."""
TAGS_FILES = ("tags.csv", "tags.parquet", "tags.tsv", "tags.jsonl")


NO_CLASS_FOLDERS = (
    "every image must lie in one of two or more folders, or in such a folder of train/ and val/ or test/; or give a "
    "table with the columns path and class"
)
NO_TAGS = TagsFile(tags={}, problems=(), notes=())
NO_LABELS = LabelsFile(label={}, split={}, problems=(), notes=())


def images_in(folder: Path) -> Listing:
    """The files of a folder as ``listed`` gives them; a line is printed about what is not read.

    Raises:
        ValueError: if it is not a folder, or holds no images.
    """
    listing = listed(folder)
    say_skipped(folder, listing)
    return listing


def listed(folder: Path) -> Listing:
    """The files of a folder and its sub-folders, with one image or more.

    Raises:
        ValueError: if it is not a folder, or holds no images.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder; images are read from a folder, or name a collection without a '/'")
    listing = list_folder(folder.resolve())
    if not listing.images:
        skipped = f"; {listing.skipped()}" if listing.skipped() else ""
        looked = f"looked in it and its sub-folders for {' '.join(EXTENSIONS)}"
        raise ValueError(f"{folder} holds no images; {looked}{skipped}")
    return listing


def open_folder(
    folder: Path,
    *,
    tags: str,
    labels: str,
    tag_rules: TagRulesName = "canonical",
    listing: Listing | None = None,
) -> Source:
    """The images in ``folder`` and its sub-folders; ``open_source`` describes the arguments.

    The folder is not listed again where its ``listing`` is given.

    Without any file of tags or labels, images in two or more sub-folders have the first folder's name as their class;
    with ``labels="folders"`` beside a file of tags, too.
    If the file of labels has a column ``split``, or the first folders are ``train`` and ``val`` or ``test``, these are
    the splits (and the second folders the classes: ImageNet's layout; ``test`` alone only tests models); else splits
    are drawn. ``Source.notes`` says which. Exact copies are one family. Rows without an image and files that cannot be
    read are problems of the source, not errors. Symbolic links that lead out of the folder are skipped.
    """
    root, listing = folder.resolve(), listing or images_in(folder)
    family, unreadable = hash_files(root, listing.images)
    tags_file, labels_file = _tags_file(folder, tags), _labels_file(labels)
    tagged = read_tags(tags_file, root, family) if tags_file else NO_TAGS
    labelled = read_labels(labels_file, root, family) if labels_file else NO_LABELS
    split_of = {path: labelled.split.get(path, "") for path in family} if labelled.split else split_folders(family)
    label_of = labelled.label
    if labels == CLASS_FOLDERS or not (tags_file or labels_file):
        label_of = class_folders(family, below=split_of)
        if labels and not label_of:
            raise ValueError(f"labels={labels}: {folder} has no class folders; {NO_CLASS_FOLDERS}")
    label_of = {path: label_of.get(path, "") for path in family}
    splits = given_splits(split_of, family, label_of) if split_of else own_splits(family, label_of)
    names, notes_on_tags = label_names(tagged.tags, tag_rules) if tags_file else ({}, ())
    records = [
        Record(
            path=path,
            tags=names.get(path, ()),
            label=label_of[path],
            family=family[path],
            splits=splits[path],
            flip=True,
        )
        for path in family
    ]
    source = make_source(
        root.name,
        root,
        records=records,
        problems=[*unreadable, *tagged.problems, *labelled.problems],
        licence="your own images",
        attribution=str(folder),
    )
    notes = _notes(split_of, splits, label_of, named_by=str(labels_file.file) if labels_file and labelled.split else "")
    return replace(
        source,
        skipped=listing.links,
        notes=(*labelled.notes, *notes, *copies_of_two_classes(family, label_of, splits)),
        notes_on_tags=(*tagged.notes, *notes_on_tags),
    )


def _notes(
    split_of: dict[str, str], splits: Mapping[str, tuple[Split, ...]], label_of: Mapping[str, str], *, named_by: str
) -> tuple[str, ...]:
    """Sentences about the origin of the transfer task's splits; ``named_by`` is the file that gives them, or ""."""
    if not split_of:
        drawn = any("test" in names for names in splits.values())
        share = f"{TESTED_SHARE:.0%} of each class are drawn to be tested on, by a hash"
        return (f"{share}: there are no folders train/ and val/",) * drawn
    if named_by:
        counts = Counter(split for names in splits.values() for split in names)
        copies = len(copies_left_out(split_of, splits))
        return (
            f"{named_by} says what is trained and tested on: {counts['train']:,} and {counts['test']:,} images",
            *([f"{counted(copies, 'training image')} left out as exact copies of test images"] if copies else []),
            *_without_class([path for path, split in split_of.items() if split], label_of, whose=named_by),
        )
    tested = sorted({split_of[path] for path, names in splits.items() if "test" in names})
    if "train" not in split_of.values():
        return ("all images lie in test/: models of its classes are tested on them, and none is trained",)
    notes = [f"the folders say what is trained and tested on: train/ and {tested[0] + '/' if tested else 'nothing'}"]
    left_out = Counter(split_of[path] for path, names in splits.items() if not names)
    reason = {"train": " as exact copies of test images"} | dict.fromkeys(tested, " for want of a class")
    notes += [
        f"{counted(count, 'image')} of {name}/ left out{reason.get(name, '')}"
        for name, count in sorted(left_out.items())
    ]
    trained = [path for path, names in splits.items() if names and split_of[path] == "train"]
    if any("train" in names for names in splits.values()):
        notes += _without_class(trained, label_of, whose="train/")
    return (*notes, *_notes_on_classes(split_of, splits, label_of))


def _without_class(paths: Iterable[str], label_of: Mapping[str, str], *, whose: str) -> list[str]:
    """A sentence about images of a transfer task's splits that have no class; none without any."""
    lacking = [path for path in paths if not label_of[path]]
    if not lacking:
        return []
    named = f"{lacking[0]!r} left out of" if len(lacking) == 1 else f"such as {lacking[0]!r}, left out of"
    return [f"{counted(len(lacking), 'image')} of {whose} without a class, {named} the transfer task"]


def _notes_on_classes(
    split_of: Mapping[str, str], splits: Mapping[str, tuple[Split, ...]], label_of: Mapping[str, str]
) -> list[str]:
    """Sentences about classes of the tested folder that ``train/`` lacks, and the other way round."""
    classes = {half: {label_of[path] for path, names in splits.items() if half in names} for half in ("train", "test")}
    tested = next((split_of[path] for path, names in splits.items() if "test" in names), "")
    notes: list[str] = []
    for half, folder, missing_in in (("test", tested, "train"), ("train", "train", tested)):
        only = sorted(classes[half] - classes["test" if half == "train" else "train"])
        if only and tested:
            number = counted(len(only), "class", "classes")
            notes.append(f"{folder}/ has {number} that {missing_in}/ lacks, such as {only[0]!r}")
    return notes


def _tags_file(folder: Path, tags: str) -> TableFile | None:
    if tags:
        return _existing(tags)
    return next((TableFile(folder / name) for name in TAGS_FILES if (folder / name).is_file()), None)


def _labels_file(labels: str) -> TableFile | None:
    return _existing(labels) if labels and labels != CLASS_FOLDERS else None


def _existing(written: str) -> TableFile:
    table = table_file(written)
    path = table.file
    if path.is_dir():
        raise ValueError(f"{path} is a folder, not a file of tags or labels")
    if not path.exists():
        raise ValueError(f"{path} does not exist")
    if not path.is_file():
        raise ValueError(f"{path} is a device or a pipe; give a file of tags or labels")
    return table


def class_folders(paths: Collection[str], *, below: Mapping[str, str]) -> dict[str, str]:
    """The class of each path: its first folder's name, if every image lies in one and there are at least two.

    If the first folders are splits (``below`` is not empty), the class is the second folder's name, for images that
    have one: a test folder without classes is common. Folders that are named like splits, and are not read as such,
    are not classes either: ``layout_advice`` says what to do.
    """
    if not below and unread_halves(paths):
        return {}
    names = {path: path.split("/")[1 if below else 0] for path in paths if path.count("/") > bool(below)}
    complete = below or len(names) == len(paths)
    return names if complete and len(set(names.values())) > 1 else {}
