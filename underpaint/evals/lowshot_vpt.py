"""Low-shot classification by deep visual prompt tuning, the protocol of the MAWS rows of the paper's table (2.4).

The paper's settings are in an appendix that could not be obtained. The presets are published ones of others:
``mim_refiner`` tuned the released MAWS ViT-2B (ml-jku/MIM-Refiner, mae_twob14_vpt.yaml), ``kmnp`` is the grid of
VPT's authors (KMnP/vpt, tune_fgvc.py and base-prompt.yaml), which chooses rate and weight decay.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from underpaint import keyed_random
from underpaint.data.loader import ImageStream, TrainingViews
from underpaint.data.quarantine import Quarantine
from underpaint.data.sample_index import SourceSampleIndex
from underpaint.data.source import Source
from underpaint.data.stream import Batching
from underpaint.data.view_batches import row_batches
from underpaint.evals.choosing import Accuracies, choose
from underpaint.evals.class_splits import hold_out, labelled_images
from underpaint.evals.engine import Engine
from underpaint.evals.feature_training import Candidate, require_rates
from underpaint.evals.features import (
    UNKNOWN_CLASS,
    Encoder,
    labelled_rows,
    transfer_classes,
    unseen_classes,
)
from underpaint.evals.few_shots import FewShots, require_choice
from underpaint.evals.fitting import Fit, HeadOn, best_class, fit, frozen
from underpaint.evals.mode import evaluation_mode
from underpaint.evals.score import Score
from underpaint.evals.unreadable import unreadable_images
from underpaint.evals.view import evaluation_input, view_name
from underpaint.models.pooling import Pooling, pool
from underpaint.models.prompts import PromptedViT
from underpaint.models.vit import ViT
from underpaint.models.weights import at_size
from underpaint.training.loop import Precision
from underpaint.training.optim import OptimConfig

TUNING_SHARE = 0.2
"""Share of the first split's images by which one of several rates is chosen."""
IMAGES_OF_WORKER = 512
"""Fewest images to train on that a worker process is started for."""
UNREADABLE = -2
"""Prediction for a test image that could not be read: never right."""


class PromptRecipe(NamedTuple):
    """Published settings; several rates or decays are a grid to choose from."""

    prompts: int
    prompt_width: int
    optimizer: Literal["adamw", "sgd"]
    base_lr: tuple[float, ...]
    weight_decay: tuple[float, ...]
    epochs: int
    warmup: int
    label_smoothing: float


PRESETS = {
    "mim_refiner": PromptRecipe(8, 192, "adamw", (1e-3,), (0.0,), epochs=50, warmup=5, label_smoothing=0.1),
    "kmnp": PromptRecipe(
        5,
        0,
        "sgd",
        (50.0, 25.0, 10.0, 5.0, 2.5, 1.0, 0.5, 0.25, 0.1),
        (1e-2, 1e-3, 1e-4, 0.0),
        epochs=100,
        warmup=10,
        label_smoothing=0.0,
    ),
}
TRAINING_BATCH = 128
"""Training batch of both presets; smaller where there are fewer images."""


