"""A tokenizer of ours as the files that transformers loads it from."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from underpaint import files
from underpaint.texts.tokenizer import JSON, JsonTokenizer, TextTokenizer
from underpaint.texts.tokens import END, PAD, START, UNKNOWN

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
"""The first tokens of XLM-R, by their ids."""
UNIGRAM = 1
"""SentencePiece's number of the kind of model that XLM-R has."""


def write_tokenizer(folder: Path, tokenizer: TextTokenizer, tokens: int) -> None:
    """Write ``tokenizer.json`` and ``tokenizer_config.json`` for texts of at most ``tokens`` tokens.

    The file of a tokenizer of transformers is copied. A SentencePiece model becomes one with the ids of XLM-R.

    Raises:
        ValueError: for a SentencePiece model of another kind than unigram, or if the package ``tokenizers`` is missing.
    """
    if isinstance(tokenizer, JsonTokenizer):
        shutil.copyfile(tokenizer.file, folder / JSON)
        names = tokenizer.special
    else:
        _from_sentencepiece(tokenizer.file).save(str(folder / JSON))
        names = SPECIAL
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": names[START],
        "cls_token": names[START],
        "eos_token": names[END],
        "sep_token": names[END],
        "pad_token": names[PAD],
        "unk_token": names[UNKNOWN],
        "model_max_length": tokens,
    }
    files.write_json(folder / "tokenizer_config.json", settings)


def _from_sentencepiece(file: Path) -> Any:
    try:
        import tokenizers
        from sentencepiece import sentencepiece_model_pb2
    except ImportError as error:
        raise ValueError(f"{file} becomes a tokenizer of transformers with: pip install '.[text]' protobuf") from error
    from tokenizers import models, normalizers, pre_tokenizers, processors

    model: Any = sentencepiece_model_pb2.ModelProto()  # pyright: ignore[reportAttributeAccessIssue]
    model.ParseFromString(file.read_bytes())
    if model.trainer_spec.model_type != UNIGRAM:
        raise ValueError(f"{file} is not a unigram model of SentencePiece, the only kind that becomes one")
    pieces = [(piece.piece, piece.score) for piece in model.pieces]
    vocabulary = [*((name, 0.0) for name in SPECIAL), *pieces[3:], ("<mask>", 0.0)]
    made: Any = tokenizers.Tokenizer(models.Unigram(vocabulary, UNKNOWN, False))
    charsmap = model.normalizer_spec.precompiled_charsmap
    made.normalizer = normalizers.Sequence(
        [
            *([normalizers.Precompiled(charsmap)] if charsmap else []),
            normalizers.Strip(),
            normalizers.Replace(tokenizers.Regex(" {2,}"), " "),
        ]
    )
    made.pre_tokenizer = pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme="always")
    made.post_processor = processors.TemplateProcessing(
        f"{SPECIAL[START]} $A {SPECIAL[END]}", None, [(SPECIAL[START], START), (SPECIAL[END], END)]
    )
    made.add_special_tokens([*SPECIAL, "<mask>"])
    return made
