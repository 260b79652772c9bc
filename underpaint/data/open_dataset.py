"""The interface of a run's opened data, and the part of it that all data of images share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from underpaint.core import Batch, ImageInput, Inputs, LabelBatch, LabelInput
from underpaint.data.image_options import ImageOptions
from underpaint.data.loader import ImageStream, TrainingViews
from underpaint.data.quarantine import Quarantine
from underpaint.data.sample_index import SampleIndex
from underpaint.data.stream import Batching, Stream
from underpaint.tags.vocabulary import Vocabulary
from underpaint.texts.tokenizer import TextTokenizer

HELDOUT_IMAGES = 1024
"""Largest number of images on which the held-out loss is measured: it is a curve, not a result."""


@runtime_checkable
class OpenDataset(Protocol):
    """The samples of one run, opened."""

    @property
    def name(self) -> str: ...

    @property
    def content_hash(self) -> str:
        """A hash that identifies the data."""
        ...

    @property
    def vocabulary(self) -> Vocabulary: ...

    @property
    def images(self) -> int:
        """Number of images that training draws from: all of the split, or those with a target."""
        ...

    @property
    def unlabelled(self) -> int:
        """Number of images of the split without a usable target, which this run does not train on."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about how the data were read, which are printed when a run starts."""
        ...

    def stream(self, inputs: Inputs, batching: Batching, *, seed: int, quarantine: Path) -> Stream:
        """The endless stream of training batches with these inputs; bad records are named in the file ``quarantine``.

        Raises:
            ValueError: naming an input that these data do not have.
        """
        ...

    def heldout(self, inputs: Inputs, *, batch_size: int) -> Iterator[Batch]:
        """Batches of the held-out samples with their targets, in a fixed order; none without a held-out split."""
        ...


@runtime_checkable
class MadeForInputs(Protocol):
    """Data that prepare themselves for the inputs of an objective before they are used, as texts need a tokenizer."""

    @property
    def tokenizer(self) -> TextTokenizer | None:
        """The tokenizer of the texts, which a model for texts is saved with."""
        ...

    @property
    def languages(self) -> Mapping[str, int]:
        """Number of training texts by language, "" for those whose language nobody says."""
        ...

    def for_inputs(self, inputs: Inputs) -> OpenDataset: ...


@dataclass(frozen=True, kw_only=True)
class ImageDataset(ABC):
    """The images and targets of one run, from a folder, a collection or a prepared set."""

    config: ImageOptions
    vocabulary: Vocabulary

    @property
    @abstractmethod
    def name(self) -> str: ...

    @property
    @abstractmethod
    def all_images(self) -> int:
        """Number of images of which ``data.max_bad`` is a share."""

    @property
    @abstractmethod
    def heldout_images(self) -> int:
        """Number of images in the batches of ``heldout``."""

    @abstractmethod
    def sample_index(self, *, batch_size: int, seed: int) -> SampleIndex:
        """The sample at each position of the stream."""

    @abstractmethod
    def heldout(self, inputs: Inputs, *, batch_size: int) -> Iterator[LabelBatch]:
        """Batches of the held-out images, as ``OpenDataset.heldout``."""

    def stream(self, inputs: Inputs, batching: Batching, *, seed: int, quarantine: Path) -> ImageStream:
        """The endless stream of training batches, as ``OpenDataset.stream``."""
        config = self.config
        return ImageStream(
            self.sample_index(batch_size=batching.batch_size, seed=seed),
            format=self.image_of(inputs),
            views=TrainingViews(
                scale=config.scale, count=config.views, decoding=config.decoding, augment=config.augment
            ),
            seed=seed,
            batching=replace(batching, workers=config.workers),
            quarantine=Quarantine(quarantine, images=self.all_images, max_bad=config.max_bad),
        )

    def image_of(self, inputs: Inputs) -> ImageInput:
        """The form of the images among the inputs.

        Raises:
            ValueError: naming an input that folders, collections and prepared sets do not have.
        """
        kinds = {"image": ImageInput, "labels": LabelInput}
        for key, each in inputs.items():
            if key not in kinds or not isinstance(each, kinds[key]):
                raise ValueError(
                    f"'{self.name}' has no input {key!r} of type {type(each).__name__}, only images and labels; for "
                    f"other inputs write a data class of your own (docs/extend.md)"
                )
        if "labels" in inputs and self.config.targets == "none":
            raise ValueError("the objective needs labels, and data.targets=none gives it none; set it to tags or class")
        image = inputs.get("image")
        if not isinstance(image, ImageInput):
            raise ValueError(f"the objective has no input of images, and '{self.name}' has only images and labels")
        return image
