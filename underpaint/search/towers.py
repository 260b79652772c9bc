"""The two towers of a run of LiT or an imported MAWS-CLIP: texts to embeddings, and encoder features to embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import xxhash
from jaxtyping import Float
from torch import Tensor

from underpaint.data.captions.feature_store import FeatureMaker
from underpaint.evals.mode import evaluation_mode
from underpaint.models.image_text import ImageText
from underpaint.models.weights import load_tokenizer
from underpaint.run.outputs import load_model
from underpaint.texts.tokenizer import TextTokenizer
from underpaint.texts.tokens import UNKNOWN
from underpaint.training.devices import choose_device

BATCH_TEXTS = 64
"""Texts embedded together."""
BATCH_FEATURES = 8_192
"""Features projected together."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SearchTowers:
    """Both towers in evaluation mode, and the tokenizer of the text tower."""

    model: ImageText
    tokenizer: TextTokenizer
    device: torch.device

    def embed_texts(self, texts: Sequence[str]) -> Float[Tensor, "n e"]:
        """Embeddings of length 1, float32 on the CPU.

        Raises:
            ValueError: if one is not finite.
        """
        parts = [torch.zeros(0, self.model.config.width)]
        with evaluation_mode(self.model, self.device):
            for start in range(0, len(texts), BATCH_TEXTS):
                ids = self.tokenizer(texts[start : start + BATCH_TEXTS], context=self.model.context)
                parts.append(self.model.embed_text(ids.to(self.device)).float().cpu())
        embedding = torch.cat(parts)
        if not embedding.isfinite().all():
            raise ValueError("the text tower gives embeddings that are not finite; it has diverged")
        return embedding

    def embed_features(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n e"]:
        """Embeddings of length 1 of the image encoder's cls features, float32 on the CPU."""
        with evaluation_mode(self.model, self.device):
            parts = [self.model.project_image(part.to(self.device)).cpu() for part in features.split(BATCH_FEATURES)]
        return torch.cat(parts)

    def feature_maker(self) -> FeatureMaker:
        """The image encoder for the store of features: runs with the same locked encoder share them."""

        def encode(image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
            with evaluation_mode(self.model, self.device):
                return self.model.encoder(image.to(self.device))[:, 0].float().cpu()

        config = self.model.config.encoder
        return FeatureMaker(
            encode=encode, encoder_hash=self.encoder_hash(), image=config.image_input, width=config.width
        )

    def encoder_hash(self) -> str:
        """Checksum of the image encoder: its form and its tensors."""
        state = xxhash.xxh3_128(repr(self.model.config.encoder).encode())
        for name, value in sorted(self.model.encoder.state_dict().items()):
            state.update(name.encode())
            state.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        return state.hexdigest()

    def reads(self, text: str) -> bool:
        """Whether the tokenizer knows any letter of a text; the mark of a word's beginning is a known piece itself."""
        ids = self.tokenizer([text], context=self.model.context)[0, 1:-1]
        unknown = int((ids == UNKNOWN).sum())
        return not unknown or len(ids) - unknown > len(text.split())


def load_towers(folder: str | Path) -> SearchTowers:
    """The towers of a finished run of LiT, or of an imported MAWS-CLIP, on the best device here.

    Raises:
        ValueError: if the folder holds another model, a damaged one, or the tokenizer of another one.
    """
    model = load_model(folder)
    if not isinstance(model, ImageText):
        raise ValueError(
            f"{folder} holds a {type(model).__name__}, which reads no texts; search needs a run of LiT or an imported "
            f"MAWS-CLIP"
        )
    device = choose_device("any")
    return SearchTowers(model=model.to(device), tokenizer=load_tokenizer(folder), device=device)
