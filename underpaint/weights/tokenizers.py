"""The tokenizer of an imported text tower: given by the user or found beside the weights, and checked."""

from __future__ import annotations

from pathlib import Path

from underpaint.models.ngram_tower import NgramConfig
from underpaint.models.text_tower import TextConfig
from underpaint.models.weights import TOKENIZER
from underpaint.texts.tokenizer import JSON, open_tokenizer

USUAL_NAMES = (TOKENIZER.name, f"xlmr.{TOKENIZER.name}")
"""XLM-R's file as transformers and as MAWS call it."""


def place_of(tokenizer: Path) -> Path:
    """Path of a tokenizer's file within ``model/``."""
    return TOKENIZER.with_name(JSON) if tokenizer.suffix == ".json" else TOKENIZER


def find_tokenizer(source: Path, text: TextConfig | NgramConfig, given: Path | None, *, exact: bool = True) -> Path:
    """The file: the one given, else one with a usual name in the folder of the weights.

    A tower that was trained here may have embeddings to spare; any other has as many as its tokenizer (``exact``).

    Raises:
        ValueError: if there is no such file, or it has another number of tokens than the text tower.
    """
    folder = source if source.is_dir() else source.parent
    places = (folder / TOKENIZER, *(folder / name for name in (*USUAL_NAMES, JSON))) if given is None else (given,)
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise ValueError(
            f"{source} has a text tower, which needs its tokenizer: put {' or '.join(USUAL_NAMES)} beside it, or add "
            f"tokenizer=FILE"
            if given is None
            else f"tokenizer={given} is not a file; give the SentencePiece model of the text tower"
        )
    vocabulary = open_tokenizer(path).vocabulary
    if vocabulary > text.vocabulary or (exact and vocabulary < text.vocabulary):
        raise ValueError(
            f"{path} has {vocabulary:,} tokens, the text tower {text.vocabulary:,}: it is another model's tokenizer"
        )
    return path
