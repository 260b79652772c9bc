"""Who trains and who is tested: by family, never by image, and by a keyed hash, so that no machine or order matters."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

from underpaint import keyed_random
from underpaint.data.source import Split

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
    tested = test_families(class_of_family, share=0.3)
    sizes = {name: len(paths) for name, paths in by_family(family, family.__getitem__).items() if name not in tested}
    heldout = heldout_families(sizes)

    def splits(path: str) -> tuple[Split, ...]:
        if family[path] in tested:
            return ("test",) if label[path] else ()
        stage: Split = "heldout" if family[path] in heldout else "pretrain"
        return (stage, "train") if label[path] else (stage,)

    return {path: splits(path) for path in family}


def _shuffled(families: Iterable[str], purpose: str) -> list[str]:
    return sorted(families, key=lambda family: (keyed_random.key("split", purpose, family), family))