@dataclass(frozen=True, kw_only=True)
class LowShotVPT(FewShots):
    """K-shot top-1 of an encoder with trained prompts in each block and a linear head, the encoder itself frozen.

    Training images are cropped at random and mirrored; test images have the ``view``. Among several rates and
    decays those that classify a held-out fifth of the first split's images best are used for all splits (ties: the
    smaller rate). No test image takes part in a choice.
    """

    protocol: ClassVar[str] = "lowshot_vpt"

    preset: Literal["mim_refiner", "kmnp"] = "mim_refiner"  # mim_refiner or kmnp (docs/reference/evaluations.md)
    prompts: int = 0  # trained tokens in each block; 0: the preset's number
    prompt_width: int = -1  # width before projection; 0: the encoder's; -1: the preset's
    base_lr: tuple[float, ...] = ()  # rates per 256 images to choose from; empty: the preset's
    weight_decay: tuple[float, ...] = ()  # decays to choose from; empty: the preset's
    epochs: int = 0  # epochs of training; 0: the preset's
    precision: Precision = "fp32"  # precision of training

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("prompts", 0), ("prompt_width", -1), ("epochs", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)} must be {least} or more")
        require_rates(self.base_lr, self.weight_decay)
        require_choice(self.shots, len(self.candidates()), fix="base_lr=1 weight_decay=1e-4")

    @property
    def recipe(self) -> PromptRecipe:
        """The preset with the fields that are set in its place."""
        preset = PRESETS[self.preset]
        return preset._replace(
            prompts=self.prompts or preset.prompts,
            prompt_width=preset.prompt_width if self.prompt_width < 0 else self.prompt_width,
            base_lr=self.base_lr or preset.base_lr,
            weight_decay=self.weight_decay or preset.weight_decay,
            epochs=self.epochs or preset.epochs,
            warmup=preset.warmup * (self.epochs or preset.epochs) // preset.epochs,
        )

    def candidates(self) -> list[Candidate]:
        """The grid, smaller rates first."""
        recipe = self.recipe
        return [Candidate(*pair) for pair in product(sorted(recipe.base_lr), recipe.weight_decay)]

    def __call__(self, encoder: Encoder, *, source: Source, device: torch.device, seed: int) -> list[Score]:
        """The encoder stands on ``device`` already, and is afterwards as it was.

        Raises:
            ValueError: if the source has no transfer task, no readable image in one of its halves, the encoder is not
                a ViT, or no setting of the grid converges.
        """
        return self.measure(encoder, source=source, engine=Engine(device=device), seed=seed)

    def measure(self, encoder: Encoder, *, source: Source, engine: Engine, seed: int) -> list[Score]:
        """The same by an engine, whose workers decode images; no features are kept, as crops differ in each epoch."""
        self.check(source)
        if not isinstance(encoder, ViT):
            raise ValueError(f"prompts are put into a ViT, and this encoder is a {type(encoder).__name__}")
        return PromptTuning(self, encoder, source, engine, seed).scores()


