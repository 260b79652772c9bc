"""The types that every part of the package shares: what a batch is, what a step returns, what an objective is.

Shape letters used throughout the package: ``b`` batch, ``c`` channels, ``h`` height, ``w`` width, ``n`` patches,
``m`` kept (visible) patches, ``d`` width of the network, ``p`` pixel values of one patch, ``k`` classes,
``l`` padded labels per image.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, NotRequired, Protocol, TypedDict, runtime_checkable

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

PAD_LABEL = -1
"""Fills the label rows of images that have fewer labels than the longest row of their batch."""

UNKNOWN_MASK = 255
"""Fills the mask of an object that has none in its annotation."""


class ImageBatch(TypedDict):
    """Images alone, as MAE sees them."""

    image: Float[Tensor, "b c h w"]
    """Float32, normalised by the encoder's mean and standard deviation."""
    position: Int64[Tensor, " b"]
    """Global position of the sample in the endless stream: the only input of every random draw about it."""
    weight: Float[Tensor, " b"]
    """1, or 0 for a placeholder that stands where a bad record was."""


class PairBatch(ImageBatch):
    """Images with a text of each, as LiT sees them."""

    text: Int64[Tensor, "b l"]
    """Token ids, padded."""


class FeaturePairBatch(TypedDict):
    """The same with the features of the images."""

    feature: Float[Tensor, "b d"]
    text: Int64[Tensor, "b l"]
    position: Int64[Tensor, " b"]
    weight: Float[Tensor, " b"]


class LabelBatch(ImageBatch):
    """Images with the ids of their labels, as WSP, finetuning and linear probing see them."""

    labels: Int64[Tensor, "b l"]
    """Distinct class ids, padded with PAD_LABEL; never a dense target. The second half of a mixed image's row
    has the labels of its partner."""
    share: NotRequired[Float[Tensor, " b"]]
    """Share of a mixed image's own labels in the target; the rest belongs to the partner's."""


class ClipBatch(TypedDict):
    """Clips of videos with the ids of their labels; the other entries are those of LabelBatch."""

    clip: Float[Tensor, "b c t h w"]
    """Float32, frames normalised by the encoder's mean and standard deviation."""
    labels: Int64[Tensor, "b l"]
    position: Int64[Tensor, " b"]
    weight: Float[Tensor, " b"]
    share: NotRequired[Float[Tensor, " b"]]


class ObjectBatch(ImageBatch):
    """Images with annotated objects, as detection sees them."""

    extent: Float[Tensor, "b 2"]
    """Height and width of the part of the input that shows the image, in pixels; the rest is empty."""
    boxes: Float[Tensor, "b objects 4"]
    """Left, top, right and bottom in pixels of the input; rows of zeros where an image has fewer objects."""
    classes: Int64[Tensor, "b objects"]
    """Class ids, padded with PAD_LABEL."""
    masks: NotRequired[UInt8[Tensor, "b objects side side"]]
    """Mask of each object over its box, 0 or 1, or UNKNOWN_MASK."""


Batch = Mapping[str, Any]
"""Any of the typed batches above; an objective names the one it needs in its own signature."""


View = Literal["stretch", "crop"]
"""View of an image at a given size without random draws: the whole image, resized straight to it, or its centre."""
EvaluationView = Literal["stretch", "crop", "crop_oblong"]
"""``crop_oblong`` is ``crop`` for images of another shape than that size, which alone lose something by ``stretch``."""
Interpolation = Literal["bicubic", "bilinear"]


@runtime_checkable
class Input(Protocol):
    """One tensor of every sample, besides position and weight; an objective's config names those it needs.

    A frozen dataclass of plain values. Data recognise an input by its class, so a user's input (tokens, boxes, clips)
    is a new class, which the user's data understand (docs/extend.md).
    """

    def example(self, size: int, device: torch.device | str) -> Tensor:
        """A batch of ``size`` such tensors, as cheap as can be: for measuring, and for dry runs."""
        ...


@dataclass(frozen=True, kw_only=True)
class ImageInput:
    """Conversion of stored pixels to a network's input; the encoder's config has fields of the same names."""

    size: tuple[int, int]
    """Height and width in pixels."""
    channels: int
    value_range: tuple[float, float]
    """The stored values that stand for 0 and 1: (0, 255) for 8-bit images, (0, 65535) or less for 16-bit ones."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    """Standard deviation of the values in [0, 1], one per channel."""
    view: EvaluationView = "stretch"
    crop_share: float = 1.0
    interpolation: Interpolation = "bicubic"
    """Interpolation of the evaluation view; the random crops of training are bicubic."""
    eight_bit: bool = False
    """Whether the evaluation view of an 8-bit image is resized by Pillow and rounded to 8 bits, as published ones
    do; else by torch in float32, which differs by its rounding alone."""

    def __post_init__(self) -> None:
        if not len(self.mean) == len(self.std) == self.channels:
            raise ValueError(
                f"mean={self.mean} and std={self.std} need one number for each of {self.channels} channels"
            )
        if self.value_range[0] >= self.value_range[1]:
            raise ValueError(f"value_range={self.value_range} must be (low, high) with low < high, as in (0, 255)")

    def example(self, size: int, device: torch.device | str) -> Float[Tensor, "b c h w"]:
        return torch.randn(size, self.channels, *self.size, device=device)


@dataclass(frozen=True, kw_only=True)
class LabelInput:
    """Label ids of the data's vocabulary, padded with PAD_LABEL."""

    def example(self, size: int, device: torch.device | str) -> Int64[Tensor, "b 1"]:
        return torch.zeros(size, 1, dtype=torch.int64, device=device)


