"""Frozen features of a transfer task: computed once per encoder, shared by every evaluation that reads them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from underpaint.core import ImageInput
from underpaint.data.folders.advice import layout_advice
from underpaint.data.source import Source
from underpaint.evals.class_splits import hold_out, labelled_images
from underpaint.evals.engine import Engine
from underpaint.evals.unreadable import unreadable_images
from underpaint.evals.view import ViewSetting, evaluation_input, view_name
from underpaint.messages import counted
from underpaint.models.pooling import Pooling
from underpaint.models.vit import ViT, ViTConfig
from underpaint.models.weights import at_size

_SHOWN = 3
UNKNOWN_CLASS = -1
"""No evaluation predicts it, so such a test image counts as wrong."""


@runtime_checkable
class Encoder(Protocol):
    """A module that turns images into tokens, cls first, and says which images it takes; satisfied by ``ViT``."""

    config: ViTConfig

    def __call__(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b tokens d"]: ...

    def modules(self) -> Iterator[nn.Module]: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Features:
    """Features of the images that could be read, and which those are."""

    x: Float[Tensor, "b d"]
    """Float32 on the CPU."""
    kept: Bool[Tensor, " images"]
    """One entry per image asked for; False where the record was bad."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledFeatures:
    """One half of a transfer task."""

    x: Float[Tensor, "b d"]
    y: Int64[Tensor, " b"]
    """Index into the task's ``classes``; UNKNOWN_CLASS for a test image whose class no training image has."""
    image: tuple[str, ...]
    """Path of each image: its name in every keyed draw, so that the order of the rows decides nothing."""
    family: tuple[str, ...]

    def __post_init__(self) -> None:
        assert len(self.x) == len(self.y) == len(self.image) == len(self.family)


@dataclass(frozen=True, kw_only=True, eq=False)
class TaskFeatures:
    """Everything an evaluation of frozen features may look at. Only ``train`` takes part in any fit."""

    dataset: str
    classes: tuple[str, ...]
    train: LabelledFeatures
    test: LabelledFeatures
    view: str = ""
    """View of each image that the encoder was shown, in full (``view_name``)."""
    remarks: tuple[str, ...] = ()
    unread: frozenset[str] = frozenset()
    """Paths of the training images that could not be read."""

    def __post_init__(self) -> None:
        assert not set(self.train.family) & set(self.test.family), f"{self.dataset}: a family is in train and in test"

    def train_classes(self) -> list[str]:
        """The name of the class of each training image."""
        return [self.classes[label] for label in self.train.y.tolist()]


def extract(
    encoder: Encoder,
    source: Source,
    rows: Sequence[int],
    *,
    format: ImageInput,
    pooling: Pooling,
    batch_size: int,
    engine: Engine,
) -> Features:
    """Features of the rows whose image can be read.

    Raises:
        ValueError: if no image could be read, or the encoder gives values that are not finite.
    """
    features = engine.features(encoder, source, rows, format=format, pooling=pooling, batch_size=batch_size)
    if not features.kept.any():
        raise ValueError("none of the images to evaluate on could be read; check the files of the dataset")
    x = features.x if features.kept.all() else features.x[features.kept]
    return Features(x=x, kept=features.kept)


def transfer_classes(source: Source) -> tuple[str, ...]:
    """Names of the classes of the transfer task, sorted: those of its training images.

    Raises:
        ValueError: if the source has no transfer task.
    """
    classes = tuple(sorted({source.label[row] for row in source.rows("train")} - {""}))
    if len(classes) < 2:
        number = counted(len(classes), "class", "classes")
        raise ValueError(
            f"'{source.name}' has {number} among its training images, and a transfer task needs two or more: "
            f"{_advice(source)}"
        )
    return classes


def extract_task(
    encoder: Encoder, source: Source, *, pooling: Pooling, view: ViewSetting, batch_size: int, engine: Engine
) -> TaskFeatures:
    """Features of both halves of a source's transfer task.

    Raises:
        ValueError: if the source has no transfer task, or no readable image in one of its halves.
    """
    classes = transfer_classes(source)
    number = {name: index for index, name in enumerate(classes)}
    halves, remarks = {}, unseen_classes(source)
    format = evaluation_input(encoder.config.image_input, view, patch=encoder.config.patch)
    if format.size != encoder.config.size:
        encoder = _resized(encoder, format.size)
    for split in ("train", "test"):
        rows = labelled_rows(source, split)
        features = extract(encoder, source, rows, format=format, pooling=pooling, batch_size=batch_size, engine=engine)
        unread = [source.path[row] for row, kept in zip(rows, features.kept.tolist(), strict=True) if not kept]
        remarks += unreadable_images(unread, total=len(rows), what=split, wrong=split == "test")
        halves[split] = _half(source, rows, features, number, tested=split == "test")
    remarks += _unreadable_classes(source, classes, halves["train"])
    return TaskFeatures(
        dataset=source.name,
        classes=classes,
        train=halves["train"],
        test=halves["test"],
        view=view_name(format),
        remarks=tuple(remarks),
        unread=frozenset(source.path[row] for row in source.rows("train")).difference(halves["train"].image),
    )


