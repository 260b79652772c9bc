"""Foreign files of weights, opened without running anything they hold and without reading their tensors."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from underpaint import files
from underpaint.models.pieces import INDEX, WEIGHTS, InMemory, SafetensorsFiles, Tensors
from underpaint.weights.pickled import load_pickled
from underpaint.weights.wrapped_names import unwrapped

PICKLED = (".pt", ".pth", ".bin", ".torch", ".ckpt", ".tar")
WRAPPERS = ("model", "state_dict", "model_state_dict", "module", "encoder", "backbone")
"""Keys under which training code puts the tensors; they may be nested."""
MAX_WRAPPERS = 4
MAX_CARD_BYTES = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class OpenWeights:
    """The tensors of a file or folder, and the other content of both."""

    files: tuple[Path, ...]
    tensors: Tensors
    wrapped: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)  # arguments of the training run in a checkpoint
    beside: tuple[str, ...] = ()  # names of other entries of a checkpoint: optimizer, epoch
    config: Mapping[str, Any] = field(default_factory=dict)
    preprocessor: Mapping[str, Any] = field(default_factory=dict)
    licence: str = ""  # licence in the model card


def open_weights(path: Path) -> OpenWeights:
    """A ``.safetensors``, ``.pt`` or ``.pth`` file, or a folder that holds one and describes it in config.json.

    Raises:
        ValueError: if there is no such file, or it holds more than tensors and plain values.
    """
    if path.is_dir():
        return _open_folder(path)
    if not path.is_file():
        raise ValueError(f"{path} is neither a file nor a folder; give a file of weights or a folder with config.json")
    return _open_file(path)


def _open_folder(folder: Path) -> OpenWeights:
    weights = _weights_of(folder)
    pickled = [path for path in weights if path.suffix != ".safetensors"]
    opened = _open_file(pickled[0]) if pickled else _open_safetensors(weights)
    return OpenWeights(
        files=opened.files,
        tensors=opened.tensors,
        wrapped=opened.wrapped,
        arguments=opened.arguments,
        beside=opened.beside,
        config=_json(folder / "config.json"),
        preprocessor=_json(folder / "preprocessor_config.json"),
        licence=card_licence(folder / "README.md"),
    )


def _weights_of(folder: Path) -> list[Path]:
    """The files of a folder that are one network: safetensors before pickles, pieces where there is an index."""
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if (folder / INDEX).is_file():
        place = _json(folder / INDEX).get("weight_map")
        names = sorted(set(place.values())) if isinstance(place, dict) else []
        if not names or any(not isinstance(name, str) or Path(name).name != name for name in names):
            raise ValueError(f"{folder / INDEX} does not name the files that lie beside it")
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise ValueError(f"{folder} lacks {', '.join(missing[:5])}, which its index names")
        return [folder / name for name in names]
    files = sorted(p for p in folder.iterdir() if p.suffix in (".safetensors", *PICKLED) and p.is_file())
    if len(files) != 1:
        names = ", ".join(path.name for path in files[:5]) or "no file of weights"
        raise ValueError(f"{folder} holds {names}; give the one file to import")
    return files


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    value = files.read_json(path)
    if not isinstance(value, dict):
        raise ValueError(f"{path} does not hold a JSON object")
    return value


def card_licence(card: Path) -> str:
    """The licence in the head of a model card, or nothing; ``license: other`` has a name of its own."""
    if not card.is_file() or card.stat().st_size > MAX_CARD_BYTES:
        return ""
    head = re.match(r"---\s*\n(.*?)\n---", card.read_text(encoding="utf-8", errors="replace"), re.DOTALL)
    lines = dict(re.findall(r"^(licen[cs]e(?:_name)?):\s*['\"]?(.*?)['\"]?\s*$", head[1], re.MULTILINE) if head else ())
    licence = lines.get("license", lines.get("licence", ""))
    return lines.get("license_name", licence) if licence == "other" else licence


def _open_file(path: Path) -> OpenWeights:
    if path.suffix == ".safetensors":
        return _open_safetensors([path])
    if path.suffix not in PICKLED:
        raise ValueError(f"{path} is not a file of weights; known are .safetensors and {' '.join(PICKLED)}")
    content = load_pickled(path)
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds a {type(content).__name__}, not named tensors")
    inside, wrappers, around = content, list[str](), list[str]()
    for _ in range(MAX_WRAPPERS):  # a pickled mapping may hold itself
        wrapper = next((key for key in WRAPPERS if isinstance(inside.get(key), Mapping)), "")
        if not wrapper:
            break
        wrappers.append(wrapper)
        around += [str(name) for name in inside if name != wrapper]
        inside = inside[wrapper]
    values = {str(name): value for name, value in inside.items() if isinstance(value, Tensor)}
    others = [str(name) for name, value in inside.items() if not isinstance(value, Tensor)]
    if not values:
        raise ValueError(f"{path} holds no tensors, only {', '.join(map(str, list(inside)[:6])) or 'nothing'}")
    arguments = content.get("args") if wrappers else None
    return OpenWeights(
        files=(path,),
        tensors=unwrapped(InMemory(values), path.name),
        wrapped=wrappers == ["model"],
        arguments=vars(arguments) if isinstance(arguments, argparse.Namespace) else {},
        beside=(*others, *around),
    )


def _open_safetensors(paths: Sequence[Path]) -> OpenWeights:
    tensors = unwrapped(SafetensorsFiles(paths), " and ".join(path.name for path in paths[:2]))
    return OpenWeights(files=tuple(paths), tensors=tensors)
