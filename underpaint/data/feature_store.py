"""Features of images by an encoder, computed once and kept on disk for everybody who needs them again.

A store is a folder for one encoder and one view. Its files hold some thousand images each, by the hash of their bytes,
and appear whole: a killed process loses the images of one file. Images that cannot be read are kept as such.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

import torch
import xxhash
from jaxtyping import Bool, Float
from torch import Tensor

from underpaint.core import ImageInput
from underpaint.data.cache import cache_folder, measure_files
from underpaint.data.decode.limits import BadImage
from underpaint.data.source import Files
from underpaint.data.view_batches import Read, view_batches
from underpaint.files import sync_file, sync_folder, write_tensors
from underpaint.progress import Progress

T = TypeVar("T")

IMAGES_OF_FILE = 4096
SECONDS_OF_FILE = 60.0
"""A file is written after so many images or so much time: what a kill can cost."""
BATCH = 32
"""Images that are encoded together, unless the caller says otherwise."""
UNREADABLE = "unreadable-"
"""Beginning of the names of images whose bytes could not be read."""

Encode = Callable[[Float[Tensor, "b c h w"]], Float[Tensor, "b d"]]


@dataclass(frozen=True, kw_only=True)
class FeatureMaker:
    """The encoder of a store."""

    encode: Encode
    encoder_hash: str
    """Checksum of its weights, and of what else its features follow from."""
    image: ImageInput
    """The evaluation view that it is shown."""
    width: int
    batch: int = BATCH
    """Images that are encoded together, which may change the last bits of their features."""

    @property
    def folder(self) -> Path:
        return cache_folder() / "features" / f"{self.encoder_hash}-{self.view}"

    @property
    def view(self) -> str:
        return xxhash.xxh3_64_hexdigest(repr(astuple(self.image)).encode())


@runtime_checkable
class Group(Protocol):
    """Processes that work together; satisfied by ``Ranks``."""

    @property
    def rank(self) -> int: ...

    @property
    def world(self) -> int: ...

    def exchange(self, value: T, /) -> list[T]:
        """The values of all processes, in order."""
        ...


class Alone:
    """The group of one process."""

    rank = 0
    world = 1

    def exchange(self, value: T, /) -> list[T]:
        return [value]


@dataclass(frozen=True, kw_only=True)
class Staff:
    """The processes that make features: ``workers`` in each process of the group read and decode."""

    workers: int = 0
    group: Group = field(default_factory=Alone)


@dataclass(frozen=True, kw_only=True, eq=False)
class Features:
    """Features of some images, in the order asked for."""

    x: Float[Tensor, "n d"]
    kept: Bool[Tensor, " n"]
    """False for an image that could not be read; its features are 0."""

    def require_finite(self) -> Features:
        """These features; raises ValueError if some are not finite."""
        sound = self.x.isfinite().all(dim=1)
        if not sound.all():
            raise ValueError(
                f"the encoder gives features that are not finite for {int((~sound).sum())} of {len(sound)} images; it "
                f"has diverged"
            )
        return self


def features_of(
    hashes: Sequence[str], reads: Sequence[Read], maker: FeatureMaker, *, name: str, staff: Staff | None = None
) -> Features:
    """Features of images, read from the store by the hash of their bytes, or computed and added to it.

    Raises:
        ValueError: if a file of the store was made by another encoder or for another view, or is damaged; if features
            are not finite, or processes of the group do not share the folder of the cache.
    """
    return fill(hashes, reads, maker, name=name, staff=staff).read(hashes).require_finite()


def fill(
    hashes: Sequence[str], reads: Sequence[Read], maker: FeatureMaker, *, name: str, staff: Staff | None = None
) -> FeatureStore:
    """The store, with the features of these images in it.

    Each process of the group computes a share: whole batches of the list of missing images, so that the features have
    the bits of one process. The list is the first process's: another evaluation may add to the store meanwhile. The
    others' shares are in the store afterwards.

    Raises:
        ValueError: as ``features_of``, but for features that are not finite.
    """
    staff = staff or Staff()
    store, read_of = FeatureStore(maker), dict(zip(hashes, reads, strict=True))
    looked = [number for number in read_of if number not in store] if staff.group.rank == 0 else None
    missing = staff.group.exchange(looked)[0]  # nobody adds a file before the first has seen what is missing
    assert missing is not None
    if missing:
        _add_share(store, missing, read_of, name=name, staff=staff)
        staff.group.exchange(None)
        store.look_again()
    store.require(list(read_of))
    return store


def add_part(folder: Path, maker: FeatureMaker, hashes: Sequence[str], reads: Sequence[Read]) -> None:
    """Encode images and add their features to the store in ``folder`` as one file; its other files are not looked at.

    The images are whole batches of the list of missing ones, so that the features have the bits that ``fill`` gives.
    """
    rows, readable = zip(*_encoded(reads, maker, workers=0), strict=True)
    _write(folder, maker, hashes, torch.cat(rows), torch.cat(readable))


def hash_of(data: bytes) -> str:
    """The name of an image in a store."""
    return xxhash.xxh3_128_hexdigest(data)


def image_hashes(files: Files, paths: Sequence[str], *, root: Path) -> list[str]:
    """The hash of each image's bytes; files that have not changed since the last call are not read again.

    An image that cannot be read has the hash of its place.
    """

    def measure(path: str) -> str:
        try:
            return hash_of(files.read(path))
        except BadImage as error:  # is not kept from one call to the next, as the file may be mended
            raise OSError(str(error)) from error

    hashes, _ = measure_files(
        files,
        paths,
        kind="hashes",
        store=str(root),
        measure=measure,
        description="Reading files to find their features",
    )
    return [hashes.get(path) or unreadable(root, path) for path in paths]


def unreadable(root: Path, path: str) -> str:
    """The name of an image that cannot be read, for its place."""
    return UNREADABLE + xxhash.xxh3_128_hexdigest(str(root / path).encode(errors="surrogateescape"))


def read_hashed(read: Callable[[str], bytes], path: str, image_hash: str, *, at: str) -> bytes:
    """The bytes of the image of this hash; features of others would be kept under its name for ever.

    Raises:
        OSError: if the bytes could not be read when they were hashed.
        ValueError: if they are others now, or cannot be read any more; ``at`` names the image.
    """
    if image_hash.startswith(UNREADABLE):
        raise OSError("the file cannot be read")
    try:
        data = read(path)
    except (OSError, BadImage):
        data = None
    if data is None or hash_of(data) != image_hash:
        raise ValueError(
            f"{at} is another file than when it was hashed, or none: images must not change while features are "
            f"computed, and all machines must share their folder. Start again; if it stays so, `touch` the file"
        )
    return data


def _add_share(
    store: FeatureStore, missing: Sequence[str], read_of: Mapping[str, Read], *, name: str, staff: Staff
) -> None:
    """Encode the missing images of this process and add them to the store."""
    maker, group = store.maker, staff.group
    batches = -(-len(missing) // maker.batch)
    first, end = (batches * rank // group.world * maker.batch for rank in (group.rank, group.rank + 1))
    share = missing[first:end]
    reads = [read_of[number] for number in share]
    rows: list[Tensor] = []
    readable: list[Tensor] = []
    done, written, since = 0, 0, time.monotonic()
    total = len(read_of)
    before = total - len(missing) if group.world == 1 else 0
    title = f"Features of {name}" if group.world == 1 else f"Features of {name} (process {group.rank + 1})"
    with Progress(title, total=before + len(share), unit="images", done=before) as shown:
        for x, kept in _encoded(reads, maker, workers=staff.workers):
            rows.append(x)
            readable.append(kept)
            done += len(x)
            ended = done == len(share)
            if ended or done - written >= IMAGES_OF_FILE or time.monotonic() - since > SECONDS_OF_FILE:
                store.add(share[written:done], torch.cat(rows), torch.cat(readable))
                written, since = done, time.monotonic()
                rows.clear()
                readable.clear()
            shown.update(before + done)


def _encoded(
    reads: Sequence[Read], maker: FeatureMaker, *, workers: int
) -> Iterator[tuple[Float[Tensor, "b d"], Bool[Tensor, " b"]]]:
    """Features of a batch of images after the other, and which of them could be read."""
    for image, problems in view_batches(reads, format=maker.image, batch_size=maker.batch, workers=workers):
        yield maker.encode(image).float().cpu(), torch.tensor([not problem for problem in problems])


def _write(
    folder: Path, maker: FeatureMaker, hashes: Sequence[str], x: Float[Tensor, "n d"], kept: Bool[Tensor, " n"]
) -> None:
    """Write a file of a store; it appears whole, or an error leaves nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    name = xxhash.xxh3_64_hexdigest("".join(hashes).encode())
    part = folder / f"{name}.part{os.getpid()}"
    about = {"encoder": maker.encoder_hash, "view": maker.view, "images": " ".join(hashes), "xxh3": _checksum(x, kept)}
    try:
        write_tensors(part, {"x": x, "kept": kept}, about=about)
        sync_file(part)
        part.replace(folder / f"{name}.safetensors")
    finally:
        part.unlink(missing_ok=True)
    sync_folder(folder)


