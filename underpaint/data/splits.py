"""Splits into training, held-out and test images, drawn by family with a keyed hash, the same on every machine."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

from underpaint import keyed_random
from underpaint.data.source import Split
from underpaint.messages import counted

TESTED_SHARE = 0.3
"""Share of the families of each class that become test images, where the user gives no splits."""
HELDOUT_SHARE = 0.03
"""Share of the pretraining families that are held out to measure the held-out loss."""
HELDOUT_FEWEST = 8
"""Smallest number of held-out images, where there are at least HELDOUT_WORTHWHILE images."""
HELDOUT_WORTHWHILE = 100
"""Number of images below which HELDOUT_FEWEST does not apply."""


def by_family(items: Iterable[str], family: Callable[[str], str]) -> dict[str, list[str]]:
    """The items of each family."""
    families: dict[str, list[str]] = defaultdict(list)
    for item in items:
        families[family(item)].append(item)
    return families


def test_families(class_of_family: Mapping[str, str], *, share: float) -> set[str]:
    """The families of test images: ``share`` of each class, rounded, but at least one and never all of it.

    A class with a single family has no test images.
    """
    chosen: set[str] = set()
    for families in by_family(class_of_family, class_of_family.__getitem__).values():
        count = min(max(round(share * len(families)), 1), len(families) - 1)
        chosen.update(_shuffled(families, "test")[:count])
    return chosen


def heldout_families(size_of_family: Mapping[str, int], *, share: float = HELDOUT_SHARE) -> set[str]:
    """The pretraining families that are held out: this share of them, or more to reach HELDOUT_FEWEST images."""
    images = sum(size_of_family.values())
    count_of_share = round(share * len(size_of_family))
    fewest = HELDOUT_FEWEST if images >= HELDOUT_WORTHWHILE else 0
    chosen: set[str] = set()
    count = 0
    for family in _shuffled(size_of_family, "heldout"):
        if len(chosen) >= count_of_share and count >= fewest:
            break
        if count + size_of_family[family] < images:  # one family must remain to train on
            chosen.add(family)
            count += size_of_family[family]
    return chosen


def own_splits(family: Mapping[str, str], label: Mapping[str, str]) -> dict[str, tuple[Split, ...]]:
    """Draw the splits of a user's images from the family and the class ("" for none) of each path.

    No member of a test family is trained on; any other labelled image serves both the transfer task and pretraining.
    """
    class_of_family: dict[str, str] = {}
    for path in sorted(family):
        if label[path]:
            class_of_family.setdefault(family[path], label[path])
    tested = test_families(class_of_family, share=TESTED_SHARE)
    sizes = {name: len(paths) for name, paths in by_family(family, family.__getitem__).items() if name not in tested}
    heldout = heldout_families(sizes)

    def splits(path: str) -> tuple[Split, ...]:
        if family[path] in tested:
            return ("test",) if label[path] else ()
        stage: Split = "heldout" if family[path] in heldout else "pretrain"
        return (stage, "train") if label[path] else (stage,)

    return {path: splits(path) for path in family}


TESTED_FOLDERS = ("test", "val", "valid", "validation")
"""Names of folders beside ``train`` that are splits; the first with classes provides the test images."""


SPLIT_NAMES = {"train": "train", "training": "train", "": ""} | dict.fromkeys((*TESTED_FOLDERS, "testing"), "test")
"""Words of a column of splits, in lower case, and their meaning; an image with "" is not in the transfer task."""


def split_of_name(name: str, file: Path) -> str:
    """The split that a word of a table means: ``train``, ``test`` or "".

    Raises:
        ValueError: naming the file, for a word that is not a split.
    """
    try:
        return SPLIT_NAMES[name.strip().lower()]
    except KeyError:
        known = ", ".join(word for word in SPLIT_NAMES if word)
        raise ValueError(f"{file} has the split {name!r}; write one of {known}, or leave it empty") from None


def split_folders(paths: Iterable[str]) -> dict[str, str]:
    """The first folder of each path where these are splits; empty where they are not.

    They are where every image lies in ``train`` or in one of TESTED_FOLDERS, and both occur; or where all lie in class
    folders in ``test``, which then only tests models of its classes.
    """
    first = {path: path.partition("/")[0] if "/" in path else "" for path in paths}
    names = set(first.values())
    if names == {"test"} and all(path.count("/") > 1 for path in first):
        return first
    return first if "train" in names and len(names) > 1 and names <= {"train", *TESTED_FOLDERS} else {}


def unread_halves(paths: Collection[str]) -> tuple[str, str] | None:
    """The first folders that are named as training and test images where ``split_folders`` finds no splits.

    They are spelled otherwise, or other images lie beside them. None where there are no such folders.
    """
    if split_folders(paths):
        return None
    folders = sorted({path.partition("/")[0] for path in paths if "/" in path})
    train, test = ([name for name in folders if SPLIT_NAMES.get(name.lower()) == half] for half in ("train", "test"))
    return (train[0], test[0]) if train and test else None


def given_splits(
    folder: Mapping[str, str], family: Mapping[str, str], label: Mapping[str, str]
) -> dict[str, tuple[Split, ...]]:
    """The splits of images, from the given split (a folder's name or a table's word), family and class of each path.

    The first of TESTED_FOLDERS whose images have classes provides the test images; the others are in no split, nor are
    exact copies of test images, as in ``own_splits``. Images without a given split ("") serve pretraining.

    Raises:
        ValueError: if all training images are exact copies of test images.
    """
    with_class = {folder[path] for path in folder if label[path]}
    tested_name = next((name for name in TESTED_FOLDERS if name in with_class), "-")
    tested = {family[path] for path in folder if folder[path] == tested_name}
    trained = [path for path in folder if folder[path] in ("train", "") and family[path] not in tested]
    _require_own_training_images(folder, family, tested_name)
    sizes = {name: len(paths) for name, paths in by_family(trained, family.__getitem__).items()}
    heldout = heldout_families(sizes)

    def splits(path: str) -> tuple[Split, ...]:
        if folder[path] == tested_name:
            return ("test",) if label[path] else ()
        if folder[path] not in ("train", "") or family[path] in tested:
            return ()
        stage: Split = "heldout" if family[path] in heldout else "pretrain"
        return (stage, "train") if label[path] and folder[path] else (stage,)

    return {path: splits(path) for path in family}


def copies_left_out(folder: Mapping[str, str], splits: Mapping[str, tuple[Split, ...]]) -> list[str]:
    """The training images, by the given split, that ``given_splits`` puts in no split."""
    return [path for path, names in splits.items() if folder[path] == "train" and not names]


def copies_of_two_classes(
    family: Mapping[str, str], label: Mapping[str, str], splits: Mapping[str, tuple[Split, ...]]
) -> list[str]:
    """A sentence about images in a split whose exact copies have another class; none without any."""
    classes: dict[str, dict[str, str]] = defaultdict(dict)
    for path, name in family.items():
        if label[path] and splits[path]:
            classes[name].setdefault(label[path], path)
    unlike = [sorted(path_of.values()) for path_of in classes.values() if len(path_of) > 1]
    if not unlike:
        return []
    has = "has an exact copy" if len(unlike) == 1 else "have exact copies"
    first, second = unlike[0][:2]
    return [
        f"{counted(len(unlike), 'image')} {has} in another class, such as {first} and {second}, of which one class is "
        f"wrong: delete the image there"
    ]


def _require_own_training_images(folder: Mapping[str, str], family: Mapping[str, str], tested_name: str) -> None:
    """Raise ValueError where each training image is an exact copy of a test image."""
    test_image = {family[path]: path for path in folder if folder[path] == tested_name}
    trained = [path for path in folder if folder[path] == "train"]
    if trained and all(family[path] in test_image for path in trained):
        raise ValueError(
            f"all {counted(len(trained), 'training image')} are exact copies of test images, such as {trained[0]} of "
            f"{test_image[family[trained[0]]]}, and such copies are not trained on: give other images for either"
        )


def _shuffled(families: Iterable[str], purpose: str) -> list[str]:
    return sorted(families, key=lambda family: (keyed_random.key("split", purpose, family), family))
