"""The part that all low-shot protocols share: K training images of each class, in splits, and a score of each split.

Five splits from five seeds, at most K images of a class that has fewer, mean top-1 (paper.md 2.4).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Float64
from torch import Tensor

from underpaint import keyed_random
from underpaint.config import LATER
from underpaint.data.source import Source
from underpaint.evals.class_names import table_hash
from underpaint.evals.class_splits import Labelled, few_shot
from underpaint.evals.features import Encoder, labelled_rows, transfer_classes
from underpaint.evals.score import Score
from underpaint.evals.split_lists import places_by_name, read_split_list, rows_named
from underpaint.evals.view import ViewSetting, require_view
from underpaint.messages import counted
from underpaint.models.pooling import Pooling


@dataclass(frozen=True, kw_only=True)
class FewShots:
    """K-shot top-1 of an encoder on the test images of a dataset, for each split and as their mean."""

    needs: ClassVar[type] = Encoder
    protocol: ClassVar[str] = "lowshot"

    dataset: str  # collection, folder, prepared set, or a published one as NAME:FOLDER
    pooling: Pooling = "cls"
    view: ViewSetting = "published"  # of each image: a setting, preset or view in full (evals/view.py)
    batch_size: int = 64  # images per forward pass
    shots: int = 5  # training images of each class
    splits: int = 5  # random splits that the score is averaged over
    # Files with the training images, one name a line and one file a split (MSN's); instead of drawing splits.
    lists: tuple[str, ...] = field(default=(), metadata=LATER)

    def __post_init__(self) -> None:
        require_view(self.view)
        for name in ("batch_size", "shots", "splits"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be 1 or more")
        if len(set(self.lists)) < len(self.lists):
            raise ValueError(f"lists={','.join(self.lists)} names a file twice; each list is a split of its own")
        if self.lists and self.splits not in (FewShots.splits, len(self.lists)):
            number = counted(len(self.lists), "list")
            raise ValueError(f"splits={self.splits} does nothing beside {number}, one for each split: leave it out")

    @property
    def idle(self) -> tuple[str, ...]:
        """Names of the fields that nothing reads, and that stand in no record."""
        return ("splits",) if self.lists else ()

    def check(self, source: Source) -> list[str]:
        """Remarks on the labels and lists, before any image is read.

        Raises:
            ValueError: if there is no transfer task, or a list does not fit it.
        """
        rows = labelled_rows(source, "train")
        classes = transfer_classes(source)
        labels = [source.label[row] for row in rows]
        paths = tuple(source.path[row] for row in rows)
        chosen = [rows_named(read_split_list(file), paths, file=file) for file in self.lists]
        of_list = [[labels[place] for place in places] for places in chosen]
        for file, few in zip(self.lists, of_list, strict=True):
            label, most = Counter(few).most_common(1)[0]
            if most != self.shots:
                raise ValueError(f"the list {file} has up to {most} images of a class ({label!r}): set shots={most}")
            if len(set(few)) < 2:
                raise ValueError(f"the list {file} has images of one class alone, {label!r}: add images of the others")
        return self.remarks(classes, labels, of_list, noun="image")

    def remarks(
        self,
        classes: Sequence[str],
        training: Iterable[str],
        splits: Sequence[Iterable[str]],
        *,
        noun: str = "readable image",
    ) -> list[str]:
        """Remarks on classes with too few images, from the class of each image of the training half and of each split.

        ``noun`` is the kind of image that is counted.
        """
        if not self.lists:
            return short_classes(Counter(training), classes, self.shots)
        return [
            f"the list {file} has no {noun} of {len(lacking)} of {len(classes)} classes, such as {lacking[0]!r}, "
            f"which a classifier cannot learn from it: add some"
            for file, few in zip(self.lists, splits, strict=True)
            if (lacking := sorted(set(classes) - set(few)))
        ]

    def drawn(self, half: Labelled, *, unread: Collection[str], seed: int) -> list[list[int]]:
        """The training images of each split, as places in ``half``, which has the images that could be read.

        ``unread`` are the paths of the others; none in a folder below, of the same name, stands in their place.

        Raises:
            ValueError: if no image of a list is among them.
        """
        if not self.lists:
            keys = [keyed_random.key(seed, "lowshot", split) for split in range(self.splits)]
            return [few_shot(half, shots=self.shots, key=key) for key in keys]
        place_of = {name: place for name, place in places_by_name(half.image).items() if name not in unread}
        named = [[place_of.get(name) for name in read_split_list(file)] for file in self.lists]
        for file, split in zip(self.lists, named, strict=True):
            if all(place is None for place in split):
                raise ValueError(f"none of the {len(split)} images of the list {file} could be read; check their files")
        return [sorted(place for place in split if place is not None) for split in named]

    def scores(
        self,
        dataset: str,
        test: Labelled,
        hits: Sequence[Float64[Tensor, " b"]],
        *,
        training: Sequence[tuple[str, ...]],
        settings: dict[str, float],
        remarks: Sequence[str],
    ) -> list[Score]:
        """A score for each split and one for their mean, whose settings have the deviation between splits."""
        whole = torch.stack(list(hits))
        named = [(str(split), part, dict[str, float](), training[split]) for split, part in enumerate(hits)]
        spread = {"deviation": float(whole.mean(dim=1).std())} if len(hits) > 1 else {}
        named.append(("mean", whole.mean(dim=0), spread, ()))
        versions = {"lists": table_hash(["\0".join(read_split_list(file)) for file in self.lists])}
        return [
            Score(
                dataset=dataset,
                protocol=self.protocol,
                shots=self.shots,
                split=split,
                correct=tuple(part.tolist()),
                image=test.image,
                family=test.family,
                settings={**settings, **more},
                remarks=tuple(remarks),
                versions=versions if self.lists else {},
                training=images,
            )
            for split, part, more, images in named
        ]


def require_choice(shots: int, settings: int, *, fix: str) -> None:
    """Raise ValueError where one image per class leaves none to choose one of several settings by."""
    if shots == 1 and settings > 1:
        raise ValueError(
            f"one image per class leaves none to choose one of {settings} settings by: give one rate and one decay, "
            f"such as those chosen at shots=5 ({fix})"
        )


def short_classes(count: Counter[str], classes: Sequence[str], shots: int) -> list[str]:
    """A remark about the classes that have fewer training images than shots, if there are any."""
    short = sorted((name for name in classes if count[name] < shots), key=lambda name: (count[name] > 0, name))
    if not short:
        return []
    none = sum(count[name] == 0 for name in short)
    few = f"{len(short)} of {len(classes)} classes have fewer than {shots} training images"
    few += f" ({none} of them none)" if none else ""
    return [f"{few}, such as {short[0]!r}: lower shots, or label more images of them"]
