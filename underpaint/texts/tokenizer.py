"""XLM-R's tokenizer: pieces of text by its SentencePiece model, numbered as fairseq numbers them (paper.md 1.6)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from underpaint.texts.tokens import END, PAD, START, UNKNOWN

MAX_BYTES = 64 * 1024 * 1024
"""XLM-R's file has 5 MB."""
CONTEXT = 100
"""Pieces of a text that are kept; start and end come on top."""


class Tokenizer:
    """Texts to ids: START, one id per piece, END, filled up with PAD to the longest text.

    The ids of SentencePiece begin with <unk>, <s>, </s>; fairseq's with <s>, <pad>, </s>, <unk>, so that all pieces of
    text move up by one, and after them comes <mask>, which no text has.

    Raises:
        ValueError: for a file that is not a SentencePiece model or orders the first ids otherwise, or if the package is
            not installed.
    """

    def __init__(self, path: Path) -> None:
        try:
            import sentencepiece
        except ModuleNotFoundError as error:
            raise ValueError("texts need the package sentencepiece: pip install '.[text]'") from error
        if not path.is_file() or path.stat().st_size > MAX_BYTES:
            raise ValueError(f"{path} is not a SentencePiece model: not a file of at most {MAX_BYTES:,} bytes")
        self._pieces: Any = sentencepiece.SentencePieceProcessor()
        try:
            self._pieces.load_from_serialized_proto(path.read_bytes())
        except RuntimeError as error:
            raise ValueError(f"{path} is not a SentencePiece model, or is damaged") from error
        first = (self._pieces.unk_id(), self._pieces.bos_id(), self._pieces.eos_id())
        if first != (0, 1, 2):
            raise ValueError(f"{path} has <unk>, <s>, </s> at {first}; XLM-R's tokenizer has them at (0, 1, 2)")

    @property
    def vocabulary(self) -> int:
        """Ids, with <pad> and <mask>, which SentencePiece does not have."""
        return self._pieces.get_piece_size() + 2

    def __call__(self, texts: Sequence[str], context: int = CONTEXT) -> Int64[Tensor, "b l"]:
        rows = [self._ids(text)[:context] for text in texts]
        ids = torch.full((len(rows), 2 + max(map(len, rows), default=0)), PAD)
        for row, pieces in zip(ids, rows, strict=True):
            row[: 2 + len(pieces)] = torch.tensor([START, *pieces, END])
        return ids

    def _ids(self, text: str) -> list[int]:
        return [number + 1 if number else UNKNOWN for number in self._pieces.encode(text)]
