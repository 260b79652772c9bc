"""Small untrained runs of LiT with both kinds of tokenizer, as the folders that a run leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer as TheirTokenizer
from tokenizers import models, normalizers, pre_tokenizers, processors

from support.clip_examples import sentencepiece_bytes
from support.lit_examples import CONFIG
from underpaint.core import DataInfo
from underpaint.models.ngram_tower import NgramConfig, NgramTower
from underpaint.objectives.lit import LitConfig
from underpaint.run.outputs import save_outputs
from underpaint.texts.tokenizer import TextTokenizer, open_tokenizer

NGRAMS = NgramConfig(vocabulary=90, width=16, branch=6, hidden=10, norm_eps=1e-6)
WORDS = ("a", "red", "cat", "in", "the", "snow", "dog", "##s", "words")
SPARE = 7
"""Embeddings of the text tower that no id of the tokenizer has."""
LIT_CONFIGS: dict[str, LitConfig] = {
    "sentencepiece": replace(CONFIG, logit_scale=90.0),
    "word_pieces": replace(CONFIG, loss="sigmoid", logit_bias=-3.5, text_pooling="mean"),
    "ngrams": replace(CONFIG, text=NGRAMS, text_from="./gone", locked_text=True),
}


def word_pieces(path: Path) -> None:
    """A WordPiece tokenizer with BERT's order of ids: [PAD], something unused, [UNK], [CLS], [SEP], words."""
    order = ("[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", *WORDS)
    vocabulary = {word: number for number, word in enumerate(order)}
    made: Any = TheirTokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))  # pyright: ignore[reportCallIssue]
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 3), ("[SEP]", 4)])
    made.enable_truncation(4)
    made.enable_padding(length=9)
    made.save(str(path))


@dataclass(frozen=True)
class Texts:
    """The part of a run's data that is saved with its model."""

    tokenizer: TextTokenizer
    languages: Mapping[str, int]

    def for_inputs(self, inputs: Any) -> Any:
        return self


@torch.no_grad()
def fill_table(tower: NgramTower) -> None:
    """Draw the embeddings, which no run trains."""
    generator, table = torch.Generator().manual_seed(3), tower.token_embed
    table.codes.copy_(torch.randint(0, 64, table.codes.shape, generator=generator))
    table.scale.copy_(0.01 + 0.1 * torch.rand(table.scale.shape, generator=generator))
    table.lowest.copy_(-torch.rand(table.lowest.shape, generator=generator))


def lit_folder(folder: Path, kind: str) -> Path:
    """A run of LiT that is finished as far as its model goes, with weights that all matter."""
    folder.mkdir(parents=True)
    file = folder / ("tokenizer.json" if kind == "word_pieces" else "made.model")
    if kind == "word_pieces":
        word_pieces(file)
    else:
        file.write_bytes(sentencepiece_bytes())
    tokenizer = open_tokenizer(file)
    text = replace(LIT_CONFIGS[kind].text, vocabulary=tokenizer.vocabulary + SPARE)
    config = replace(LIT_CONFIGS[kind], text=text)
    network = config.build(DataInfo(seed=0))
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if not name.startswith("logit"):
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        if isinstance(network.text, NgramTower):
            fill_table(network.text)
        network.logit_scale += 0.5  # above ln 100 for the first
    result: Any = {}
    texts: Any = Texts(tokenizer, {"en": 3})
    save_outputs(folder, config, network=network, data_info=DataInfo(seed=0), result=result, texts=texts)
    file.unlink()
    return folder
