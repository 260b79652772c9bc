"""Embeddings of texts and images by a model for both, computed in batches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from underpaint.core import ImageInput
from underpaint.evals.mode import evaluation_mode
from underpaint.messages import counted
from underpaint.models.image_text import ImageText
from underpaint.texts.languages import language_code
from underpaint.texts.tokenizer import TextTokenizer
from underpaint.texts.tokens import UNKNOWN

BATCH_TEXTS = 64
"""Texts embedded together."""
BATCH_FEATURES = 8_192
"""Features of images projected together."""


class Towers(nn.Module):
    """An image tower, a text tower and the tokenizer of the latter.

    ``languages`` has the number of training captions by language, "" for those whose language nobody says; None if it
    was not recorded, as of an imported model. ``start_languages`` are those that the text tower knew before.

    Raises:
        ValueError: if the tokenizer has more ids than the text tower has embeddings.
    """

    def __init__(
        self,
        model: ImageText,
        tokenizer: TextTokenizer,
        languages: Mapping[str, int] | None = None,
        *,
        start_languages: Sequence[str] = (),
    ) -> None:
        super().__init__()
        if tokenizer.vocabulary > model.config.text.vocabulary:
            raise ValueError(
                f"{tokenizer.file} has {tokenizer.vocabulary:,} tokens, the text tower "
                f"{model.config.text.vocabulary:,}: it is another model's tokenizer"
            )
        self.model = model
        self.tokenizer = tokenizer
        self.languages = languages
        self.start_languages = tuple(start_languages)

    @property
    def image_input(self) -> ImageInput:
        """Images that the image tower takes."""
        return self.model.config.encoder.image_input

    @property
    def device(self) -> torch.device:
        return self.model.logit_scale.device

    def embed_texts(self, texts: Sequence[str]) -> Float[Tensor, "n e"]:
        """Embeddings of length 1, float32 on the CPU; a text that occurs again is embedded once.

        Raises:
            ValueError: if an embedding is not finite.
        """
        distinct = list(dict.fromkeys(texts))
        parts = [torch.zeros(0, self.model.config.width)]
        with evaluation_mode(self, self.device):
            for start in range(0, len(distinct), BATCH_TEXTS):
                ids = self.tokenizer(distinct[start : start + BATCH_TEXTS], context=self.model.context)
                parts.append(self.model.embed_text(ids.to(self.device)).float().cpu())
        embedding = torch.cat(parts)
        if not embedding.isfinite().all():
            bad = distinct[int((~embedding.isfinite()).any(dim=1).nonzero()[0])]
            raise ValueError(f"the text tower gives an embedding that is not finite for {bad[:40]!r}; it has diverged")
        number = {text: row for row, text in enumerate(distinct)}
        return embedding[[number[text] for text in texts]]

    def project_images(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n e"]:
        """Embeddings of length 1 of the image encoder's cls features, float32 on the CPU.

        Raises:
            ValueError: if one is not finite.
        """
        with evaluation_mode(self, self.device):
            parts = [self.model.project_image(x.to(self.device)).float().cpu() for x in features.split(BATCH_FEATURES)]
        embedding = torch.cat(parts)
        if not embedding.isfinite().all():
            bad = int((~embedding.isfinite()).any(dim=1).sum())
            raise ValueError(f"embeddings of {bad} of {len(embedding)} images are not finite; the encoder has diverged")
        return embedding

    def texts_cut(self, texts: Iterable[str]) -> int:
        """Number of distinct texts that have more tokens than the tower reads, and are cut."""
        context = self.model.context
        return sum(self.tokenizer([text], context=context + 1).shape[1] > context + 2 for text in dict.fromkeys(texts))

    def knows(self, text: str) -> bool:
        """Whether the tokenizer knows any letter of a text; the mark of a word's beginning is a known piece itself."""
        ids = self.tokenizer([text], context=self.model.context)[0, 1:-1]
        unknown = int((ids == UNKNOWN).sum())
        return len(ids) > 0 and (not unknown or len(ids) - unknown > len(text.split()))


def unread_texts(towers: Towers, texts: Iterable[str]) -> list[str]:
    """A remark about texts of which the tokenizer knows no letter: the text tower cannot tell them apart."""
    unread = [text for text in dict.fromkeys(texts) if not towers.knows(text)]
    if not unread:
        return []
    return [f"the tokenizer knows no part of {counted(len(unread), 'text')}, such as {unread[0]!a:.60}"]


def unseen_language(towers: Towers, language: str) -> list[str]:
    """A remark about a language that the text tower was not trained on, or of which nobody knows."""
    if not language:
        return []
    if towers.languages is None:
        return ["the languages of the captions that this model was trained on are not recorded"]
    if language_code(language) in map(language_code, towers.languages):
        return []
    counts = sorted(towers.languages.items(), key=lambda pair: (-pair[1], pair[0]))
    listed = ", ".join(f"{name or 'not known'} {count:,}" for name, count in counts[:8])
    remark = f"the run saw no caption that is known to be in {language!r}; its captions by language: {listed}"
    if not towers.start_languages:
        return [remark]
    if language_code(language) in map(language_code, towers.start_languages):
        return [f"{remark}; the text tower that it started from was trained on it"]
    return [f"{remark}; nor was the text tower that it started from ({', '.join(towers.start_languages)})"]
