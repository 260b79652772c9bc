"""Which training images tune a probe, and which few it may learn from: drawn by name, not by place in the list."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Int64
from torch import Tensor

from underpaint import keyed_random
from underpaint.data.source import Source


@runtime_checkable
class Labelled(Protocol):
    """Images by class, name and family, as ``LabelledFeatures`` has them."""

    @property
    def y(self) -> Int64[Tensor, " b"]: ...

    @property
    def image(self) -> tuple[str, ...]: ...

    @property
    def family(self) -> tuple[str, ...]: ...


class LabelledImages(NamedTuple):
    """Images that have no features yet."""

    y: Int64[Tensor, " b"]
    image: tuple[str, ...]
    family: tuple[str, ...]

    def chosen(self, rows: list[int]) -> LabelledImages:
        """Some of the images."""
        names = (tuple(column[row] for row in rows) for column in (self.image, self.family))
        return LabelledImages(self.y[rows], *names)


def labelled_images(source: Source, rows: list[int], classes: tuple[str, ...], *, unknown: int) -> LabelledImages:
    """Rows of a source; the class of an image is its place in ``classes``, or ``unknown``."""
    number = {name: index for index, name in enumerate(classes)}
    return LabelledImages(
        torch.tensor([number.get(source.label[row], unknown) for row in rows], dtype=torch.int64),
        tuple(source.path[row] for row in rows),
        tuple(source.family[row] for row in rows),
    )


def hold_out(half: Labelled, *, share: float, key: int) -> tuple[list[int], list[int]]:
    """Indices of (fitting, tuning) images: about ``share`` of each class for tuning, families whole.

    A family counts for the class that most of its images have. Every class keeps at least half of its images to fit on;
    what it cannot give, or gives beyond its share as families are whole, the next class makes up for.

    Raises:
        ValueError: if there are too few images to hold any out.
    """
    members = _members(half.family)
    by_class: dict[int, list[str]] = defaultdict(list)
    for family, rows in members.items():
        count = Counter(half.y[rows].tolist())
        by_class[min(count, key=lambda label: (-count[label], label))].append(family)
    tuning: set[int] = set()
    owed = 0.0
    for label in sorted(by_class):
        spare = sum(len(members[family]) for family in by_class[label]) / 2
        owed += share * 2 * spare
        for family in sorted(by_class[label], key=lambda family: keyed_random.key(key, family)):
            size = len(members[family])
            if size <= spare and size / 2 <= owed:
                tuning.update(members[family])
                owed, spare = owed - size, spare - size
    if not tuning:
        raise ValueError(
            f"a probe is tuned on a part of the training images, but {len(members)} unrelated images in "
            f"{len(by_class)} classes are too few to spare any: label two or more of each class, or use lowshot or knn"
        )
    return [row for row in range(len(half.y)) if row not in tuning], sorted(tuning)


def few_shot(half: Labelled, *, shots: int, key: int) -> list[int]:
    """Indices of at most ``shots`` images of each class, of as many different families as there are.

    The images for fewer shots are among those for more.
    """
    by_class: dict[int, list[int]] = defaultdict(list)
    for row, label in enumerate(half.y.tolist()):
        by_class[label].append(row)
    return sorted(row for rows in by_class.values() for row in _families_first(half, rows, key)[:shots])


def _families_first(half: Labelled, rows: list[int], key: int) -> list[int]:
    """Rows in a drawn order: one image of each family, then the second of each, and so on."""
    drawn = sorted(rows, key=lambda row: keyed_random.key(key, half.image[row]))
    seen: Counter[str] = Counter()
    order: list[tuple[int, int, int]] = []
    for row in drawn:
        family = half.family[row]
        order.append((seen[family], keyed_random.key(key, family), row))
        seen[family] += 1
    return [row for _, _, row in sorted(order)]


def _members(family: tuple[str, ...]) -> dict[str, list[int]]:
    members: dict[str, list[int]] = defaultdict(list)
    for row, name in enumerate(family):
        members[name].append(row)
    return members
