"""A SentencePiece tokenizer trained on the texts of a data set, for text towers that start from scratch."""

from __future__ import annotations

import heapq
import io
from collections.abc import Iterable, Iterator

import xxhash

MOST_TEXTS = 1_000_000
"""Largest number of texts that a tokenizer is trained on, drawn by their hash."""
OUTSIDE = 2
"""Ids of a tokenizer that SentencePiece does not have: padding and mask."""


def train_tokenizer(texts: Iterable[str], *, vocabulary: int) -> bytes:
    """A unigram model of at most ``vocabulary`` ids, the same for the same texts in any order.

    Raises:
        ValueError: if there are fewer ids than the letters of the texts need, or ``sentencepiece`` is not installed.
    """
    try:
        import sentencepiece
    except ModuleNotFoundError as error:
        raise ValueError("texts need the package sentencepiece: pip install '.[text]'") from error
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_chosen(texts),
            model_writer=model,
            vocab_size=vocabulary - OUTSIDE,
            hard_vocab_limit=False,  # a few texts have fewer pieces
            max_sentence_length=1 << 17,  # bytes; longer texts would be left out silently
            num_threads=1,  # threads would change the last bits of the pieces' scores
            minloglevel=2,
        )
    except RuntimeError as error:
        reason = str(error).rpartition("] ")[2] or str(error)
        raise ValueError(
            f"no tokenizer of {vocabulary:,} ids can be trained on these texts: {reason}; choose another "
            f"objective.text.vocabulary"
        ) from error
    return model.getvalue()


def _chosen(texts: Iterable[str]) -> Iterator[str]:
    """Distinct texts in an order of their own, a part of them drawn by hash where there are very many."""
    hashed = {(xxhash.xxh3_64_intdigest(text.encode()), text) for text in _bounded(texts)}
    return (text for _, text in heapq.nsmallest(MOST_TEXTS, hashed))


def _bounded(texts: Iterable[str]) -> Iterator[str]:
    """Texts whose hash lies below a limit that falls as there are more of them, so that memory is bounded."""
    limit, kept = 1 << 64, list[tuple[int, str]]()
    for text in texts:
        value = xxhash.xxh3_64_intdigest(text.encode())
        if value < limit:
            kept.append((value, text))
        if len(kept) > 4 * MOST_TEXTS:
            kept = heapq.nsmallest(MOST_TEXTS, set(kept))
            limit = kept[-1][0]
    return (text for _, text in kept)
