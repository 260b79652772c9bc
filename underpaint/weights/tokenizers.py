"""The tokenizer of an imported text tower: given by the user or found beside the weights, and checked."""

from __future__ import annotations

from pathlib import Path

from underpaint.models.text_tower import TextConfig
from underpaint.models.weights import TOKENIZER
from underpaint.texts.tokenizer import Tokenizer

USUAL_NAMES = (TOKENIZER.name, f"xlmr.{TOKENIZER.name}")
"""XLM-R's file as transformers and as MAWS call it."""


def find_tokenizer(source: Path, text: TextConfig, given: Path | None) -> Path:
    """The SentencePiece file: the one given, else one with a usual name in the folder of the weights.

    Raises:
        ValueError: if there is no such file, or it has another number of tokens than the text tower.
    """
    folder = source if source.is_dir() else source.parent
    places = (folder / TOKENIZER, *(folder / name for name in USUAL_NAMES)) if given is None else (given,)
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise ValueError(
            f"{source} has a text tower, which needs its tokenizer: put {' or '.join(USUAL_NAMES)} beside it, or add "
            f"tokenizer=FILE"
            if given is None
            else f"tokenizer={given} is not a file; give the SentencePiece model of the text tower"
        )
    vocabulary = Tokenizer(path).vocabulary
    if vocabulary != text.vocabulary:
        raise ValueError(
            f"{path} has {vocabulary:,} tokens, the text tower {text.vocabulary:,}: it is another model's tokenizer"
        )
    return path
