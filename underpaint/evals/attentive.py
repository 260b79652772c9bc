"""Attentive probe of a frozen encoder: EP's few learned queries on the patch tokens, and a linear head.

Recipe of efficient-probing (main_linprobe.py): LARS, 90 epochs, BatchNorm before the head, batch 4096, base rate 0.1.
Tokens are computed once, from the evaluation view, where published runs crop at random in each epoch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import torch

from underpaint import keyed_random
from underpaint.data.source import Source
from underpaint.data.view_batches import row_batches
from underpaint.evals.class_splits import labelled_images
from underpaint.evals.engine import Engine
from underpaint.evals.feature_training import Candidate, HeadRecipe, require_rates
from underpaint.evals.features import (
    UNKNOWN_CLASS,
    Encoder,
    labelled_rows,
    require_tunable,
    transfer_classes,
    unseen_classes,
)
from underpaint.evals.mode import evaluation_mode
from underpaint.evals.score import Score
from underpaint.evals.token_probe import TokenProbe, Tokens, empty_tokens, require_half, token_folder
from underpaint.evals.unreadable import unreadable_images
from underpaint.evals.view import ViewSetting, evaluation_input, require_view, view_name
from underpaint.models.attentive_pooling import AttentivePooling
from underpaint.models.vit import ViT
from underpaint.models.weights import at_size
from underpaint.training.optim import OptimConfig

RECIPE = HeadRecipe(
    optim=OptimConfig(name="lars", weight_decay=0.0), epochs=90, warmup=10, batch_size=4096, batch_norm=True
)


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
        """Nothing to remark; raises ValueError without a transfer task, or without an image to choose a rate by."""
        transfer_classes(source)
        if len(self.base_lr) > 1:
            require_tunable(source, share=self.tuning_share)
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
        self.check(source)
        device = engine.device
        classes, seed = transfer_classes(source), keyed_random.key(seed, "attentive")
        AttentivePooling(encoder.config.width, queries=self.queries, seed=seed)
        format = evaluation_input(encoder.config.image_input, self.view, patch=encoder.config.patch)
        if isinstance(encoder, ViT) and format.size != encoder.config.size:
            encoder = at_size(encoder, format.size)
        probe = TokenProbe(
            recipe=RECIPE.lasting(self.epochs),
            candidates=tuple(Candidate(rate, 0.0) for rate in self.base_lr),
            body=lambda: AttentivePooling(encoder.config.width, queries=self.queries, seed=seed),
            tuning_share=self.tuning_share,
            what="base_lr",
        )
        images = sum(len(labelled_rows(source, split)) for split in ("train", "test"))
        tokens, what = images * encoder.config.num_patches, f"{images:,} images"
        with token_folder(tokens, encoder.config.width, of=what, less="a smaller view", scratch=self.scratch) as folder:
            train = self.tokens(encoder, source, folder / "train", "train", engine)
            test = self.tokens(encoder, source, folder / "test", "test", engine)
            answers = probe.answers(train, test, classes=len(classes), seed=seed, device=device)
        remarks = [*unseen_classes(source), *unreadable_images(train.unread, total=len(train.x), what="train")]
        remarks += unreadable_images(test.unread, total=len(test.x), what="test", wrong=True)
        return [
            Score(
                dataset=source.name,
                protocol="attentive",
                view=view_name(format),
                correct=tuple((answers.predicted == test.images.y).double().tolist()),
                image=test.images.image,
                family=test.images.family,
                settings={"base_lr": answers.chosen.base_lr, "queries": float(self.queries), **answers.settings},
                remarks=tuple(remarks),
            )
        ]

    def tokens(
        self, encoder: Encoder, source: Source, file: Path, split: Literal["train", "test"], engine: Engine
    ) -> Tokens:
        """Patch tokens of a split, written to a file; a test image that cannot be read has zeros and no class."""
        rows, config = labelled_rows(source, split), encoder.config
        images = labelled_images(source, rows, transfer_classes(source), unknown=UNKNOWN_CLASS)
        format = evaluation_input(config.image_input, self.view, patch=config.patch)
        shape = (len(rows), config.num_patches, config.width)
        x = empty_tokens(file, shape)
        good: list[bool] = []
        batches = row_batches(source, rows, format=format, batch_size=self.batch_size, workers=engine.staff.workers)
        with evaluation_mode(encoder, engine.device):
            for image, kept in batches:
                tokens = encoder(image.to(engine.device))[:, 1:].float().cpu() * kept[:, None, None]
                require_half(tokens)
                x[len(good) : len(good) + len(tokens)] = tokens.half()
                good += kept.tolist()
        return Tokens.of(x, images, good, what=f"{split} images of '{source.name}'")
