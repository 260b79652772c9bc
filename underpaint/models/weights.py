"""Folders that hold a network: ``config.json`` + ``model.safetensors``, written whole, checked before they are read.

Networks above 4 GiB have several files of weights (pieces.py).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from underpaint import config as configs
from underpaint import files
from underpaint.models.init import Values
from underpaint.models.pieces import (
    INDEX,
    PIECE_BYTES,
    WEIGHTS,
    InMemory,
    PieceRecord,
    SafetensorsFiles,
    Tensors,
    require_finite,
    write_pieces,
)
from underpaint.models.vit import ViT, ViTConfig
from underpaint.texts.tokenizer import FOLDER, SENTENCEPIECE, TextTokenizer, open_tokenizer

FORMAT = 1

FORM = ("patch", "channels", "width", "depth", "heads", "mlp_ratio", "norm_eps")
"""The fields of an encoder's config that must be equal for the weights of one to do in another."""

M = TypeVar("M", bound=nn.Module)
V = TypeVar("V", bound=ViT)
DECODER_POSITIONS = "decoder.decoder_pos_embed"
TOKENIZER = Path(FOLDER) / SENTENCEPIECE
"""Path of XLM-R's tokenizer within the folder of a network for texts."""


def save_module(
    folder: Path, module: nn.Module, description: Mapping[str, object], beside: Mapping[str, object] | None = None
) -> None:
    """Write a module's tensors, its description and other JSON files; ``folder`` appears whole or not at all."""
    save_tensors(folder, InMemory(module.state_dict()), description, beside)


def save_tensors(
    folder: Path, tensors: Tensors, description: Mapping[str, object], beside: Mapping[str, object] | None = None
) -> None:
    """The same from tensors that are read one at a time; a path in ``beside`` is a file to copy."""
    with files.new_folder(folder) as part:
        pieces = write_pieces(part, tensors, limit=PIECE_BYTES)
        for name, value in (beside or {}).items():
            if isinstance(value, Path):
                (part / name).parent.mkdir(exist_ok=True)
                shutil.copyfile(value, part / name)
            else:
                files.write_json(part / name, value)
        weights = pieces[WEIGHTS] if len(pieces) == 1 else _together(pieces)
        files.write_json(part / "config.json", {"format": FORMAT, **description, "weights": weights})


def _together(pieces: dict[str, PieceRecord]) -> dict[str, object]:
    """Size and checksum of all files together: the checksum of their checksums."""
    import xxhash

    digest = xxhash.xxh3_64("".join(piece["xxh3"] for piece in pieces.values()).encode()).hexdigest()
    return {"size": sum(piece["size"] for piece in pieces.values()), "xxh3": digest, "pieces": pieces}


def holds_network(folder: Path) -> bool:
    return (folder / WEIGHTS).is_file() or (folder / INDEX).is_file()


def read_description(folder: Path) -> dict[str, Any]:
    """The checked ``config.json`` of a network's folder.

    Raises:
        ValueError: if the folder is none, comes from a newer release, or its weights are not those that were saved.
    """
    path = folder / "config.json"
    missing = [] if path.is_file() else [str(path)]
    missing += [] if holds_network(folder) else [str(folder / WEIGHTS)]
    if missing:
        raise ValueError(f"{folder} holds no saved network: {' and '.join(missing)} missing")
    description = read_config(path)
    for name, expected in _pieces(path, description).items():
        file = folder / name
        size = file.stat().st_size if file.is_file() else 0
        if not isinstance(expected, dict) or size != expected.get("size"):
            raise ValueError(f"{file} has {size} bytes, not what {path} says; the file is damaged")
        if files.xxh3(file) != expected.get("xxh3"):
            raise ValueError(f"{file} does not match the checksum in {path}; the file is damaged")
    return description


def read_config(path: Path) -> dict[str, Any]:
    """A network's ``config.json`` without a look at its weights.

    Raises:
        ValueError: if it is not such a file, or comes from a newer release.
    """
    description = files.read_json(path)
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise ValueError(f"{path} is not of format {FORMAT}; it may come from a newer release of underpaint")
    return description


def _pieces(path: Path, description: Mapping[str, object]) -> dict[str, object]:
    """The files of weights that a description names, with its entry for each."""
    weights = description.get("weights")
    if not isinstance(weights, dict) or "pieces" not in weights:
        return {WEIGHTS: weights}
    pieces = weights["pieces"]
    if not isinstance(pieces, dict) or any(Path(name).name != name for name in pieces):
        raise ValueError(f"{path} lists files of weights that do not lie beside it; it is damaged")
    return pieces


def open_tensors(folder: Path) -> SafetensorsFiles:
    """The tensors of a network's folder, whose description was checked, to be read one at a time."""
    description = files.read_json(folder / "config.json")
    return SafetensorsFiles(folder / name for name in _pieces(folder / "config.json", description))


