"""A folder of one's own images, with tags, classes, both or neither."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path

from underpaint.data.cache import hash_files
from underpaint.data.decode.formats import EXTENSIONS
from underpaint.data.folders.annotations import misplaced, normal_path, read_classes, read_tags
from underpaint.data.folders.listing import list_folder, say_skipped
from underpaint.data.source import Problem, Record, Source, Split, make_source
from underpaint.data.splits import TESTED_SHARE, given_splits, own_splits, split_folders

TAGS_FILES = ("tags.csv", "tags.parquet")


def open_folder(folder: Path, *, tags: str, labels: str) -> Source:
    """The images below ``folder``; see ``sources.open_source`` for the arguments.

    Without any file of tags or labels, images in two or more sub-folders have the first folder's name as their class.
    Where the first folders are ``train`` and ``val`` or ``test``, they are the splits, and the second folders the
    classes (ImageNet's layout); else splits are drawn. ``Source.notes`` says which.
    Exact copies are one family. Problems, not errors, are: rows without an image, symbolic links that lead out of the
    folder, files that cannot be read, a second class for one image.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder; images are read from a folder, or name a collection without a '/'")
    root = folder.resolve()
    listing = list_folder(root)
    if not listing.images:
        skipped = f"; {listing.skipped()}" if listing.skipped() else ""
        looked = f"looked in it and its sub-folders for {' '.join(EXTENSIONS)}"
        raise ValueError(f"{folder} holds no images; {looked}{skipped}")
    say_skipped(folder, listing)
    family, unreadable = hash_files(root, listing.images)
    tags_file = _tags_file(folder, tags)
    tags_of, untagged = _tags(tags_file, root, family) if tags_file else ({}, [])
    label_of, unlabelled = _classes(labels, root, family) if labels else ({}, [])
    split_of = split_folders(family)
    if not tags_file and not labels:
        label_of = _class_folders(family, below=split_of)
    labelled = {path: label_of.get(path, "") for path in family}
    splits = given_splits(split_of, family, labelled) if split_of else own_splits(family, labelled)
    records = [
        Record(
            path=path,
            tags=tags_of.get(path, ()),
            label=label_of.get(path, ""),
            family=family[path],
            splits=splits[path],
            flip=True,
        )
        for path in family
    ]
    return make_source(
        root.name,
        root,
        records=records,
        problems=[*listing.links, *unreadable, *untagged, *unlabelled],
        licence="your own images",
        attribution=str(folder),
        notes=_notes(split_of, splits),
    )


def _notes(split_of: dict[str, str], splits: Mapping[str, tuple[Split, ...]]) -> tuple[str, ...]:
    """Where the splits of the transfer task come from, and who is left out."""
    if not split_of:
        drawn = any("test" in names for names in splits.values())
        share = f"{TESTED_SHARE:.0%} of each class are drawn to be tested on, by a hash"
        return (f"{share}: there are no folders train/ and val/",) * drawn
    tested = sorted({split_of[path] for path, names in splits.items() if "test" in names})
    notes = [f"the folders say what is trained and tested on: train/ and {tested[0] + '/' if tested else 'nothing'}"]
    left_out = Counter(split_of[path] for path, names in splits.items() if not names)
    notes += [f"{count:,} images of {name}/ are left out" for name, count in sorted(left_out.items())]
    return tuple(notes)


def _tags_file(folder: Path, tags: str) -> Path | None:
    if tags:
        return _existing(tags)
    return next((folder / name for name in TAGS_FILES if (folder / name).is_file()), None)


def _existing(file: str) -> Path:
    path = Path(file).expanduser()
    if path.is_dir():
        raise ValueError(f"{path} is a folder, not a file of tags or labels")
    if not path.is_file():
        raise ValueError(f"{path} does not exist")
    return path


def _tags(file: Path, root: Path, known: dict[str, str]) -> tuple[dict[str, tuple[str, ...]], list[Problem]]:
    """The tags of each image; those of several rows for one image are merged."""
    merged: dict[str, dict[str, None]] = {}
    problems: list[Problem] = []
    for written, tags in read_tags(file):
        path = normal_path(written)
        problem = misplaced(path, root, known)
        if problem:
            problems.append(problem)
        else:
            merged.setdefault(path, {}).update(dict.fromkeys(tags))
    found = {path: tuple(tags) for path, tags in merged.items()}
    _require_any(file, root, found)
    if not any(found.values()):
        raise ValueError(f"no row of {file} that names an image has a tag; fill the column tags, or leave the file out")
    return found, problems


def _classes(labels: str, root: Path, known: dict[str, str]) -> tuple[dict[str, str], list[Problem]]:
    """The class of each image; the first one where a file gives several."""
    file = _existing(labels)
    found: dict[str, str] = {}
    problems: list[Problem] = []
    for written, name in read_classes(file):
        path = normal_path(written)
        problem = misplaced(path, root, known)
        if problem:
            problems.append(problem)
        elif found.setdefault(path, name) != name:
            problems.append(Problem(key=path, reason=f"a second class, {name!r} after {found[path]!r}"))
    _require_any(file, root, found)
    return found, problems


def _require_any(file: Path, root: Path, found: Collection[str]) -> None:
    if not found:
        raise ValueError(f"{file} names no existing image; its paths must be relative to {root}")


def _class_folders(paths: Collection[str], *, below: dict[str, str]) -> dict[str, str]:
    """The first folder's name, where every image lies in one and there are at least two.

    Where the first folders are splits (``below`` is not empty) it is the second one's, for the images that have one: a
    test folder without classes is common.
    """
    names = {path: path.split("/")[1 if below else 0] for path in paths if path.count("/") > bool(below)}
    complete = below or len(names) == len(paths)
    return names if complete and len(set(names.values())) > 1 else {}
