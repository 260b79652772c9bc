"""A saved model of images and texts with a tokenizer, as a run of LiT leaves it, without any training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from support.lit_examples import ENCODER
from underpaint.core import DataInfo, Inputs
from underpaint.data.open_dataset import OpenDataset
from underpaint.models.text_tower import TextConfig
from underpaint.objectives.lit import LitConfig
from underpaint.run.outputs import save_outputs
from underpaint.texts.tokenizer import SENTENCEPIECE, Tokenizer
from underpaint.texts.training import train_tokenizer

WORDS = ("red", "green", "blue", "black", "wide", "tall", "box", "rot", "hund", "grün", "chien", "犬", "猫")
CONFIG = LitConfig(
    encoder=ENCODER,
    text=TextConfig(vocabulary=90, positions=34, width=16, depth=1, heads=2),
    width=12,
    tokens=32,
)


@dataclass(frozen=True, kw_only=True)
class Texts:
    """The texts of a run, as far as its outputs tell of them."""

    tokenizer: Tokenizer
    languages: Mapping[str, int]

    def for_inputs(self, inputs: Inputs) -> OpenDataset:
        raise NotImplementedError


def save_lit(folder: Path, *, seed: int = 0, languages: dict[str, int] | None = None) -> Path:
    """Random weights, large enough that embeddings differ."""
    model = CONFIG.build(DataInfo(seed=seed))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    folder.mkdir(parents=True)
    (folder / SENTENCEPIECE).write_bytes(train_tokenizer([f"{a} {b}" for a in WORDS for b in WORDS], vocabulary=90))
    texts = Texts(tokenizer=Tokenizer(folder / SENTENCEPIECE), languages=languages or {})
    info = DataInfo(seed=seed, images=1)
    save_outputs(folder, CONFIG, network=model, data_info=info, result={}, texts=texts)  # pyright: ignore[reportArgumentType]
    return folder