class PromptTuning:
    """The trainings of one evaluation."""

    def __init__(self, protocol: LowShotVPT, encoder: ViT, source: Source, engine: Engine, seed: int) -> None:
        self.protocol, self.source, self.device, self.seed = protocol, source, engine.device, seed
        self.workers = engine.staff.workers
        self.format = evaluation_input(encoder.config.image_input, protocol.view, patch=encoder.config.patch)
        self.vit = encoder if self.format.size == encoder.config.size else at_size(encoder, self.format.size)
        self.classes = transfer_classes(source)

    def scores(self) -> list[Score]:
        source, protocol = self.source, self.protocol
        splits, bad = self.readable_splits()
        tested = labelled_rows(source, "test")
        test = labelled_images(source, tested, self.classes, unknown=UNKNOWN_CLASS)
        hits, unread = [], list[str]()
        with frozen(self.vit):
            chosen, tuning = self.choose(splits[0])
            for split, rows in enumerate(splits):
                predicted = self.predict(self.train(rows, chosen, split=split), tested)
                hits.append((predicted == test.y).double())
                unread = [test.image[place] for place in (predicted == UNREADABLE).nonzero().flatten().tolist()]
        if len(unread) == len(tested):
            raise ValueError(f"none of the {len(tested)} test images of '{source.name}' could be read; check its files")
        remarks = self.remarks(splits, bad) + unseen_classes(source)
        remarks += unreadable_images(bad, total=len(labelled_rows(source, "train")), what="train")
        remarks += unreadable_images(unread, total=len(tested), what="test", wrong=True)
        recipe = protocol.recipe
        settings = {
            "prompts": float(recipe.prompts),
            "epochs": float(recipe.epochs),
            **chosen._asdict(),
            **tuning,
        }
        training = [tuple(source.path[row] for row in rows) for rows in splits]
        scores = protocol.scores(
            source.name, test, hits, training=training, settings=settings, remarks=(*remarks, self.note())
        )
        return [replace(score, view=view_name(self.format)) for score in scores]

    def readable_splits(self) -> tuple[list[list[int]], list[str]]:
        """Rows of the source that each split trains on, and the images that could not be read.

        The next image drawn stands in the place of such an image, but not in that of one from a list.
        """
        rows, unread = labelled_rows(self.source, "train"), list[str]()
        while True:
            half = labelled_images(self.source, rows, self.classes, unknown=UNKNOWN_CLASS)
            drawn = self.protocol.drawn(half, unread=unread, seed=self.seed)
            splits = [[rows[place] for place in split] for split in drawn]
            asked = sorted(set().union(*splits))
            good = torch.cat([readable for _, readable in self.views(asked)]).tolist()
            bad = {row for row, readable in zip(asked, good, strict=True) if not readable}
            if not bad:
                return splits, unread
            unread += sorted(self.source.path[row] for row in bad)
            rows = [row for row in rows if row not in bad]
            if not rows:
                raise ValueError(f"none of the training images of '{self.source.name}' could be read; check its files")

    def remarks(self, splits: list[list[int]], bad: list[str]) -> list[str]:
        """Remarks on classes with too few images beside those that could not be read."""
        label, unread = self.source.label, set(bad)
        half = [label[row] for row in labelled_rows(self.source, "train") if self.source.path[row] not in unread]
        return self.protocol.remarks(self.classes, half, [[label[row] for row in rows] for rows in splits])

    def choose(self, rows: list[int]) -> tuple[Candidate, dict[str, float]]:
        """The candidate that is best on held-out images of a split, and its accuracy there where there is a choice."""
        candidates = self.protocol.candidates()
        if len(candidates) == 1:
            return candidates[0], {}
        half = labelled_images(self.source, rows, self.classes, unknown=UNKNOWN_CLASS)
        key = keyed_random.key(self.seed, "lowshot_vpt", "hold out")
        fitting, tuning = hold_out(half, share=TUNING_SHARE, key=key)

        def judge(candidate: Candidate) -> Accuracies:
            model = self.train([rows[place] for place in fitting], candidate, split=0)
            predicted = self.predict(model, [rows[place] for place in tuning])
            return Accuracies(float((predicted == half.y[tuning]).double().mean()))

        choice = choose(candidates, judge, what="base_lr")
        return candidates[choice.place], choice.settings()

    def train(self, rows: list[int], candidate: Candidate, *, split: int) -> HeadOn:
        """Prompts and head, trained on these rows."""
        recipe, seed = self.protocol.recipe, keyed_random.key(self.seed, "lowshot_vpt", split)
        prompted = PromptedViT(self.vit, count=recipe.prompts, width=recipe.prompt_width, seed=seed)
        model = HeadOn(
            Pooled(prompted, self.protocol.pooling),
            key="image",
            width=self.vit.config.width,
            classes=len(self.classes),
            label_smoothing=recipe.label_smoothing,
            seed=seed,
        ).to(self.device)
        batch = min(TRAINING_BATCH, len(rows))
        settings = Fit(
            samples=recipe.epochs * len(rows),
            batch_size=batch,
            warmup=recipe.warmup * len(rows),
            optim=OptimConfig(
                name=recipe.optimizer,
                base_lr=candidate.base_lr,
                weight_decay=candidate.weight_decay,
                betas=(0.9, 0.999),
            ),
            precision=self.protocol.precision,
        )
        fit(model, iter(self.stream(rows, batch, seed)), settings, device=self.device)
        return model

    def stream(self, rows: list[int], batch: int, seed: int) -> ImageStream:
        number = {name: index for index, name in enumerate(self.classes)}
        workers = min(self.workers, self.protocol.recipe.epochs * len(rows) // IMAGES_OF_WORKER)
        targets = [(number[self.source.label[row]],) for row in rows]
        return ImageStream(
            SourceSampleIndex(self.source, rows, targets=targets, batch_size=batch, seed=seed),
            format=self.format,
            views=TrainingViews(scale=(0.08, 1.0)),
            seed=seed,
            batching=Batching(batch_size=batch, microbatch=batch, workers=workers),
            quarantine=Quarantine(Path(os.devnull), images=len(self.source.path), max_bad=1.0),
        )

    def predict(self, model: HeadOn, rows: list[int]) -> Int64[Tensor, " b"]:
        """The best class of each image, or UNREADABLE."""
        parts: list[Tensor] = []
        with evaluation_mode(model, self.device):
            for image, readable in self.views(rows):
                best = best_class(model.logits(image.to(self.device))).cpu()
                parts.append(best.masked_fill(~readable, UNREADABLE))
        return torch.cat(parts)

    def views(self, rows: list[int]) -> Iterator[tuple[Float[Tensor, "b c h w"], Bool[Tensor, " b"]]]:
        """The evaluation views of images, and which could be read."""
        batch = self.protocol.batch_size
        return row_batches(self.source, rows, format=self.format, batch_size=batch, workers=self.workers)

    def note(self) -> str:
        preset, epochs = self.protocol.preset, self.protocol.recipe.epochs
        published = PRESETS[preset].epochs
        shorter = f"; trained for {epochs} of its {published} epochs" if epochs < published else ""
        return f"settings of the preset {preset}, as those of the paper are not known{shorter}"


class Pooled(nn.Module):
    """The feature of each image from the tokens of a network."""

    def __init__(self, network: nn.Module, pooling: Pooling) -> None:
        super().__init__()
        self.network = network
        self.pooling: Pooling = pooling

    def forward(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        tokens: Tensor = self.network(image)
        return pool(tokens, self.pooling)