def _checksum(x: Float[Tensor, "n d"], kept: Bool[Tensor, " n"]) -> str:
    """Checksum of the tensors of a file, in which one changed bit would be another score."""
    state = xxhash.xxh3_64(x.contiguous().numpy().data)
    state.update(kept.numpy().data)
    return state.hexdigest()


class FeatureStore:
    """The files of a store, of which the hashes of images are held in memory, and their features are not."""

    def __init__(self, maker: FeatureMaker) -> None:
        """Raises ValueError for a file of another encoder or view, or a damaged one."""
        self.maker = maker
        self._place: dict[str, tuple[Path, int]] = {}
        self._listed: set[Path] = set()
        self.look_again()

    def __contains__(self, image_hash: str) -> bool:
        return image_hash in self._place

    def look_again(self) -> None:
        """List the files that came since the last look."""
        for path in sorted(set(self.maker.folder.glob("*.safetensors")) - self._listed):
            self._listed.add(path)
            self._place |= {number: (path, row) for row, number in enumerate(self._hashes(path))}

    def add(self, hashes: Sequence[str], x: Float[Tensor, "n d"], kept: Bool[Tensor, " n"]) -> None:
        """Write the features of images as one more file; rows of images that are not ``kept`` count for nothing."""
        _write(self.maker.folder, self.maker, hashes, x, kept)
        self.look_again()

    def require(self, hashes: Sequence[str]) -> None:
        """Raise ValueError if features of images are not there, which other processes computed."""
        lacking = sum(number not in self for number in hashes)
        if lacking:
            raise ValueError(
                f"{lacking} features that other processes computed are not in {self.maker.folder}; set "
                f"UNDERPAINT_CACHE to a folder that all machines share"
            )

    def read(self, hashes: Sequence[str]) -> Features:
        """The features of images that are in the store, file by file.

        Raises:
            ValueError: if a file does not hold what was written.
        """
        x = torch.zeros(len(hashes), self.maker.width)
        kept = torch.zeros(len(hashes), dtype=torch.bool)
        wanted: dict[Path, list[tuple[int, int]]] = {}
        for place, number in enumerate(hashes):
            path, row = self._place[number]
            wanted.setdefault(path, []).append((place, row))
        for path, pairs in wanted.items():
            of_file = _read(path)
            places, rows = (torch.tensor(column) for column in zip(*pairs, strict=True))
            kept[places] = of_file.kept[rows]
            x[places] = torch.where(kept[places, None], of_file.x[rows], 0)
        return Features(x=x, kept=kept)

    def _hashes(self, path: Path) -> list[str]:
        """The images of a file, which is checked."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt") as file:
                about = file.metadata() or {}
                x_shape, kept_shape = (file.get_slice(name).get_shape() for name in ("x", "kept"))
        except SafetensorError as error:
            raise _damaged(path, str(error)) from error
        hashes = about.get("images", "").split()
        if (about.get("encoder"), about.get("view")) != (self.maker.encoder_hash, self.maker.view):
            raise ValueError(
                f"{path} holds features of the encoder {about.get('encoder')}, this one is {self.maker.encoder_hash}; "
                f"delete the file, or start from the other encoder"
            )
        if x_shape != [len(hashes), self.maker.width] or kept_shape != [len(hashes)]:
            raise _damaged(path, f"it has {len(hashes)} names for features of the shape {x_shape}")
        return hashes


def _read(path: Path) -> Features:
    """The features in a file of a store, in its order.

    Raises:
        ValueError: if it was changed since it was written.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            x, kept, about = file.get_tensor("x"), file.get_tensor("kept"), file.metadata() or {}
    except SafetensorError as error:
        raise _damaged(path, str(error)) from error
    if about.get("xxh3", "") not in ("", _checksum(x, kept)):  # files of older releases have none
        raise _damaged(path, "its checksum is another one")
    return Features(x=x, kept=kept)


def _damaged(path: Path, reason: str) -> ValueError:
    return ValueError(f"{path} is damaged; delete it, and its images are encoded again: {reason}")
