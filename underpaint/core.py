"""The types that every part of the package shares: what a batch is, what a step returns, what an objective is.

Shape letters used throughout the package: ``b`` batch, ``c`` channels, ``h`` height, ``w`` width, ``n`` patches,
``m`` kept (visible) patches, ``d`` width of the network, ``p`` pixel values of one patch, ``k`` classes,
``l`` padded labels per image.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol, TypedDict, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

PAD_LABEL = -1
"""Fills the label rows of images that have fewer labels than the longest row of their batch."""


class ImageBatch(TypedDict):
    """Images alone, as MAE sees them."""

    image: Float[Tensor, "b c h w"]
    """Float32, normalised by the encoder's mean and standard deviation."""
    position: Int64[Tensor, " b"]
    """Global position of the sample in the endless stream: the only input of every random draw about it."""
    weight: Float[Tensor, " b"]
    """1, or 0 for a placeholder that stands where a bad record was."""


class LabelBatch(ImageBatch):
    """Images with the ids of their labels, as WSP, finetuning and linear probing see them."""

    labels: Int64[Tensor, "b l"]
    """Distinct class ids, padded with PAD_LABEL; never a dense target."""


Batch = Mapping[str, Any]
"""Any of the typed batches above; an objective names the one it needs in its own signature."""


class Step(NamedTuple):
    """What one forward pass of an objective returns."""

    loss: Float[Tensor, ""]
    scalars: dict[str, Float[Tensor, ""]]
    """Detached values worth a line in the log."""


@runtime_checkable
class Objective(Protocol):
    """A network together with its loss: an ``nn.Module`` whose ``forward(batch)`` returns a Step."""

    encoder: nn.Module

    def __call__(self, batch: Any) -> Step: ...


@runtime_checkable
class Classifier(Protocol):
    """An objective that scores classes."""

    def logits(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]: ...


@runtime_checkable
class Visualizable(Protocol):
    """An objective that can show what it does: rows of pictures, normalisation undone, values in [0, 1]."""

    def pictures(self, batch: Any) -> Float[Tensor, "rows b c h w"]: ...


@runtime_checkable
class Evaluator(Protocol):
    """Scores an objective; several of them stand in a run's ``evals``."""

    needs: ClassVar[type]
    """The protocol the objective must satisfy; checked before the first step."""

    def __call__(self, objective: nn.Module) -> dict[str, float]: ...


class Data(Protocol):
    """An endless stream of batches whose whole state is one integer, the position of the next sample."""

    position: int

    def __iter__(self) -> Iterator[Batch]: ...


def weighted_mean(per_image: Float[Tensor, " b"], weight: Float[Tensor, " b"]) -> Float[Tensor, ""]:
    """``sum(weight * per_image) / b``: the denominator is the size of the microbatch, whatever the weights are.

    So the mean over accumulated microbatches, or over ranks, equals the mean over the whole batch without any
    communication; a placeholder lowers the loss of its batch by 1/b instead of rescaling the others.
    """
    return (weight * per_image).sum() / per_image.shape[0]


def normalisation(
    mean: tuple[float, ...], std: tuple[float, ...], like: Float[Tensor, "*_ c h w"]
) -> tuple[Float[Tensor, "c 1 1"], Float[Tensor, "c 1 1"]]:
    """The mean and standard deviation as tensors that broadcast over images of the type and device of ``like``."""
    shape = (len(mean), 1, 1)
    return like.new_tensor(mean).view(shape), like.new_tensor(std).view(shape)


def unnormalise(
    image: Float[Tensor, "*_ c h w"], mean: tuple[float, ...], std: tuple[float, ...]
) -> Float[Tensor, "*_ c h w"]:
    """Undo the normalisation of a batch: back to values in [0, 1], clamped."""
    mean_, std_ = normalisation(mean, std, image)
    return torch.clamp(image * std_ + mean_, 0, 1)


@dataclass(frozen=True, kw_only=True)
class DataInfo:
    """What an objective may know of its run beyond its own config: the seed of its draws and the data's classes."""

    seed: int
    labels: tuple[str, ...] = ()
    label_count: tuple[int, ...] = ()  # images that carry each label
    images: int = 0  # images in the training rows