def _half(
    source: Source, rows: list[int], features: Features, number: dict[str, int], *, tested: bool
) -> LabelledFeatures:
    """One half of the task: training images without those that could not be read, which count as wrong in a test."""
    readable = features.kept.tolist()
    x = features.x
    if tested:
        x = torch.zeros(len(rows), features.x.shape[1])
        x[features.kept] = features.x
    used = [place for place, kept in enumerate(readable) if kept or tested]
    labels = [
        number.get(source.label[rows[place]], UNKNOWN_CLASS) if readable[place] else UNKNOWN_CLASS for place in used
    ]
    return LabelledFeatures(
        x=x,
        y=torch.tensor(
            [label if readable[place] else UNKNOWN_CLASS for place, label in zip(used, labels, strict=True)]
        ),
        image=tuple(source.path[rows[place]] for place in used),
        family=tuple(source.family[rows[place]] for place in used),
    )


def _unreadable_classes(source: Source, classes: tuple[str, ...], train: LabelledFeatures) -> list[str]:
    """A remark about test images of a class whose training images could all not be read; none without any."""
    unread = set(classes) - {classes[label] for label in train.y.tolist()}
    labels = [source.label[row] for row in source.rows("test")]
    return lacking_classes(labels, set(labels) - unread, what="no readable training image has, and count as wrong")


def _resized(encoder: Encoder, size: tuple[int, int]) -> Encoder:
    if not isinstance(encoder, ViT):
        raise ValueError(
            f"the view has {size[0]} x {size[1]} pixels, and {type(encoder).__name__} takes one size alone"
        )
    return at_size(encoder, size)


def labelled_rows(source: Source, split: Literal["train", "test"]) -> list[int]:
    """Rows of one half of the transfer task.

    Raises:
        ValueError: if there are none, or an image has no class.
    """
    rows = source.rows(split)
    if not rows:
        raise ValueError(
            f"'{source.name}' has no images in its split '{split}'; a transfer task needs train and test: "
            f"{_advice(source)}"
        )
    for row in rows:
        if not source.label[row]:
            raise ValueError(f"{source.path[row]} of '{source.name}' is a {split} image without a class; label it")
    return rows


def require_tunable(source: Source, *, share: float) -> None:
    """Raise ValueError if a source has too few training images to hold a share of them out, whatever is drawn."""
    images = labelled_images(source, labelled_rows(source, "train"), transfer_classes(source), unknown=UNKNOWN_CLASS)
    hold_out(images, share=share, key=0)


def _advice(source: Source) -> str:
    """The likely reason why a source has no transfer task, and the fix."""
    left_out = sum(bool(label) and not splits for label, splits in zip(source.label, source.splits, strict=True))
    if left_out:
        return f"{counted(left_out, 'image')} with a class left out, as exact copies of test images are; give others"
    if not any(source.label) and (advice := layout_advice(source)):
        return advice
    return (
        "give a labels file (--labels FILE, with the columns path and class), or use folders train/CLASS and test/CLASS"
    )


def unseen_classes(source: Source, *, what: str = "no training image has, and count as wrong") -> list[str]:
    """A remark about test images of classes that are not trained on, if there are any; ``what`` as below."""
    trained = {source.label[row] for row in source.rows("train")}
    if not trained:  # a dataset to test on
        return []
    labels = [source.label[row] for row in source.rows("test")]
    return lacking_classes(labels, trained, what=what)


def lacking_classes(labels: Sequence[str], known: Collection[str], *, what: str) -> list[str]:
    """A remark about test images, given by their labels, whose class is not ``known``; none without any.

    ``what`` says who does not have it, and what follows.
    """
    unknown = set(labels) - set(known)
    count = Counter(name for name in labels if name in unknown)
    if not count:
        return []
    ordered = sorted(count, key=lambda name: (-count[name], name))
    shown = ", ".join(f"{name!r} ({counted(count[name], 'image')})" for name in ordered[:_SHOWN])
    named = f"such as {shown}" if len(count) > _SHOWN else shown
    return [
        f"{count.total()} of {len(labels)} test images have a class that {what}: {named}; "
        "correct the labels, or train on such images"
    ]
