"""A saved model of images and texts with a tokenizer, as a run of LiT leaves it, without any training."""

from __future__ import annotations

from pathlib import Path

import torch

from support.lit_examples import ENCODER
from underpaint.core import DataInfo
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


def save_lit(folder: Path, *, seed: int = 0) -> Path:
    """Random weights, large enough that embeddings differ."""
    model = CONFIG.build(DataInfo(seed=seed))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    folder.mkdir(parents=True)
    (folder / SENTENCEPIECE).write_bytes(train_tokenizer([f"{a} {b}" for a in WORDS for b in WORDS], vocabulary=90))
    tokenizer = Tokenizer(folder / SENTENCEPIECE)
    info = DataInfo(seed=seed, images=1)
    save_outputs(folder, CONFIG, network=model, data_info=info, result={}, tokenizer=tokenizer)  # pyright: ignore[reportArgumentType]
    return folder