@torch.no_grad()
def load_module(folder: Path, build: Callable[[], M]) -> M:
    """The network that ``build`` makes, in evaluation mode and filled from its folder, tensor by tensor.

    Its tensors are compared with those of the files before memory is taken for them: a ``config.json`` of a few bytes
    may ask for any amount.

    Raises:
        ValueError: if a name or a shape does not fit, or a value is NaN or infinite.
    """
    stored = open_tensors(folder)
    with torch.device("meta"):
        _require_fit(folder, stored, build())
    module = build()
    for name, value in module.state_dict().items():
        tensor = stored.read(name)
        require_finite(tensor, name, where=str(folder))
        value.copy_(tensor)
    return module.eval()


def _require_fit(folder: Path, stored: Tensors, module: nn.Module) -> None:
    expected = module.state_dict()
    if stored.info.keys() != expected.keys():
        names = ", ".join(sorted(stored.info.keys() ^ expected.keys())[:5])
        raise ValueError(f"the weights in {folder} and its config.json disagree on the tensors: {names}")
    for name, (shape, _) in stored.info.items():
        if shape != tuple(expected[name].shape):
            raise ValueError(f"{folder}: {name} has shape {shape}, expected {tuple(expected[name].shape)}")


def load_tokenizer(folder: str | Path) -> TextTokenizer:
    """The tokenizer of a model for images and texts, from its ``model/`` or the folder above: texts to ids.

    Raises:
        ValueError: if there is none, it is not the one that the text tower was trained with, or the package that it
            needs is not installed.
    """
    folder = Path(folder)
    folder = folder / "model" if (folder / "model").is_dir() else folder
    config = folder / "config.json"
    said = files.read_json(config).get("tokenizer") if config.is_file() else None
    if not isinstance(said, dict) or not (folder / FOLDER).is_dir():
        raise ValueError(f"{folder} holds no tokenizer ({TOKENIZER}); name a model for images and texts")
    return open_tokenizer(folder)


def save_encoder(folder: Path, encoder: ViT, origin: Mapping[str, object] | None = None) -> None:
    """``origin`` says where imported weights came from that this encoder was made from, and their licence."""
    description = {"type": "vit", "config": configs.record(encoder.config)}
    save_module(folder, encoder, description if origin is None else {**description, "origin": origin})


def origin_of(init_from: str) -> dict[str, object] | None:
    """Origin of the weights that a run starts from, or None if neither they nor those before them were imported."""
    if not init_from:
        return None
    return files.read_json(encoder_folder(init_from) / "config.json").get("origin")


def encoder_folder(folder: str | Path) -> Path:
    """A run folder or its ``encoder/``: where the encoder's files are.

    Raises:
        ValueError: if there is no encoder, saying whether the run is unfinished.
    """
    folder = Path(folder)
    for candidate in (folder / "encoder", folder):
        if holds_network(candidate):
            return candidate
    if (folder / "run.json").is_file():
        raise ValueError(f"{folder} is a run that has not finished: it has no encoder/ yet; continue it first")
    raise ValueError(f"{folder} holds no encoder; give a finished run folder or its encoder/ folder")


def load_encoder(folder: str | Path) -> ViT:
    """The encoder of a finished run, in evaluation mode on the CPU.

    Called on float images (b, c, h, w), normalised with ``encoder.config.mean`` and ``.std`` from values in [0, 1], it
    returns tokens (b, 1 + n, d), cls first.

    Raises:
        ValueError: if the folder holds no encoder or a damaged one.
    """
    return load_encoder_as(ViT, folder)


def load_encoder_as(kind: type[V], folder: str | Path) -> V:
    """The same as a class of its own."""
    folder = encoder_folder(folder)
    read_description(folder)
    config = read_encoder_config(folder)
    return load_module(folder, lambda: kind(config))


def read_encoder_config(folder: str | Path) -> ViTConfig:
    """The config of a stored encoder whose tensors have the names and shapes that it tells; no tensor is read.

    Raises:
        ValueError: if the folder holds no encoder, or its tensors are those of another.
    """
    folder = encoder_folder(folder)
    description = read_config(folder / "config.json")
    if description.get("type") != "vit":
        raise ValueError(
            f"{folder} holds a {description.get('type')!r}, not an encoder; give the run's encoder/ folder"
        )
    config = configs.from_record(ViTConfig, description.get("config"), where=str(folder / "config.json"))
    with torch.device("meta"):
        _require_fit(folder, open_tensors(folder), ViT(config))
    return config


