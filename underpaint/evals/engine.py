"""The way of every evaluation from images to features: read by workers, shared among processes, kept on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from underpaint.core import ImageInput
from underpaint.data.feature_store import FeatureMaker, Features, Staff, fill, image_hashes, read_hashed
from underpaint.data.source import Files, Source
from underpaint.data.view_batches import view_batches
from underpaint.data.view_memory import ViewMemory
from underpaint.evals.feature_makers import (
    SplitClassifier,
    classifier_maker,
    encoder_maker,
    has_known_code,
    unnamed_maker,
)
from underpaint.evals.mode import evaluation_mode
from underpaint.evals.text_features import Towers
from underpaint.evals.zeroshot import ZeroShot
from underpaint.models.pooling import Pooling, pool
from underpaint.models.vit import ViT
from underpaint.progress import Progress


@runtime_checkable
class ScoringNetwork(Protocol):
    """A network that scores labels."""

    def logits(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]: ...

    def modules(self) -> Iterator[nn.Module]: ...


@runtime_checkable
class TokenNetwork(Protocol):
    """A network that turns images into tokens, cls first."""

    def __call__(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b tokens d"]: ...

    def modules(self) -> Iterator[nn.Module]: ...


@dataclass(frozen=True, kw_only=True)
class Engine:
    """Computes what networks say of the images of a source; the networks stand on ``device`` already."""

    device: torch.device
    staff: Staff = field(default_factory=Staff)
    cached: bool = False
    """Whether features are kept in the cache, by the encoder, the view and the hash of each image: a second evaluation
    reads them, and one that was killed goes on. Several processes share their work through it."""
    views: ViewMemory | None = None
    """Keeps decoded images for the next network, where features are not kept."""

    @property
    def first(self) -> bool:
        """Whether this is the process that computes scores from features."""
        return self.staff.group.rank == 0

    def features(
        self,
        encoder: TokenNetwork,
        source: Source,
        rows: Sequence[int],
        *,
        format: ImageInput,
        pooling: Pooling,
        batch_size: int,
    ) -> Features:
        """Pooled tokens of the rows, on the CPU."""
        if isinstance(encoder, ViT) and has_known_code(encoder):
            maker = encoder_maker(encoder, format, device=self.device, pooling=pooling, batch=batch_size)
        else:
            encode = partial(_pooled, encoder, pooling=pooling, device=self.device)
            maker = unnamed_maker(encode, format, batch=batch_size)
        return self._made(source, rows, maker)

    def scores(
        self,
        classifier: ScoringNetwork,
        source: Source,
        rows: Sequence[int],
        *,
        format: ImageInput,
        batch_size: int,
    ) -> Iterator[tuple[Float[Tensor, "b k"], Bool[Tensor, " b"]]]:
        """The classifier's logits of the rows on the CPU, so many images at a time, and which could be read."""
        if not rows:
            return
        made, head = self.maker_of(classifier, format, batch_size)
        features = self._made(source, rows, made)
        with evaluation_mode(classifier, self.device):
            for x, kept in zip(features.x.split(batch_size), features.kept.split(batch_size), strict=True):
                yield head(x.to(self.device)).float().cpu(), kept

    def embeddings(
        self, towers: Towers, source: Source, rows: Sequence[int], *, format: ImageInput, batch_size: int
    ) -> tuple[Float[Tensor, "n e"], Bool[Tensor, " images"]]:
        """Embeddings of length 1 of the rows that could be read, on the CPU, and which those are.

        Raises:
            ValueError: if none could be read.
        """
        maker = encoder_maker(towers.model.encoder, format, device=self.device, batch=batch_size)
        features = self._made(source, rows, maker)
        if not features.kept.any():
            raise ValueError("none of the images to evaluate on could be read; check the files of the dataset")
        return towers.project_images(features.x[features.kept]), features.kept

    def read(
        self,
        files: Files,
        paths: Sequence[str],
        maker: FeatureMaker,
        *,
        root: Path,
        name: str,
        chunk: int,
        contents: str = "",
    ) -> Iterator[Features]:
        """Features of images in order, at most ``chunk`` at a time; those from the store come when all are in it.

        ``contents`` is the hash of all files, without which no views of them are kept in memory.
        """
        reads = [partial(files.read, path) for path in paths]
        if self.cached and maker.encoder_hash:
            hashes = self._hashes(files, paths, root)
            reads = [
                partial(read_hashed, files.read, path, image_hash, at=f"{root / path}")
                for path, image_hash in zip(paths, hashes, strict=True)
            ]
            store = fill(hashes, reads, maker, name=name, staff=self.staff)
            for start in range(0, len(hashes), chunk):
                yield store.read(hashes[start : start + chunk])
            return
        done = 0
        with Progress(f"Features of {name}", total=len(reads), unit="images") as shown:
            batches = view_batches(reads, format=maker.image, batch_size=maker.batch, workers=self.staff.workers)
            if self.views and contents:
                batches = self.views.batches((contents, tuple(paths), maker.image, maker.batch), batches)
            for image, problems in batches:
                kept = torch.tensor([not problem for problem in problems])
                yield Features(x=torch.where(kept[:, None], maker.encode(image), 0), kept=kept)
                done += len(kept)
                shown.update(done)

    def maker_of(
        self, classifier: ScoringNetwork, format: ImageInput, batch: int
    ) -> tuple[FeatureMaker, Callable[[Tensor], Tensor]]:
        """The maker of a classifier's features, and what makes scores of them; scores themselves for other networks.

        The features of a class of the user's own are not kept: its code may change.
        """
        if isinstance(classifier, ZeroShot):
            return encoder_maker(classifier.encoder, format, device=self.device, batch=batch), classifier.scores_of
        is_known = has_known_code(classifier)
        if isinstance(classifier, SplitClassifier) and isinstance(classifier.encoder, ViT) and is_known:
            width = classifier.encoder.config.width
            maker = classifier_maker(classifier, format, width=width, device=self.device, batch=batch)
            return maker, classifier.scores_of
        encode = partial(_logits, classifier, device=self.device)
        return unnamed_maker(encode, format, batch=batch), lambda scores: scores

    def _hashes(self, files: Files, paths: Sequence[str], root: Path) -> list[str]:
        """The hash of each image; the first process reads the files, and the others find its hashes in the cache."""
        group = self.staff.group
        if group.rank:
            group.exchange(None)
        hashes = image_hashes(files, paths, root=root)
        if not group.rank:
            group.exchange(None)
        return hashes

    def _made(self, source: Source, rows: Sequence[int], maker: FeatureMaker) -> Features:
        """The features of the rows, of which there is one at least: from the store where they are kept there.

        Raises:
            ValueError: if they are not finite.
        """
        paths = [source.path[row] for row in rows]
        files, name, contents = source.files, source.name, source.content_hash
        parts = list(self.read(files, paths, maker, root=source.root, name=name, chunk=len(paths), contents=contents))
        if len(parts) > 1:
            x, kept = torch.cat([part.x for part in parts]), torch.cat([part.kept for part in parts])
            parts = [Features(x=x, kept=kept)]
        return parts[0].require_finite()


def _pooled(
    encoder: TokenNetwork, image: Float[Tensor, "b c h w"], *, pooling: Pooling, device: torch.device
) -> Float[Tensor, "b d"]:
    with evaluation_mode(encoder, device):
        return pool(encoder(image.to(device)).float(), pooling).cpu()


def _logits(
    classifier: ScoringNetwork, image: Float[Tensor, "b c h w"], *, device: torch.device
) -> Float[Tensor, "b k"]:
    with evaluation_mode(classifier, device):
        return classifier.logits(image.to(device)).float().cpu()
