"""Classes by their names alone: images against the embeddings of texts (paper.md 2.5)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from underpaint.core import ImageInput
from underpaint.evals.class_names import MARK, TEMPLATES, check_templates, names_of
from underpaint.evals.text_features import Towers
from underpaint.models.vit import ViT


class ZeroShot(nn.Module):
    """A tagger made of an image-text model and the names of labels; ``labels`` are their first names.

    A label is the mean over all its names in all templates, each embedding of length 1, and of length 1 again.
    """

    label_embedding: Tensor

    def __init__(self, towers: Towers, labels: Sequence[str], templates: Sequence[str] = TEMPLATES) -> None:
        super().__init__()
        names = [names_of(label) for label in labels]
        self.labels = tuple(first for first, *_ in names)
        check_names(self.labels, templates)
        self.model = towers.model
        embedding = embed_labels(towers, names, templates).to(towers.device)
        self.register_buffer("label_embedding", embedding, persistent=False)

    @property
    def encoder(self) -> ViT:
        return self.model.encoder

    @property
    def image_input(self) -> ImageInput:
        """The images that the image tower takes."""
        return self.model.config.encoder.image_input

    def logits(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        """Cosines times the scale that the model was trained with."""
        return self.scores_of(self.encoder(image)[:, 0])

    def scores_of(self, feature: Float[Tensor, "b d"]) -> Float[Tensor, "b k"]:
        """The same from the cls features of the encoder."""
        return self.model.logit_scale.exp() * self.model.project_image(feature) @ self.label_embedding.T

    def probabilities(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        """Probability of each given label; those of an image sum to 1."""
        return self.probabilities_of(self.logits(image))

    def probabilities_of(self, scores: Float[Tensor, "b k"]) -> Float[Tensor, "b k"]:
        """The same from the scores of the labels."""
        return scores.float().softmax(dim=1)


def check_names(labels: Sequence[str], templates: Sequence[str]) -> None:
    """Raises ValueError for labels or templates that cannot be used."""
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise ValueError(f"labels must differ in their first names; twice there: {', '.join(twice[:5])}")
    if len(labels) < 2:
        raise ValueError(f"zero-shot prediction chooses among labels; give two or more, not {len(labels)}")
    check_templates(templates)


def embed_labels(towers: Towers, names: Sequence[Sequence[str]], templates: Sequence[str]) -> Float[Tensor, "k e"]:
    """One embedding of length 1 for the names of each label, on the CPU: the mean over names in templates."""
    texts = [[template.replace(MARK, name) for name in group for template in templates] for group in names]
    groups = towers.embed_texts([text for group in texts for text in group]).split([len(group) for group in texts])
    return torch.stack([F.normalize(group.mean(dim=0), dim=0) for group in groups])
