"""The text tower as a page has it: weights in eight bits, the pieces of its tokenizer, and what they give in Python."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor
from torch.nn import functional as F

from underpaint.evals.text_features import BATCH_TEXTS, Towers
from underpaint.models.image_text import pool_text
from underpaint.models.text_tower import TextConfig, TextTower
from underpaint.search.page_pieces import Pieces, page_pieces
from underpaint.search.quantise import Bytes, quantise
from underpaint.texts.tokens import PAD


@dataclass(frozen=True, kw_only=True, eq=False)
class PageTower:
    """A text tower with the numbers that ``tower.js`` computes with."""

    towers: Towers
    pieces: Pieces
    matrices: dict[str, Bytes]
    """Weights by name, each row with its scale: those of ``TextTower``, ``projection`` of a text's feature to its
    embedding and, where a page has shorter embeddings, ``axes`` of the embedding to these."""
    vectors: dict[str, Float32[np.ndarray, " n"]]
    """Biases, and factors of layer norms."""

    @property
    def bytes(self) -> int:
        """Bytes of the weights, before they are written as letters."""
        return sum(matrix.value.nbytes + matrix.scale.nbytes for matrix in self.matrices.values())

    def form(self) -> dict[str, object]:
        """The settings of the tower, which its weights alone do not tell."""
        config = self.towers.model.config
        assert isinstance(config.text, TextConfig)
        return {
            "matrices": {name: matrix.value.shape for name, matrix in self.matrices.items()},
            "depth": config.text.depth,
            "heads": config.text.heads,
            "norm_eps": config.text.norm_eps,
            "pooling": config.text_pooling,
            "context": self.towers.model.context,
            "first_position": PAD + 1,
        }

    def embed(self, texts: Sequence[str]) -> Float[np.ndarray, "n d"]:
        """Embeddings of texts in the page's numbers, by the weights in eight bits."""
        model = self.towers.model
        assert isinstance(model.config.text, TextConfig)
        named = {name: _restored(matrix) for name, matrix in self.matrices.items()}
        projection, axes = named.pop("projection"), named.pop("axes", None)
        tower = TextTower(model.config.text).eval()
        tower.load_state_dict(named | {name: torch.from_numpy(vector) for name, vector in self.vectors.items()})
        parts: list[Tensor] = []
        with torch.no_grad():
            for start in range(0, len(texts), BATCH_TEXTS):
                ids = self.towers.tokenizer(texts[start : start + BATCH_TEXTS], context=model.context)
                feature = pool_text(tower(ids), ids, model.config.text_pooling)
                embedding = F.normalize(feature @ projection.T, dim=-1)
                parts.append(embedding if axes is None else embedding @ axes.T)
        return torch.cat(parts).double().numpy()


def page_tower(towers: Towers, axes: Float[Tensor, "e d"] | None) -> PageTower | None:
    """The text tower in eight bits, or None for a tokenizer or a tower of n-grams, which a page cannot do."""
    pieces = page_pieces(towers.tokenizer) if isinstance(towers.model.config.text, TextConfig) else None
    if pieces is None:
        return None
    weights = {name: weight.detach().float().cpu() for name, weight in towers.model.text.state_dict().items()}
    matrices = {name: quantise(weight) for name, weight in weights.items() if weight.ndim == 2}
    matrices["projection"] = quantise(towers.model.text_projection.detach().float().cpu().T)
    if axes is not None:
        matrices["axes"] = quantise(axes.T)
    vectors = {name: weight.numpy() for name, weight in weights.items() if weight.ndim == 1}
    return PageTower(towers=towers, pieces=pieces, matrices=matrices, vectors=vectors)


def _restored(matrix: Bytes) -> Float[Tensor, "n d"]:
    return torch.from_numpy(matrix.vectors()).float()
