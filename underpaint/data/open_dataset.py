"""What a run draws its batches from, whatever kind of data it is, and the stream over images that all kinds share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from underpaint.core import Batch, ImageInput, Inputs, LabelBatch, LabelInput
from underpaint.data.image_options import ImageOptions
from underpaint.data.loader import ImageStream
from underpaint.data.quarantine import Quarantine
from underpaint.data.sample_index import SampleIndex
from underpaint.data.stream import Batching, Stream
from underpaint.tags.vocabulary import Vocabulary

HELDOUT_IMAGES = 1024
"""The held-out loss is measured on at most so many images: it is a curve, not a result."""


@runtime_checkable
class OpenDataset(Protocol):
    """The samples of one run, opened."""

    @property
    def name(self) -> str: ...

    @property
    def content_hash(self) -> str:
        """The identity of the data."""
        ...

    @property
    def vocabulary(self) -> Vocabulary: ...

    @property
    def images(self) -> int:
        """That training draws from: all of the split, or those with a target."""
        ...

    @property
    def unlabelled(self) -> int:
        """Images of the split that have no usable target: no defect, but they teach this run nothing."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about how the data were read, which are said when a run starts."""
        ...

    def stream(self, inputs: Inputs, batching: Batching, *, seed: int, quarantine: Path) -> Stream:
        """The endless stream of training batches with these inputs; bad records are named in the file ``quarantine``.

        Raises:
            ValueError: naming an input that these data do not have.
        """
        ...

    def heldout(self, inputs: Inputs, *, batch_size: int) -> Iterator[Batch]:
        """Batches of the held-out samples with their targets, in a fixed order; none where there is no such split."""
        ...


@dataclass(frozen=True, kw_only=True)
class ImageOptionsset(ABC):
    """The images of one run with their targets: a folder's or a collection's, or a prepared set's."""

    config: ImageOptions
    vocabulary: Vocabulary

    @property
    @abstractmethod
    def name(self) -> str: ...

    @property
    @abstractmethod
    def all_images(self) -> int:
        """Of which ``data.max_bad`` is a share."""

    @abstractmethod
    def sample_index(self, *, batch_size: int, seed: int) -> SampleIndex:
        """What stands at each position of the stream."""

    @abstractmethod
    def heldout(self, inputs: Inputs, *, batch_size: int) -> Iterator[LabelBatch]:
        """See OpenDataset."""

    def stream(self, inputs: Inputs, batching: Batching, *, seed: int, quarantine: Path) -> ImageStream:
        """See OpenDataset."""
        config = self.config
        return ImageStream(
            self.sample_index(batch_size=batching.batch_size, seed=seed),
            format=self.image_of(inputs),
            scale=config.scale,
            seed=seed,
            batching=replace(batching, workers=config.workers),
            quarantine=Quarantine(quarantine, images=self.all_images, max_bad=config.max_bad),
            views=config.views,
            decoding=config.decoding,
        )

    def image_of(self, inputs: Inputs) -> ImageInput:
        """The form of the images that is asked for.

        Raises:
            ValueError: naming an input that folders, collections and prepared sets do not have.
        """
        kinds = {"image": ImageInput, "labels": LabelInput}
        for key, each in inputs.items():
            if key not in kinds or not isinstance(each, kinds[key]):
                raise ValueError(
                    f"'{self.name}' has no input {key!r} of the kind {type(each).__name__}: it has images, and labels; "
                    f"data of one's own bring others (docs/extend.md)"
                )
        if "labels" in inputs and self.config.targets == "none":
            raise ValueError("the objective needs labels, and data.targets=none gives it none; set it to tags or class")
        image = inputs.get("image")
        if not isinstance(image, ImageInput):
            raise ValueError(f"the objective asks for no image, and '{self.name}' has nothing else to begin with")
        return image
