"""Text towers to start from: encoders of transformers in local folders, and towers that this package saved.

BERT, RoBERTa, XLM-R, CamemBERT and DistilBERT are one network up to the names of their tensors: post-norm, exact GELU,
learned positions. Positions of BERT begin at 0, where RoBERTa's begin behind two rows, and its constant embedding of
the first segment is added to the positions; so the text tower here has one form. The multilingual universal sentence
encoder has another (``ngram_tower.py``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from underpaint import config as configs
from underpaint import files
from underpaint.models import ngram_start
from underpaint.models.image_text import TextPooling
from underpaint.models.ngram_tower import NgramConfig
from underpaint.models.pieces import SafetensorsFiles, require_finite
from underpaint.models.text_tower import TextConfig
from underpaint.models.weights import load_tokenizer, open_tensors, read_config
from underpaint.texts.packages import text_tower_folder
from underpaint.texts.tokenizer import JsonTokenizer, TextTokenizer, open_tokenizer
from underpaint.texts.tokens import PAD

BERT = {
    "token_embed": "embeddings.word_embeddings",
    "pos_embed": "embeddings.position_embeddings",
    "norm": "embeddings.LayerNorm",
    "q": "encoder.layer.{i}.attention.self.query",
    "k": "encoder.layer.{i}.attention.self.key",
    "v": "encoder.layer.{i}.attention.self.value",
    "attn.proj": "encoder.layer.{i}.attention.output.dense",
    "norm1": "encoder.layer.{i}.attention.output.LayerNorm",
    "mlp.fc1": "encoder.layer.{i}.intermediate.dense",
    "mlp.fc2": "encoder.layer.{i}.output.dense",
    "norm2": "encoder.layer.{i}.output.LayerNorm",
}
DISTILBERT = {
    **{name: BERT[name] for name in ("token_embed", "pos_embed", "norm")},
    "q": "transformer.layer.{i}.attention.q_lin",
    "k": "transformer.layer.{i}.attention.k_lin",
    "v": "transformer.layer.{i}.attention.v_lin",
    "attn.proj": "transformer.layer.{i}.attention.out_lin",
    "norm1": "transformer.layer.{i}.sa_layer_norm",
    "mlp.fc1": "transformer.layer.{i}.ffn.lin1",
    "mlp.fc2": "transformer.layer.{i}.ffn.lin2",
    "norm2": "transformer.layer.{i}.output_layer_norm",
}
SEGMENTS = "embeddings.token_type_embeddings.weight"
NAMES = {"bert": BERT, "roberta": BERT, "xlm-roberta": BERT, "camembert": BERT, "distilbert": DISTILBERT}
"""The names of tensors by ``model_type``."""
FROM_ZERO = {"bert", "distilbert"}
"""Kinds whose first token has position 0."""
CAPTION_LANGUAGES = "caption_languages"
"""Field of ``model/config.json``: number of training captions by language, "" where nobody says it."""
START_LANGUAGES = "text_start_languages"
"""Field of ``model/config.json``: languages that the text tower knew before the run."""
POOLING_FILE = Path("1_Pooling") / "config.json"
"""File of sentence-transformers that says how tokens become the feature of a text."""


@dataclass(frozen=True, kw_only=True)
class TextStart:
    """A text tower in a folder; its tensors are read when they are asked for."""

    folder: Path
    config: TextConfig | NgramConfig
    pooling: TextPooling
    weights: tuple[Path, ...]
    tensors: Callable[[], dict[str, Tensor]]
    """The tensors by the names that they have in a ``TextTower``."""
    tokenizer: Callable[[], TextTokenizer]
    languages: tuple[str, ...] = ()
    """Languages that it was trained on, as far as they are known."""

    def content_hash(self) -> str:
        """The checksums of weights and tokenizer."""
        return "+".join([*map(files.xxh3, self.weights), self.tokenizer().xxh3])

    def require_fit(self, text: TextConfig | NgramConfig, pooling: TextPooling) -> None:
        """Raise ValueError, with the overrides to add, for an objective with a text tower of another form."""
        if type(self.config) is not type(text):
            raise ValueError(
                f"objective.text_from={self.folder} is a text tower of the class {type(self.config).__name__}, and "
                f"that of this recipe a {type(text).__name__}; take lit_multilingual for a NgramConfig, and another "
                f"recipe of LiT for a TextConfig"
            )
        changes = [
            f"objective.text.{field.name}={getattr(self.config, field.name)}"
            for field in fields(self.config)
            if getattr(self.config, field.name) != getattr(text, field.name)
        ]
        changes += [f"objective.text_pooling={self.pooling}"] if pooling != self.pooling else []
        if changes:
            raise ValueError(
                f"objective.text_from={self.folder} is a text tower of another form than this run's; add "
                f"{' '.join(changes)}"
            )


def open_text_start(folder: str | Path) -> TextStart:
    """The text tower in a folder of transformers, in the ``model/`` of a finished run of LiT, or in an imported model.

    A name of ``texts.packages.PACKAGES`` is the folder of an installed package.

    Raises:
        ValueError: if there is none, or one of another architecture.
    """
    folder = text_tower_folder(folder)
    if (folder / ngram_start.WEIGHTS).is_file():
        return _of_package(folder)
    folder = folder / "model" if (folder / "model" / "config.json").is_file() else folder
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder} holds no text tower: config.json is missing; name a folder on this machine")
    about = files.read_json(folder / "config.json")
    if isinstance(about, dict) and "model_type" in about:
        return _of_transformers(folder, about)
    return _of_ours(folder)


def _of_package(folder: Path) -> TextStart:
    config = NgramConfig()
    return TextStart(
        folder=folder,
        config=config,
        pooling="first",
        weights=(folder / ngram_start.WEIGHTS,),
        tensors=lambda: _checked(ngram_start.read_weights(folder, config), folder),
        tokenizer=lambda: open_tokenizer(folder),
        languages=ngram_start.LANGUAGES,
    )


def _of_ours(folder: Path) -> TextStart:
    description = read_config(folder / "config.json")
    recorded = description.get("config")
    if not isinstance(recorded, dict) or not isinstance(recorded.get("text"), dict):
        raise ValueError(f"{folder} holds a network without a text tower; name a run of LiT")
    kind = NgramConfig if recorded["text"].get("type") == NgramConfig.__name__ else TextConfig
    config = configs.from_record(kind, recorded["text"], where=str(folder / "config.json"))
    stored = open_tensors(folder)

    def tensors() -> dict[str, Tensor]:
        names = [name for name in stored.info if name.startswith("text.")]
        return _checked({name.removeprefix("text."): _as_built(stored.read(name)) for name in names}, folder)

    return TextStart(
        folder=folder,
        config=config,
        pooling="mean" if recorded.get("text_pooling") == "mean" else "first",
        weights=tuple(sorted(folder.glob("*.safetensors"))),
        tensors=tensors,
        tokenizer=lambda: load_tokenizer(folder),
        languages=text_languages(description),
    )


def text_languages(description: Mapping[str, object]) -> tuple[str, ...]:
    """Languages that a saved text tower was trained on: those of its captions, and those of its own start."""
    captions, before = description.get(CAPTION_LANGUAGES), description.get(START_LANGUAGES)
    named = [*(captions if isinstance(captions, dict) else ()), *(before if isinstance(before, list) else ())]
    return tuple(dict.fromkeys(str(language) for language in named if language))


def _as_built(value: Tensor) -> Tensor:
    """Weights in fp32; a table of 8-bit numbers stays one."""
    return value.float() if value.is_floating_point() else value


def _of_transformers(folder: Path, about: dict[str, Any]) -> TextStart:
    kind = str(about["model_type"])
    if kind not in NAMES:
        raise ValueError(
            f"{folder} holds a {kind!r} of transformers; text towers are made of {', '.join(sorted(NAMES))}"
        )
    weights = tuple(sorted(folder.glob("model*.safetensors")))
    if not weights:
        raise ValueError(f"{folder} has no model.safetensors; save the model with transformers' save_pretrained")
    config = _text_config(folder, about, kind)

    def tokenizer() -> TextTokenizer:
        return open_tokenizer(folder)

    return TextStart(
        folder=folder,
        config=config,
        pooling=_pooling(folder),
        weights=weights,
        tensors=lambda: _checked(_renamed(SafetensorsFiles(weights), config, kind, tokenizer()), folder),
        tokenizer=tokenizer,
    )


def _text_config(folder: Path, about: dict[str, Any], kind: str) -> TextConfig:
    """The form of the tower, which DistilBERT's config names otherwise than BERT's."""
    names = {"width": "hidden_size", "depth": "num_hidden_layers", "heads": "num_attention_heads"}
    names |= {"hidden": "intermediate_size", "act": "hidden_act"}
    if kind == "distilbert":
        names = {"width": "dim", "depth": "n_layers", "heads": "n_heads", "hidden": "hidden_dim", "act": "activation"}
    sizes = {name: about.get(theirs) for name, theirs in names.items() if name != "act"}
    sizes |= {name: about.get(name) for name in ("vocab_size", "max_position_embeddings")}
    if wrong := [name for name, value in sizes.items() if not isinstance(value, int) or value < 1]:
        raise ValueError(f"{folder / 'config.json'} has no whole number for {names.get(wrong[0], wrong[0])}")
    width, hidden, positions = (int(sizes[name] or 0) for name in ("width", "hidden", "max_position_embeddings"))
    act, placed = about.get(names["act"], "gelu"), about.get("position_embedding_type", "absolute")
    if act != "gelu" or placed != "absolute" or hidden % width:
        raise ValueError(
            f"{folder} has {names['act']}={act!r}, position_embedding_type={placed!r} and an MLP of {hidden} at width "
            f"{width}; the text tower has 'gelu', 'absolute' and a whole multiple"
        )
    return TextConfig(
        vocabulary=int(sizes["vocab_size"] or 0),
        positions=positions + (PAD + 1 if kind in FROM_ZERO else 0),
        width=width,
        depth=int(sizes["depth"] or 0),
        heads=int(sizes["heads"] or 0),
        mlp_ratio=hidden // width,
        norm_eps=float(about.get("layer_norm_eps", 1e-12)),
    )


def _pooling(folder: Path) -> TextPooling:
    about = files.read_json(folder / POOLING_FILE) if (folder / POOLING_FILE).is_file() else {}
    return "mean" if isinstance(about, dict) and about.get("pooling_mode_mean_tokens") is True else "first"


def _renamed(stored: SafetensorsFiles, config: TextConfig, kind: str, tokenizer: TextTokenizer) -> dict[str, Tensor]:
    names = NAMES[kind]
    suffix = f"{names['token_embed']}.weight"
    pattern = re.compile(rf"(\w+\.)?{re.escape(suffix)}")
    prefixes = [name.removesuffix(suffix) for name in stored.info if pattern.fullmatch(name)]
    if not prefixes:
        raise ValueError(f"the weights have no tensor {suffix}: they are not those of a {kind}")

    def read(name: str) -> Tensor:
        if prefixes[0] + name not in stored.info:
            raise ValueError(f"the weights have no tensor {prefixes[0] + name}: they are not those of this {kind}")
        return stored.read(prefixes[0] + name).float()

    def pair(ours: str, theirs: str) -> dict[str, Tensor]:
        return {f"{ours}.{part}": read(f"{theirs}.{part}") for part in ("weight", "bias")}

    embeddings, positions = read(suffix), read(f"{names['pos_embed']}.weight")
    if isinstance(tokenizer, JsonTokenizer):
        order = [*tokenizer.order, *range(tokenizer.vocabulary, len(embeddings))]
        embeddings = embeddings[torch.tensor(order[: len(embeddings)])]
    if kind in FROM_ZERO:
        positions = torch.cat([torch.zeros(PAD + 1, positions.shape[1]), positions])
    if prefixes[0] + SEGMENTS in stored.info:
        positions = positions + read(SEGMENTS)[0]
    tensors = {"token_embed.weight": embeddings, "pos_embed.weight": positions, **pair("norm", names["norm"])}
    for number in range(config.depth):
        theirs = {ours: name.replace("{i}", str(number)) for ours, name in names.items()}
        for ours in ("attn.proj", "norm1", "mlp.fc1", "mlp.fc2", "norm2"):
            tensors |= pair(f"blocks.{number}.{ours}", theirs[ours])
        for part in ("weight", "bias"):
            tensors[f"blocks.{number}.attn.qkv.{part}"] = torch.cat([read(f"{theirs[x]}.{part}") for x in "qkv"])
    return tensors


def _checked(tensors: dict[str, Tensor], folder: Path) -> dict[str, Tensor]:
    for name, value in tensors.items():
        require_finite(value, name, where=str(folder))
    return tensors
