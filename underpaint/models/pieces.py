"""Tensors on disk, read and written one at a time: networks larger than memory, in safetensors files of some size."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol, TypedDict, runtime_checkable

import torch
from torch import Tensor

from underpaint import files

PIECE_BYTES = 4 * 1024**3
"""Largest file of tensors; a single larger tensor gets a separate file."""
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
"""Which file each tensor is in, where there are several; the form that Hugging Face reads."""

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""The types of the safetensors format that occur in networks."""
NAMES = {dtype: name for name, dtype in DTYPES.items()}


class Info(NamedTuple):
    """Shape and type of a tensor, known before it is read."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def nbytes(self) -> int:
        count = self.dtype.itemsize
        for side in self.shape:
            count *= side
        return count


class PieceRecord(TypedDict):
    """Size in bytes and checksum of a file of tensors."""

    size: int
    xxh3: str


@runtime_checkable
class _Opened(Protocol):
    """A file that ``safetensors.safe_open`` opened."""

    def get_tensor(self, name: str) -> Tensor: ...


@runtime_checkable
class Tensors(Protocol):
    """Named tensors of which each is read when it is asked for."""

    info: Mapping[str, Info]

    def read(self, name: str) -> Tensor: ...


class InMemory:
    """The tensors of a state dict."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = tensors
        self.info: Mapping[str, Info] = {name: Info(tuple(t.shape), t.dtype) for name, t in tensors.items()}

    def read(self, name: str) -> Tensor:
        return self.tensors[name]


class SafetensorsFiles:
    """The tensors of one or several safetensors files.

    Raises:
        ValueError: for a file that is none, a type of tensor that no network has, or a name that two files hold.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        from safetensors import SafetensorError, safe_open

        self._file: dict[str, _Opened] = {}
        info: dict[str, Info] = {}
        for path in paths:
            try:
                file = safe_open(path, framework="pt")
            except SafetensorError as error:
                raise ValueError(f"{path} is not a safetensors file, or is damaged: {error}") from error
            except RuntimeError as error:  # torch maps it as if it would be written to
                raise ValueError(f"{path} is larger than the memory here; save it in several files: {error}") from error
            for name in file.keys():  # noqa: SIM118  an opened file is not a mapping
                part = file.get_slice(name)
                if name in info or part.get_dtype() not in DTYPES:
                    wrong = "stands in two files" if name in info else f"is of type {part.get_dtype()}"
                    raise ValueError(f"{path}: {name} {wrong}, which cannot be used")
                info[name] = Info(tuple(part.get_shape()), DTYPES[part.get_dtype()])
                self._file[name] = file
        self.info: Mapping[str, Info] = info

    def read(self, name: str) -> Tensor:
        return self._file[name].get_tensor(name)


class Derived:
    """Tensors made from others: each has its info, and ``make`` computes it when it is read."""

    def __init__(self, info: Mapping[str, Info], make: Callable[[str], Tensor]) -> None:
        self.info = info
        self.make = make

    def read(self, name: str) -> Tensor:
        return self.make(name)


def require_finite(value: Tensor, name: str, where: str) -> None:
    """Raises ValueError for a tensor with values that are NaN or infinite, saying how many; ``where`` it comes from."""
    if not value.numel() or all(end.isfinite() for end in value.aminmax()):  # counting takes memory, this none
        return
    bad = value.numel() - int(value.isfinite().sum())
    raise ValueError(
        f"{where} cannot be used: {bad:,} of the {value.numel():,} values of {name} are NaN or infinite; its "
        f"training diverged or the file is damaged, so take an earlier checkpoint"
    )


def write_pieces(folder: Path, tensors: Tensors, *, limit: int) -> dict[str, PieceRecord]:
    """Write tensors into ``folder`` (not synced: ``files.new_folder`` does that); size and XXH3 of each file by name.

    One file ``model.safetensors``, or, above ``limit`` bytes, several and an index. One tensor is in memory at a time.
    """
    pieces = _cut(tensors.info, limit)
    if len(pieces) == 1:
        return {WEIGHTS: _write_piece(folder / WEIGHTS, tensors, pieces[0])}
    written, place = {}, {}
    for number, names in enumerate(pieces, start=1):
        file = f"model-{number:05d}-of-{len(pieces):05d}.safetensors"
        written[file] = _write_piece(folder / file, tensors, names)
        place |= dict.fromkeys(names, file)
    total = sum(tensors.info[name].nbytes for name in place)
    files.write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": place})
    return written


def _cut(info: Mapping[str, Info], limit: int) -> list[list[str]]:
    """Names of the tensors of each file, in order."""
    pieces: list[list[str]] = [[]]
    used = 0
    for name, entry in info.items():
        if pieces[-1] and used + entry.nbytes > limit:
            pieces.append([])
            used = 0
        pieces[-1].append(name)
        used += entry.nbytes
    return pieces


def _write_piece(path: Path, tensors: Tensors, names: list[str]) -> PieceRecord:
    """A safetensors file: eight bytes that tell the length of a JSON header, the header, the values.

    Written here because the library wants all tensors at once.
    """
    import xxhash

    header, end = {"__metadata__": {"format": "pt"}}, 0
    ordered = sorted(names, key=lambda name: -tensors.info[name].dtype.itemsize)  # so that all are aligned
    for name in ordered:
        entry = tensors.info[name]
        offsets = [end, end + entry.nbytes]
        header[name] = {"dtype": NAMES[entry.dtype], "shape": list(entry.shape), "data_offsets": offsets}  # pyright: ignore[reportArgumentType]
        end = offsets[1]
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    digest = xxhash.xxh3_64()
    with path.open("wb") as file:
        for block in (len(text).to_bytes(8, "little"), text):
            file.write(block)
            digest.update(block)
        for name in ordered:
            block = _bytes(tensors.read(name), tensors.info[name])
            file.write(block)
            digest.update(block)
    return {"size": 8 + len(text) + end, "xxh3": digest.hexdigest()}


def _bytes(value: Tensor, info: Info) -> memoryview:
    value = value.detach().cpu().contiguous()
    assert Info(tuple(value.shape), value.dtype) == info, (value.shape, value.dtype, info)
    return value.reshape(-1).view(torch.uint8).numpy().data
