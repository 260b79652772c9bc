"""Images and texts in one space: an image tower, a text tower, and a projection behind each (paper.md 1.6).

Letters as in ``core``, and ``e`` the width of the common space.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from underpaint.config import LATER
from underpaint.models.ngram_tower import NgramConfig, NgramTower
from underpaint.models.text_tower import TextConfig, TextTower
from underpaint.models.vit import ViT, ViTConfig
from underpaint.texts.tokenizer import CONTEXT
from underpaint.texts.tokens import PAD

TextPooling = Literal["first", "mean"]
"""Feature of a text: that of its first token, as in XLM-R, or the mean over its tokens, as in MiniLM."""


@dataclass(frozen=True, kw_only=True)
class ImageTextConfig:
    encoder: ViTConfig
    text: TextConfig | NgramConfig
    width: int  # of the common space
    text_pooling: TextPooling = field(default="first", metadata=LATER)
    tokens: int = field(default=CONTEXT + 2, metadata=LATER)  # of a text, start and end included; longer ones are cut

    def __post_init__(self) -> None:
        if not 1 <= self.width <= 2**16:
            raise ValueError(f"width={self.width} of the common space must lie between 1 and {2**16}")
        if self.tokens < 3:
            raise ValueError(f"tokens={self.tokens} of a text must be 3 or more: start, a piece and end")
        if isinstance(self.text, NgramConfig) and self.text_pooling != "first":
            raise ValueError(f"text_pooling={self.text_pooling}: a tower of n-grams has one feature; leave it first")


class ImageText(nn.Module):
    """Embeds images and texts; the cosine of two embeddings, times ``logit_scale.exp()``, says how well they fit."""

    def __init__(self, config: ImageTextConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = ViT(config.encoder)
        self.text = NgramTower(config.text) if isinstance(config.text, NgramConfig) else TextTower(config.text)
        # Multiplied from the right, as they are published: the transpose of what nn.Linear holds.
        self.image_projection = nn.Parameter(torch.zeros(config.encoder.width, config.width))
        self.text_projection = nn.Parameter(torch.zeros(config.text.width, config.width))
        self.logit_scale = nn.Parameter(torch.zeros(()))

    @property
    def context(self) -> int:
        """Pieces that a text may have, start and end not counted; longer texts are cut (paper.md 1.6)."""
        return min(self.config.tokens, self.config.text.longest) - 2

    def embed_image(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b e"]:
        """Embeddings of length 1 of images, normalised with ``config.encoder.mean`` and ``.std``: from the cls token.

        Raises:
            ValueError: if they are of another size than the encoder's.
        """
        return self.project_image(self.encoder(image)[:, 0])

    def project_image(self, feature: Float[Tensor, "b d"]) -> Float[Tensor, "b e"]:
        """Embeddings of length 1 of the encoder's cls features."""
        return F.normalize(feature @ self.image_projection, dim=-1)

    def embed_text(self, ids: Int64[Tensor, "b l"]) -> Float[Tensor, "b e"]:
        """Embeddings of length 1 of texts, as ``load_tokenizer`` makes ids of them.

        Raises:
            ValueError: if there are more tokens than positions.
        """
        return F.normalize(pool_text(self.text(ids), ids, self.config.text_pooling) @ self.text_projection, dim=-1)


def pool_text(
    features: Float[Tensor, "b n d"], ids: Int64[Tensor, "b l"], pooling: TextPooling
) -> Float[Tensor, "b d"]:
    """One feature of each text; padding takes no part in the mean. A tower may give a single feature: n is 1 or l."""
    if pooling == "first":
        return features[:, 0]
    real = (ids != PAD)[:, :, None]
    return (features * real).sum(dim=1) / real.sum(dim=1)
