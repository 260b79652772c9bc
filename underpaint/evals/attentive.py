"""Attentive probe of a frozen encoder: EP's few learned queries on the patch tokens, and a linear head.

Recipe of efficient-probing (main_linprobe.py): LARS, 90 epochs, BatchNorm before the head, batch 4096, base rate 0.1.
Tokens are computed once, from the evaluation view, where published runs crop at random in each epoch.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float16, Int64
from torch import Tensor

from underpaint import keyed_random
from underpaint.data.source import Source
from underpaint.data.view_batches import row_batches
from underpaint.evals.choosing import Accuracies, Choice, choose
from underpaint.evals.class_splits import LabelledImages, hold_out, labelled_images
from underpaint.evals.engine import Engine
from underpaint.evals.feature_training import Candidate, FeatureHeads, HeadRecipe, predict, require_rates
from underpaint.evals.features import (
    UNKNOWN_CLASS,
    Encoder,
    labelled_rows,
    transfer_classes,
    unseen_classes,
)
from underpaint.evals.fitting import HeadOn
from underpaint.evals.mode import evaluation_mode
from underpaint.evals.score import Score
from underpaint.evals.unreadable import unreadable_images
from underpaint.evals.view import ViewSetting, evaluation_input, require_view, view_name
from underpaint.models.attentive_pooling import AttentivePooling
from underpaint.models.vit import ViT
from underpaint.models.weights import at_size
from underpaint.training.optim import OptimConfig

RECIPE = HeadRecipe(
    optim=OptimConfig(name="lars", weight_decay=0.0), epochs=90, warmup=10, batch_size=4096, batch_norm=True
)
LARGEST_TOKEN = 65_504.0
"""Largest number of float16, in which tokens are kept."""


class Tokens(NamedTuple):
    """Patch tokens of the images of one split, in a file."""

    x: Float16[Tensor, "n t d"]
    images: LabelledImages
    readable: Bool[Tensor, " n"]
    unread: list[str]

    @property
    def rows(self) -> Int64[Tensor, " r"]:
        """Images that could be read."""
        return self.readable.nonzero().flatten()


@dataclass(frozen=True, kw_only=True)
class Attentive:
    """Attentive probe (EP) of an encoder's patch tokens: top-1 on the test images of a dataset.

    The rate that classifies held-out training images best wins (ties: the first), and the probe is trained again on
    all of them. Tokens of all images lie in a temporary file: 2 bytes * images * patches * width.
    """

    needs: ClassVar[type] = Encoder

    dataset: str  # collection, folder, prepared set, or a published one as NAME:FOLDER
    view: ViewSetting = "published"  # of each image: a setting, preset or view in full (evals/view.py)
    batch_size: int = 64  # images per forward pass of the encoder
    queries: int = 32  # learned; they divide the encoder's width
    # Per 256 images, several to choose from. The published one is 0.1, for the 28,000 steps of ImageNet-1k.
    base_lr: tuple[float, ...] = (0.1, 1.0, 10.0)
    epochs: int = 90
    tuning_share: float = 0.2  # of the training images, where there is something to choose
    scratch: str = ""  # folder for the file of tokens; "" is the system's for temporary files

    def __post_init__(self) -> None:
        require_view(self.view)
        require_rates(self.base_lr, ())
        for name in ("batch_size", "queries", "epochs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be 1 or more")
        if not self.base_lr:
            raise ValueError("base_lr is empty; give one rate or several, such as base_lr=0.1,1")
        if not 0 < self.tuning_share < 1:
            raise ValueError(f"tuning_share={self.tuning_share} must lie between 0 and 1")

    def check(self, source: Source) -> list[str]:
        """Nothing to remark; raises ValueError for a source without a transfer task."""
        transfer_classes(source)
        return []

    def __call__(self, encoder: Encoder, *, source: Source, device: torch.device, seed: int) -> list[Score]:
        """The encoder stands on ``device`` already.

        Raises:
            ValueError: if the source has no transfer task, no readable image in one of its halves, the queries do not
                divide the width, the disk has no room for the tokens, or every rate diverges.
        """
        return self.measure(encoder, source=source, engine=Engine(device=device), seed=seed)

    def measure(self, encoder: Encoder, *, source: Source, engine: Engine, seed: int) -> list[Score]:
        """The same by an engine."""
        device = engine.device
        classes, seed = transfer_classes(source), keyed_random.key(seed, "attentive")
        AttentivePooling(encoder.config.width, queries=self.queries, seed=seed)
        format = evaluation_input(encoder.config.image_input, self.view, patch=encoder.config.patch)
        if isinstance(encoder, ViT) and format.size != encoder.config.size:
            encoder = at_size(encoder, format.size)
        with self.folder(encoder, source) as folder:
            train = self.tokens(encoder, source, folder / "train", "train", engine)
            test = self.tokens(encoder, source, folder / "test", "test", engine)
            heads = FeatureHeads(train.x, train.images.y, classes=len(classes), device=device)
            candidates, chosen, settings = [Candidate(rate, 0.0) for rate in self.base_lr], 0, dict[str, float]()
            if len(candidates) > 1:
                choice = self.choose(heads, train, test, seed=seed)
                chosen, settings = choice.place, choice.settings()
            model = self.trained(heads, train.rows, candidates[chosen], seed=seed)
            predicted = predict(model, test.x, torch.arange(len(test.x)), device)
        remarks = [*unseen_classes(source), *unreadable_images(train.unread, total=len(train.x), what="train")]
        remarks += unreadable_images(test.unread, total=len(test.x), what="test", wrong=True)
        return [
            Score(
                dataset=source.name,
                protocol="attentive",
                view=view_name(format),
                correct=tuple((predicted == test.images.y).double().tolist()),
                image=test.images.image,
                family=test.images.family,
                settings={"base_lr": candidates[chosen].base_lr, "queries": float(self.queries), **settings},
                remarks=tuple(remarks),
            )
        ]

    def choose(self, heads: FeatureHeads, train: Tokens, test: Tokens, *, seed: int) -> Choice:
        """The best rate on held-out training images."""
        key = keyed_random.key(seed, "hold out")
        rows = train.rows
        fitting, tuning = hold_out(train.images.chosen(rows.tolist()), share=self.tuning_share, key=key)

        def judge(rate: float) -> Accuracies:
            model = self.trained(heads, rows[fitting], Candidate(rate, 0.0), seed=seed)
            held = predict(model, train.x, rows[tuning], heads.device) == train.images.y[rows[tuning]]
            tested = predict(model, test.x, torch.arange(len(test.x)), heads.device) == test.images.y
            return Accuracies(float(held.double().mean()), float(tested.double().mean()))

        return choose(self.base_lr, judge, what="base_lr")

    def trained(self, heads: FeatureHeads, rows: Int64[Tensor, " r"], candidate: Candidate, *, seed: int) -> HeadOn:
        recipe = RECIPE.lasting(self.epochs)
        body = AttentivePooling(heads.x.shape[-1], queries=self.queries, seed=seed)
        return heads.train(rows, recipe, candidate, body=body, seed=seed)

    def tokens(
        self, encoder: Encoder, source: Source, file: Path, split: Literal["train", "test"], engine: Engine
    ) -> Tokens:
        """Patch tokens of a split, written to a file; a test image that cannot be read has zeros and no class."""
        rows, config = labelled_rows(source, split), encoder.config
        images = labelled_images(source, rows, transfer_classes(source), unknown=UNKNOWN_CLASS)
        format = evaluation_input(config.image_input, self.view, patch=config.patch)
        shape = (len(rows), config.num_patches, config.width)
        x = torch.from_numpy(np.memmap(file, dtype=np.float16, mode="w+", shape=shape))
        good: list[bool] = []
        batches = row_batches(source, rows, format=format, batch_size=self.batch_size, workers=engine.staff.workers)
        with evaluation_mode(encoder, engine.device):
            for image, kept in batches:
                tokens = encoder(image.to(engine.device))[:, 1:].float().cpu() * kept[:, None, None]
                if not bool((tokens.abs() <= LARGEST_TOKEN).all()):
                    raise ValueError("the encoder gives tokens that are not finite, or too large for float16")
                x[len(good) : len(good) + len(tokens)] = tokens.half()
                good += kept.tolist()
        if not any(good):
            raise ValueError(
                f"none of the {len(rows)} {split} images of '{source.name}' could be read; check its files"
            )
        readable = torch.tensor(good)
        unread = [path for path, kept in zip(images.image, good, strict=True) if not kept]
        return Tokens(x, images._replace(y=images.y.masked_fill(~readable, UNKNOWN_CLASS)), readable, unread)

    @contextmanager
    def folder(self, encoder: Encoder, source: Source) -> Iterator[Path]:
        """A temporary folder with room for the tokens.

        Raises:
            ValueError: if the disk has no room for them.
        """
        images = sum(len(labelled_rows(source, split)) for split in ("train", "test"))
        needed = 2 * images * encoder.config.num_patches * encoder.config.width
        with tempfile.TemporaryDirectory(prefix="underpaint-tokens-", dir=self.scratch or None) as folder:
            free = shutil.disk_usage(folder).free
            if needed > free:
                raise ValueError(
                    f"the patch tokens of {images:,} images need {needed / 2**30:,.1f} GiB of disk, and {folder} has "
                    f"{free / 2**30:,.1f}: give a folder with more (scratch=DIR), or a smaller view"
                )
            yield Path(folder)
