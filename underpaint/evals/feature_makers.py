"""Networks as makers of the features that are kept on disk: whoever has the same tensors shares their features."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from underpaint.core import ImageInput
from underpaint.data.feature_store import BATCH, Encode, FeatureMaker
from underpaint.evals.mode import evaluation_mode
from underpaint.evals.view import ViewSetting, evaluation_input
from underpaint.models.pooling import Pooling, pool
from underpaint.models.vit import ViT
from underpaint.models.weights import at_size, load_encoder


@runtime_checkable
class SplitClassifier(Protocol):
    """A classifier in two steps, features and their scores; satisfied by ``Classify``."""

    @property
    def encoder(self) -> nn.Module: ...

    def feature(self, image: Float[Tensor, "b c h w"], drop_path: None) -> Float[Tensor, "b d"]: ...

    def scores_of(self, feature: Float[Tensor, "b d"]) -> Float[Tensor, "b k"]:
        """The logits."""
        ...

    def probabilities_of(self, scores: Float[Tensor, "b k"]) -> Float[Tensor, "b k"]: ...

    def modules(self) -> Iterator[nn.Module]: ...

    def state_dict(self) -> Mapping[str, Tensor]: ...


@dataclass(frozen=True, kw_only=True)
class StoredEncoder:
    """The encoder in a folder, with what its features follow from besides."""

    folder: Path
    pooling: Pooling
    view: ViewSetting

    def maker(self, device: torch.device, *, batch: int = BATCH) -> FeatureMaker:
        """The maker of its features; the encoder is read, and its positions are resized to the view.

        Raises:
            ValueError: if the folder holds no encoder or a damaged one, or the setting is not a view.
        """
        encoder = load_encoder(self.folder)
        image = evaluation_input(encoder.config.image_input, self.view, patch=encoder.config.patch)
        encoder = (encoder if image.size == encoder.config.size else at_size(encoder, image.size)).to(device)
        return encoder_maker(encoder, image, device=device, pooling=self.pooling, batch=batch)


def encoder_maker(
    encoder: ViT, image: ImageInput, *, device: torch.device, pooling: Pooling = "cls", batch: int = BATCH
) -> FeatureMaker:
    """The pooled tokens of an encoder, which stands on ``device`` already."""

    def encode(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        with evaluation_mode(encoder, device):
            return pool(encoder(x.to(device)).float(), pooling).cpu()

    checksum = checksum_of(encoder.state_dict(), form=repr(encoder.config))
    suffix = "" if pooling == "cls" else f"-{pooling}"
    return FeatureMaker(
        encode=encode, encoder_hash=f"{checksum}{suffix}", image=image, width=encoder.config.width, batch=batch
    )


def classifier_maker(
    classifier: SplitClassifier, image: ImageInput, *, width: int, device: torch.device, batch: int = BATCH
) -> FeatureMaker:
    """The inputs of a classifier's head, of this width."""

    def encode(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        with evaluation_mode(classifier, device):
            return classifier.feature(x.to(device), None).float().cpu()

    before_head = {name: value for name, value in classifier.state_dict().items() if not name.startswith("head.")}
    config: object = getattr(classifier, "config", None)
    checksum = checksum_of(before_head, form=f"{type(classifier).__qualname__} {config!r}")
    return FeatureMaker(encode=encode, encoder_hash=checksum, image=image, width=width, batch=batch)


def has_known_code(network: object) -> bool:
    """Whether a network's class is this package's; code of others may change while the weights stay the same."""
    return type(network).__module__.partition(".")[0] == __name__.partition(".")[0]


def unnamed_maker(encode: Encode, image: ImageInput, *, batch: int) -> FeatureMaker:
    """A network of which nobody can say whether two are the same: its features are not kept."""
    return FeatureMaker(encode=encode, encoder_hash="", image=image, width=0, batch=batch)


def checksum_of(state: Mapping[str, Tensor], *, form: str) -> str:
    """Checksum of a network: its form and its tensors."""
    import xxhash

    checksum = xxhash.xxh3_128(form.encode())
    for name, value in sorted(state.items()):
        checksum.update(name.encode())
        checksum.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return checksum.hexdigest()