def require_same_form(
    target: ViTConfig, source: ViTConfig, *, run: str = "this run", start: str = "the encoder to start from"
) -> None:
    """Raises ValueError if the weights of ``source`` do not fit into ``target``; image sizes may differ."""
    for name in FORM:
        old, new = getattr(source, name), getattr(target, name)
        if old != new:
            raise ValueError(f"{start} has {name}={old}, {run} has {name}={new}; make them equal")


class TrainedEncoder(NamedTuple):
    """An encoder to start from, whose tensors are read one at a time."""

    config: ViTConfig
    tensors: Values


def open_trained(folder: str | Path) -> TrainedEncoder:
    """The encoder of a finished run with its tensors on disk, so that a process that keeps parts never holds it whole.

    Raises:
        ValueError: if the folder holds no encoder or a damaged one; while reading, if a value is NaN or infinite.
    """
    folder = encoder_folder(folder)
    read_description(folder)
    stored = open_tensors(folder)

    def read(name: str) -> Tensor:
        tensor = stored.read(name)
        require_finite(tensor, name, where=str(folder))
        return tensor

    return TrainedEncoder(read_encoder_config(folder), {name: partial(read, name) for name in stored.info})


def start_from(encoder: ViT, source: TrainedEncoder, *, reset_final_norm: bool) -> None:
    """Copy an earlier stage's encoder into a new one: the hand-over between stages (paper.md 1.5).

    Positions are resized where the grids differ. The final norm is left as initialised with ``reset_final_norm``
    (unknown in the paper), or where the new encoder has none.

    Raises:
        ValueError: if the architectures differ.
    """
    names = encoder.state_dict().keys()
    fill(encoder, values_to_start_from(encoder.config, names, source, reset_final_norm=reset_final_norm))


@torch.no_grad()
def fill(module: nn.Module, values: Mapping[str, Callable[[], Tensor]]) -> None:
    """Copy values into the tensors of their names, one at a time; the others stay."""
    kept = module.state_dict()
    for name, value in values.items():
        kept[name].copy_(value())


def values_to_start_from(
    target: ViTConfig, names: Iterable[str], source: TrainedEncoder, *, reset_final_norm: bool
) -> Values:
    """The tensors of ``source`` for those of ``names`` that an encoder of another image size takes from it.

    Raises:
        ValueError: if the architectures differ.
    """
    require_same_form(target, source.config)
    positions = source.tensors["pos_embed"]

    def resized() -> Tensor:
        return resize_positions(positions(), source.config.grid, target.grid)

    tensors = {**source.tensors, "pos_embed": resized}
    taken = [name for name in names if name in tensors and not (reset_final_norm and name.startswith("norm."))]
    return {name: tensors[name] for name in taken}


def at_size(encoder: ViT, size: tuple[int, int]) -> ViT:
    """The encoder for images of another size, its positions resized; all other weights are shared with it.

    Raises:
        ValueError: if its patches do not divide the size.
    """
    config = replace(encoder.config, size=size)
    with torch.device("meta"):
        resized = ViT(config)
    tensors = encoder.state_dict()
    tensors["pos_embed"] = resize_positions(tensors["pos_embed"], encoder.config.grid, config.grid)
    resized.load_state_dict(tensors, assign=True)
    return resized.train(encoder.training)


def decoder_to_start_from(init_from: str, shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """The tensors ``decoder.*`` of ``init_from/model``, if it has just those of ``shapes``, else none.

    Its positions are not weights: for another image size those of the new decoder stay. With ``init_from`` naming an
    ``encoder/`` folder the decoder beside it is left behind.

    Raises:
        ValueError: if a value of it is NaN or infinite.
    """
    folder = Path(init_from) / "model"
    wanted = {name: tuple(shape) for name, shape in shapes.items() if name.startswith("decoder.")}
    if not wanted or not holds_network(folder):
        return {}
    read_description(folder)
    stored = open_tensors(folder)
    stored_shapes = {name: info.shape for name, info in stored.info.items() if name.startswith("decoder.")}
    if stored_shapes.get(DECODER_POSITIONS) != wanted.get(DECODER_POSITIONS):
        for names in (stored_shapes, wanted):
            names.pop(DECODER_POSITIONS, None)
    if stored_shapes != wanted:
        return {}
    tensors = {name: stored.read(name).float() for name in wanted}
    for name, value in tensors.items():
        require_finite(value, name, where=str(folder))
    return tensors


def resize_positions(
    positions: Float[Tensor, "1 old d"], old: tuple[int, int], new: tuple[int, int]
) -> Float[Tensor, "1 new d"]:
    """Bicubic resize of the grid rows, the cls row kept; corners are not aligned (MAE; paper.md 2.2)."""
    if old == new:
        return positions
    cls, grid = positions[:, :1], positions[:, 1:]
    grid = grid.reshape(1, *old, -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=new, mode="bicubic", align_corners=False)
    return torch.cat([cls, grid.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)
