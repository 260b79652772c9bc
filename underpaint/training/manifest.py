"""Manifest of a checkpoint folder: every file with size and checksum, every tensor with its pieces.

Pieces are boxes that together tile the tensor; ranks in any number write them, and ranks in any other number read what
they need. The manifest is read, and checked, before torch sees a byte.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict

import torch
from torch import Tensor

from underpaint import files
from underpaint.training import sharded_tensors
from underpaint.training.ranks import Ranks
from underpaint.training.sharded_tensors import Region

FORMAT = 2
"""Format 1 was written by one process: one piece for each tensor, no checksum of the manifest itself."""


class DamagedCheckpoint(ValueError):
    """A checkpoint folder whose files are not the ones that were saved."""


class Piece(TypedDict):
    """A box of a tensor, and the file it is in."""

    file: str
    offset: list[int]
    shape: list[int]


class TensorEntry(TypedDict):
    """A tensor and its pieces."""

    shape: list[int]
    dtype: str
    pieces: list[Piece]


class FileEntry(TypedDict):
    """Size and checksum of a file."""

    size: int
    xxh3: str


class Listed(TypedDict):
    """Files and pieces of tensors that a rank wrote."""

    files: dict[str, FileEntry]
    tensors: dict[str, TensorEntry]


class Manifest(Listed):
    """``manifest.json``, without its checksum."""

    format: int


Groups = Mapping[str, Mapping[str, Tensor]]
"""Tensors by name, by the kind of file they go to: model, optimizer, average."""


def write_pieces(part: Path, groups: Groups, ranks: Ranks) -> Listed:
    """Write what this rank owns of the tensors; its entries of the manifest.

    Raises:
        OSError: if the disk does not take it.
    """
    listed: Listed = {"files": {}, "tensors": {}}
    for group, tensors in groups.items():
        file, mine = f"{group}-{ranks.rank:05d}.safetensors", {}
        for name, tensor in tensors.items():
            box = sharded_tensors.region(tensor)
            pieces: list[Piece] = []
            if sharded_tensors.is_owner(tensor, ranks) and (box.size or not tensor.numel()):
                mine[name] = sharded_tensors.local(tensor)
                pieces = [{"file": file, "offset": list(box.offset), "shape": list(box.shape)}]
            if pieces or ranks.first:
                entry: TensorEntry = {"shape": list(tensor.shape), "dtype": str(tensor.dtype), "pieces": pieces}
                listed["tensors"][f"{group}.{name}"] = entry
        if mine:
            files.write_tensors(part / file, mine)
            files.sync_file(part / file)
            listed["files"][file] = describe(part / file)
    return listed


def describe(file: Path) -> FileEntry:
    return {"size": file.stat().st_size, "xxh3": files.xxh3(file)}


def write(part: Path, listed: list[Listed]) -> None:
    """The manifest of what all ranks wrote and of the other files in the folder."""
    tensors: dict[str, TensorEntry] = {}
    for entries in listed:
        for name, entry in entries["tensors"].items():
            tensors.setdefault(name, {**entry, "pieces": []})["pieces"] += entry["pieces"]
    listed_files = {name: entry for entries in listed for name, entry in entries["files"].items()}
    listed_files |= {path.name: describe(path) for path in sorted(part.iterdir()) if path.name not in listed_files}
    manifest: Manifest = {"format": FORMAT, "files": dict(sorted(listed_files.items())), "tensors": tensors}
    files.write_json(part / "manifest.json", {**manifest, "xxh3": _checksum(manifest)})


def _checksum(manifest: Manifest) -> str:
    import xxhash

    return xxhash.xxh3_64_hexdigest(json.dumps(manifest, sort_keys=True).encode())


def read(path: Path, ranks: Ranks) -> Manifest:
    """The manifest, checked against itself and against the files; each rank checks its part of the files.

    Raises:
        DamagedCheckpoint: on the ranks that find something wrong.
    """
    try:
        manifest = files.read_json(path / "manifest.json")
        if manifest["format"] not in (1, FORMAT):
            raise DamagedCheckpoint(f"{path} is of format {manifest['format']}; this release reads up to {FORMAT}")
        if manifest["format"] > 1 and manifest.pop("xxh3") != _checksum(manifest):
            raise DamagedCheckpoint("manifest.json does not match its checksum")
        for number, (name, entry) in enumerate(manifest["files"].items()):
            if Path(name).name != name:
                raise DamagedCheckpoint(f"{name!r} is not a file of the folder")
            file = path / name
            if file.stat().st_size != entry["size"]:
                raise DamagedCheckpoint(f"{name} has {file.stat().st_size} bytes instead of {entry['size']}")
            if number % ranks.world == ranks.rank and files.xxh3(file) != entry["xxh3"]:
                raise DamagedCheckpoint(f"{name} does not match its checksum")
    except OSError as error:
        raise DamagedCheckpoint(f"the manifest or a file it lists cannot be read: {error}") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise DamagedCheckpoint(f"the manifest is not valid ({error!r})") from error
    except ValueError as error:
        raise DamagedCheckpoint(str(error)) from error
    return manifest


class Pieces:
    """The tensors of a checked folder, read box by box."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        from safetensors import SafetensorError, safe_open

        self.tensors = manifest["tensors"]
        self.files = {}
        for name in manifest["files"]:
            if name.endswith(".safetensors"):
                try:
                    self.files[name] = safe_open(path / name, "pt")
                except SafetensorError as error:
                    raise DamagedCheckpoint(f"{name}: {error}") from error

    def names(self) -> dict[str, dict[str, tuple[int, ...]]]:
        """The shapes of all tensors, by group and name."""
        shapes: dict[str, dict[str, tuple[int, ...]]] = {"model": {}, "optimizer": {}, "average": {}}
        for name, entry in self.tensors.items():
            group, _, tensor = name.partition(".")
            shapes[group][tensor] = tuple(entry["shape"])
        return shapes

    def read(self, group: str, name: str, wanted: Region) -> Tensor:
        """One box of a tensor, on the CPU, from all the pieces that touch it."""
        entry = self.tensors[f"{group}.{name}"]
        dtype = getattr(torch, entry["dtype"].removeprefix("torch."))
        boxes = [Region(tuple(piece["offset"]), tuple(piece["shape"])) for piece in entry["pieces"]]
        whole = torch.Size(entry["shape"]).numel()
        if sum(box.size for box in boxes) != whole:
            raise DamagedCheckpoint(f"the pieces of {group}.{name} do not make up {entry['shape']}")
        value, filled = torch.empty(wanted.shape, dtype=dtype), 0
        for piece, box in zip(entry["pieces"], boxes, strict=True):
            shared = box.overlap(wanted)
            if shared.size:
                stored = self._stored(piece["file"], name, box, dtype)[shared.within(box).slices]
                value[shared.within(wanted).slices] = stored
                filled += shared.size
        if filled != wanted.size:
            raise DamagedCheckpoint(f"the pieces of {group}.{name} overlap or leave a gap")
        return value

    def _stored(self, file: str, name: str, box: Region, dtype: torch.dtype) -> Tensor:
        """A piece as it lies in its file, mapped into memory, of the shape and type that the manifest says."""
        from safetensors import SafetensorError

        try:
            stored = self.files[file].get_tensor(name)
        except SafetensorError as error:
            raise DamagedCheckpoint(f"{file}: {error}") from error
        if tuple(stored.shape) != box.shape or stored.dtype != dtype:
            raise DamagedCheckpoint(f"{name} is {stored.dtype} {list(stored.shape)}, not what the manifest says")
        return stored
