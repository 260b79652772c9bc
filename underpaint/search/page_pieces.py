"""Tokenizers as a page has them: the pieces by their ids, and the rule by which ``tower.js`` parts a text into them.

Two rules are known: SentencePiece's unigram model with its usual normalisation, which XLM-R and the towers from scratch
have, and BERT's WordPiece. The files are read without the libraries, which do not tell all of their settings.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float32

from underpaint import files
from underpaint.texts.tokenizer import JsonTokenizer, TextTokenizer, Tokenizer
from underpaint.texts.tokens import UNKNOWN

NORMAL, UNKNOWN_PIECE, CONTROL = 1, 2, 3
"""Types of pieces in a SentencePiece model; pieces given by a user, unused ones and bytes are not read here."""
UNIGRAM = 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Pieces:
    """Pieces by id; "" for ids that no text has."""

    kind: Literal["unigram", "wordpiece"]
    piece: tuple[str, ...]
    score: Float32[np.ndarray, " ids"] | None = None
    """Log probability of each piece, of the unigram model."""
    lowercase: bool = False
    strip_accents: bool = False


def page_pieces(tokenizer: TextTokenizer) -> Pieces | None:
    """The pieces of a tokenizer, or None for a kind that a page cannot do."""
    if isinstance(tokenizer, Tokenizer):
        return _unigram(tokenizer.file.read_bytes())
    return _word_piece(tokenizer) if isinstance(tokenizer, JsonTokenizer) else None


def _unigram(content: bytes) -> Pieces | None:
    """The pieces of a SentencePiece model, whose ids move up by one."""
    pieces: list[str] = []
    scores: list[float] = []
    settings: dict[str, int | bytes] = {}
    for number, value in _fields(content):
        if number == 1 and isinstance(value, bytes):
            piece = dict(_fields(value))
            kind, text, score = piece.get(3, NORMAL), piece[1], piece.get(2, b"\0\0\0\0")
            assert isinstance(text, bytes)
            assert isinstance(score, bytes)
            if kind not in {NORMAL, UNKNOWN_PIECE, CONTROL}:
                return None
            pieces.append(text.decode() if kind == NORMAL else "")
            scores.append(struct.unpack("<f", score)[0])
        elif number in {2, 3} and isinstance(value, bytes):
            settings |= {f"{'training' if number == 2 else 'text'} {field}": each for field, each in _fields(value)}
    usual = {
        "training 3": UNIGRAM,
        "training 24": 0,  # blanks behind words
        "training 35": 0,  # bytes for unknown letters
        "text 3": 1,  # a blank before the first word
        "text 4": 1,  # blanks in a row are one
        "text 5": 1,  # a blank is the letter U+2581
    }
    usual_settings = all(settings.get(name, value) == value for name, value in usual.items())
    if settings.get("text 1") != b"nmt_nfkc" or not usual_settings:
        return None
    before = UNKNOWN + 1
    return Pieces(
        kind="unigram",
        piece=("",) * before + tuple(pieces[before - 1 :]),
        score=np.array([0.0] * before + scores[before - 1 :], dtype=np.float32),
    )


def _word_piece(tokenizer: JsonTokenizer) -> Pieces | None:
    content = files.read_json(tokenizer.file)
    model, text, words = (content.get(name) or {} for name in ("model", "normalizer", "pre_tokenizer"))
    usual = {"clean_text": True, "handle_chinese_chars": True}
    kinds = (model.get("type"), text.get("type"), words.get("type"))
    rules = (model.get("continuing_subword_prefix"), model.get("max_input_chars_per_word"))
    if kinds != ("WordPiece", "BertNormalizer", "BertPreTokenizer") or rules != ("##", 100):
        return None
    if any(text.get(name) is not value for name, value in usual.items()):
        return None
    lowercase, accents = bool(text.get("lowercase")), text.get("strip_accents")
    named = {number: piece for piece, number in model["vocab"].items()}
    special = set(tokenizer.order[: UNKNOWN + 1])
    return Pieces(
        kind="wordpiece",
        piece=tuple("" if number in special else named.get(number, "") for number in tokenizer.order),
        lowercase=lowercase,
        strip_accents=lowercase if accents is None else bool(accents),
    )


def _fields(content: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field of a message in the format of Protocol Buffers."""
    at = 0
    while at < len(content):
        key, at = _whole(content, at)
        kind = key & 7
        if kind == 0:
            value, at = _whole(content, at)
            yield key >> 3, value
            continue
        length, at = _whole(content, at) if kind == 2 else ({1: 8, 5: 4}[kind], at)
        yield key >> 3, content[at : at + length]
        at += length


def _whole(content: bytes, at: int) -> tuple[int, int]:
    """A number in groups of seven bits, the lowest first, and the place behind it."""
    value = shift = 0
    while True:
        byte = content[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
