"""Who trains and who is tested: by family, never by image, and by a keyed hash, so that no machine or order matters."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from underpaint import keyed_random
from underpaint.data.source import Split

TESTED_SHARE = 0.3
"""Share of the families of each class that are tested on, where nothing says which."""
HELDOUT_SHARE = 0.03
"""Share of the pretraining families whose images measure the held-out loss."""
HELDOUT_FEWEST = 8
"""Held-out images at least, where there are HELDOUT_WORTHWHILE to choose from."""
HELDOUT_WORTHWHILE = 100


def by_family(items: Iterable[str], family: Callable[[str], str]) -> dict[str, list[str]]:
    """The items of each family."""
    families: dict[str, list[str]] = defaultdict(list)
    for item in items:
        families[family(item)].append(item)
    return families


def test_families(class_of_family: Mapping[str, str], *, share: float) -> set[str]:
    """The families that are tested on: ``share`` of each class, rounded, but at least one and never all of it.

    A class of a single family is trained on and not tested.
    """
    chosen: set[str] = set()
    for families in by_family(class_of_family, class_of_family.__getitem__).values():
        count = min(max(round(share * len(families)), 1), len(families) - 1)
        chosen.update(_shuffled(families, "test")[:count])
    return chosen


def heldout_families(size_of_family: Mapping[str, int]) -> set[str]:
    """The pretraining families that only the held-out loss sees."""
    images = sum(size_of_family.values())
    share = round(HELDOUT_SHARE * len(size_of_family))
    fewest = HELDOUT_FEWEST if images >= HELDOUT_WORTHWHILE else 0
    chosen: set[str] = set()
    count = 0
    for family in _shuffled(size_of_family, "heldout"):
        if len(chosen) >= share and count >= fewest:
            break
        if count + size_of_family[family] < images:  # one family must remain to train on
            chosen.add(family)
            count += size_of_family[family]
    return chosen


def own_splits(family: Mapping[str, str], label: Mapping[str, str]) -> dict[str, tuple[Split, ...]]:
    """The splits of one's own images, from the family and the class ("" where there is none) of each path.

    Nothing of a family that is tested on takes part in any training; what is labelled and not tested on serves the
    transfer task and pretraining both.
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
"""Names of folders beside ``train`` that are splits, the first that has classes is tested on."""


SPLIT_NAMES = {"train": "train", "training": "train", "": ""} | dict.fromkeys(TESTED_FOLDERS, "test")
"""What a column of splits may say, and what it means; an image without a word takes no part in the transfer task."""


def split_of_name(name: str, file: Path) -> str:
    """``train``, ``test`` or nothing.

    Raises:
        ValueError: naming the file, for a word that is no split.
    """
    try:
        return SPLIT_NAMES[name.strip().lower()]
    except KeyError:
        known = ", ".join(word for word in SPLIT_NAMES if word)
        raise ValueError(f"{file} has the split {name!r}; write one of {known}, or leave it empty") from None


def split_folders(paths: Iterable[str]) -> dict[str, str]:
    """The first folder of each path, where every image lies in ``train`` or in one of TESTED_FOLDERS and both
    occur; empty where the folders are no splits.
    """
    first = {path: path.partition("/")[0] if "/" in path else "" for path in paths}
    names = set(first.values())
    return first if "train" in names and len(names) > 1 and names <= {"train", *TESTED_FOLDERS} else {}


def given_splits(
    folder: Mapping[str, str], family: Mapping[str, str], label: Mapping[str, str]
) -> dict[str, tuple[Split, ...]]:
    """The splits of images whose split is known, as the name of a folder or a word of a table, from it, the family
    and the class of each path.

    ``test`` is tested on where its images have classes, else ``val``; the one that is not is kept out of everything.
    Images of ``train`` that are exact copies of a tested one are kept out as well, as ``own_splits`` does. Images that
    no split is known of ("") serve pretraining.
    """
    with_class = {folder[path] for path in folder if label[path]}
    tested_name = next((name for name in TESTED_FOLDERS if name in with_class), "-")
    tested = {family[path] for path in folder if folder[path] == tested_name}
    trained = [path for path in folder if folder[path] in ("train", "") and family[path] not in tested]
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


def _shuffled(families: Iterable[str], purpose: str) -> list[str]:
    return sorted(families, key=lambda family: (keyed_random.key("split", purpose, family), family))
