"""Features of images by a locked encoder, computed once and kept on disk, so that later epochs decode no image.

A store is a folder for one encoder and one view. Its files hold some thousand images each, by the hash of their bytes,
and appear whole: a killed process loses the images of one file. Images that cannot be read are kept as such.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path

import torch
import xxhash
from jaxtyping import Bool, Float
from torch import Tensor

from underpaint.core import ImageInput
from underpaint.data.cache import cache_folder
from underpaint.data.loader import read_encoded
from underpaint.files import sync_file, sync_folder
from underpaint.progress import Progress

IMAGES_OF_FILE = 4096
BATCH = 32
"""Images that are encoded together."""

Encode = Callable[[Float[Tensor, "b c h w"]], Float[Tensor, "b d"]]
Read = Callable[[], bytes]


@dataclass(frozen=True, kw_only=True)
class FeatureMaker:
    """The encoder of a store."""

    encode: Encode
    encoder_hash: str
    """Checksum of its weights."""
    image: ImageInput
    """The evaluation view that it is shown."""
    width: int

    @property
    def folder(self) -> Path:
        return cache_folder() / "features" / f"{self.encoder_hash}-{self.view}"

    @property
    def view(self) -> str:
        return xxhash.xxh3_64_hexdigest(repr(astuple(self.image)).encode())


@dataclass(frozen=True, kw_only=True, eq=False)
class Features:
    """Features of some images, in the order asked for."""

    x: Float[Tensor, "n d"]
    kept: Bool[Tensor, " n"]
    """False for an image that could not be read; its features are 0."""


def features_of(hashes: Sequence[str], reads: Sequence[Read], maker: FeatureMaker, *, name: str) -> Features:
    """Features of images, read from the store by the hash of their bytes, or computed and added to it.

    Raises:
        ValueError: if a file of the store was made by another encoder or for another view, or is damaged.
    """
    known = _known(maker)
    read_of = dict(zip(hashes, reads, strict=True))
    missing = [number for number in read_of if number not in known]
    with Progress(f"Features of {name}", total=len(read_of), unit="images", done=len(read_of) - len(missing)) as shown:
        for start in range(0, len(missing), IMAGES_OF_FILE):
            part = missing[start : start + IMAGES_OF_FILE]
            before = len(read_of) - len(missing) + start
            known |= _computed(part, [read_of[number] for number in part], maker, partial(_advance, shown, before))
    x = torch.zeros(len(hashes), maker.width)
    kept = torch.zeros(len(hashes), dtype=torch.bool)
    for row, number in enumerate(hashes):
        features = known[number]
        if features is not None:
            x[row], kept[row] = features, True
    return Features(x=x, kept=kept)


def _advance(shown: Progress, before: int, done: int) -> None:
    shown.update(before + done)


def _computed(
    hashes: Sequence[str], reads: Sequence[Read], maker: FeatureMaker, advance: Callable[[int], None]
) -> dict[str, Tensor | None]:
    """Encode images and write them as one more file of the store; ``advance`` is told how many are done."""
    rows: list[Tensor] = []
    readable: list[bool] = []
    for start in range(0, len(reads), BATCH):
        image, problems = read_encoded(reads[start : start + BATCH], format=maker.image)
        rows.append(maker.encode(image).float().cpu())
        readable += [not problem for problem in problems]
        advance(len(readable))
    x, kept = torch.cat(rows), torch.tensor(readable)
    if not x[kept].isfinite().all():
        raise ValueError(f"the encoder {maker.encoder_hash} gives features that are not finite; it has diverged")
    _write(maker, hashes, x, kept)
    return {number: x[row] if readable[row] else None for row, number in enumerate(hashes)}


def _write(maker: FeatureMaker, hashes: Sequence[str], x: Tensor, kept: Tensor) -> None:
    from safetensors.torch import save_file

    maker.folder.mkdir(parents=True, exist_ok=True)
    name = xxhash.xxh3_64_hexdigest("".join(hashes).encode())
    part = maker.folder / f"{name}.part{os.getpid()}"
    about = {"encoder": maker.encoder_hash, "view": maker.view, "images": " ".join(hashes)}
    save_file({"x": x.contiguous(), "kept": kept}, part, metadata=about)
    sync_file(part)
    part.replace(maker.folder / f"{name}.safetensors")
    sync_folder(maker.folder)


def _known(maker: FeatureMaker) -> dict[str, Tensor | None]:
    """The features in the store by the hash of the image; None for one that cannot be read."""
    from safetensors import SafetensorError, safe_open

    known: dict[str, Tensor | None] = {}
    for path in sorted(maker.folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt") as file:
                about, x, kept = file.metadata() or {}, file.get_tensor("x"), file.get_tensor("kept")
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path} is damaged; delete it, and its images are encoded again: {error}") from error
        hashes = about.get("images", "").split()
        if (about.get("encoder"), about.get("view")) != (maker.encoder_hash, maker.view):
            raise ValueError(
                f"{path} holds features of the encoder {about.get('encoder')}, this one is {maker.encoder_hash}; "
                f"delete the file, or start from the other encoder"
            )
        if not len(hashes) == len(x) == len(kept) or x.shape[1:] != (maker.width,):
            raise ValueError(f"{path} is damaged; delete it, and its images are encoded again")
        known |= {number: x[row] if kept[row] else None for row, number in enumerate(hashes)}
    return known
