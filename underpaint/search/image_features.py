"""Embeddings of images from the features of the image encoder, which the store keeps for every run that shares it."""

from __future__ import annotations

import torch
import xxhash
from jaxtyping import Float
from torch import Tensor

from underpaint.data.captions.feature_store import FeatureMaker
from underpaint.evals.mode import evaluation_mode
from underpaint.evals.text_features import Towers
from underpaint.models.vit import ViT

BATCH_FEATURES = 8_192
"""Features projected together."""


def embed_features(towers: Towers, features: Float[Tensor, "n d"]) -> Float[Tensor, "n e"]:
    """Embeddings of length 1 of the image encoder's cls features, float32 on the CPU."""
    device = towers.device
    with evaluation_mode(towers, device):
        return torch.cat([towers.model.project_image(part.to(device)).cpu() for part in features.split(BATCH_FEATURES)])


def feature_maker(towers: Towers) -> FeatureMaker:
    """The image encoder as the store of features takes it: runs with the same locked encoder share their features."""
    encoder, device = towers.model.encoder, towers.device

    def encode(image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        with evaluation_mode(encoder, device):
            return encoder(image.to(device))[:, 0].float().cpu()

    return FeatureMaker(
        encode=encode, encoder_hash=encoder_hash(encoder), image=towers.image_input, width=encoder.config.width
    )


def encoder_hash(encoder: ViT) -> str:
    """Checksum of an image encoder: its form and its tensors."""
    state = xxhash.xxh3_128(repr(encoder.config).encode())
    for name, value in sorted(encoder.state_dict().items()):
        state.update(name.encode())
        state.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return state.hexdigest()