@dataclass(frozen=True, kw_only=True)
class ClipInput:
    """Frames of a video: which, and in what form."""

    image: ImageInput
    """Form of each frame."""
    frames: int
    sampling: Literal["dense", "uniform"]
    """Frames at a fixed distance, or one of each of as many equal parts of the video."""
    stride: int
    """Distance of the frames under dense sampling, in frames of the video."""

    def example(self, size: int, device: torch.device | str) -> Float[Tensor, "b c t h w"]:
        return torch.randn(size, self.image.channels, self.frames, *self.image.size, device=device)


@dataclass(frozen=True, kw_only=True)
class FeatureInput:
    """Feature of each image by a locked encoder, made once from its evaluation view and kept."""

    width: int
    image: ImageInput

    def example(self, size: int, device: torch.device | str) -> Float[Tensor, "b d"]:
        return torch.randn(size, self.width, device=device)


@dataclass(frozen=True, kw_only=True)
class TextInput:
    """Token ids of one text about each image: start, pieces, end, and padding up to ``tokens``."""

    tokens: int
    vocabulary: int
    """Number of ids of the tokenizer; the data refuse one with another number."""
    tokenizer: str = ""
    """Folder of a text tower whose tokenizer makes the ids; "" is one trained on the data's texts."""

    def example(self, size: int, device: torch.device | str) -> Int64[Tensor, "b l"]:
        return torch.zeros(size, self.tokens, dtype=torch.int64, device=device)


@dataclass(frozen=True, kw_only=True)
class ExtentInput:
    """Height and width of the part of the network's input that shows the image."""

    size: tuple[int, int]

    def example(self, size: int, device: torch.device | str) -> Float[Tensor, "b 2"]:
        return torch.tensor(self.size, dtype=torch.float32, device=device).repeat(size, 1)


@dataclass(frozen=True, kw_only=True)
class BoxInput:
    """Boxes of the objects of an image, the largest ``most`` of them."""

    most: int

    def example(self, size: int, device: torch.device | str) -> Float[Tensor, "b objects 4"]:
        return torch.tensor([0.0, 0.0, 8.0, 8.0], device=device).repeat(size, self.most, 1)


@dataclass(frozen=True, kw_only=True)
class BoxClassInput:
    """Classes of these objects, padded with PAD_LABEL."""

    most: int

    def example(self, size: int, device: torch.device | str) -> Int64[Tensor, "b objects"]:
        classes = torch.full((size, self.most), PAD_LABEL, device=device)
        classes[:, 0] = 0
        return classes


@dataclass(frozen=True, kw_only=True)
class MaskInput:
    """Masks of these objects, each ``side`` x ``side`` cells over its box."""

    most: int
    side: int

    def example(self, size: int, device: torch.device | str) -> UInt8[Tensor, "b objects side side"]:
        return torch.ones(size, self.most, self.side, self.side, dtype=torch.uint8, device=device)


Inputs = Mapping[str, Input]
"""Batch key to what stands there."""


def example_batch(inputs: Inputs, size: int, *, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """A batch of ``size`` samples with these inputs, for measuring and dry runs; its values mean nothing."""
    return {
        **{key: each.example(size, device) for key, each in inputs.items()},
        "position": torch.arange(size, device=device),
        "weight": torch.ones(size, device=device),
    }


class Step(NamedTuple):
    """Result of one forward pass of an objective."""

    loss: Float[Tensor, ""]
    scalars: dict[str, Float[Tensor, ""]]
    """Detached values worth a line in the log."""


@runtime_checkable
class Objective(Protocol):
    """A network together with its loss: an ``nn.Module`` whose ``forward(batch)`` returns a Step.

    It has an ``encoder``, which a finished run hands over and ``init_from`` fills. The protocol leaves it
    out: a check at run time does not see submodules from Python 3.12 on.
    """

    def __call__(self, batch: Any) -> Step: ...

    def blocks(self) -> list[nn.Module]:
        """The transformer blocks, in order: what is sharded, compiled, checkpointed and recomputed one by one."""
        ...

    def layer_of(self, name: str) -> int:
        """Number of layers above the parameter of this name, 0 for heads; for layer-wise learning rates."""
        ...


def as_objective(network: nn.Module) -> Objective:
    """The same network, as an objective.

    Raises:
        ValueError: naming what it lacks.
    """
    missing = [name for name in ("encoder", "blocks", "layer_of") if getattr(network, name, None) is None]
    if missing or not isinstance(network, Objective):
        raise ValueError(
            f"{type(network).__name__} is not an objective: it has no {', '.join(missing)} (docs/extend.md)"
        )
    return network


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


def on_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with its tensors moved, and anything else in it as it is.

    A copy from pinned memory to a GPU goes on while the host works; the GPU's own work waits for it.
    """
    return {
        name: value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
        for name, value in batch.items()
    }


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
    """Facts of a run that its objective may use beyond its own config: the seed of its draws and the data's classes."""

    seed: int
    labels: tuple[str, ...] = ()
    label_count: tuple[int, ...] = ()  # images that carry each label
    images: int = 0  # images in the training rows
