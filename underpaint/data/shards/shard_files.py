"""Reading of images from tar shards by offset: local shards in place, those of an object store from a local copy.

A shard of a store is copied whole, since the order reads it whole within a window (``lanes.py``): once for all
processes of a machine, and under its final name only when complete. The copies in a cache folder take a bounded space;
the least recently read one is deleted first. Only ``s3://``, ``gs://``, ``hf://`` and files are opened: a ``pipe:``
runs no command here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash

from underpaint.data.decode.limits import BadImage
from underpaint.data.shards.tar import MAX_IMAGE_BYTES
from underpaint.files import locked, sync_file

STORES = {"s3": "s3fs", "gs": "gcsfs", "hf": "huggingface_hub"}
"""Address schemes that are opened, with the package that opens each."""
BLOCK_BYTES = 16 * 1024 * 1024
"""Largest number of bytes requested from a store at once."""


class ShardUnavailable(OSError):
    """A shard could not be read after several attempts; the run can be resumed when the store or disk works again."""


@dataclass(frozen=True, kw_only=True)
class Patience:
    """Limits on the attempts to read a shard."""

    attempts: int = 6
    wait: float = 1.0
    """Seconds to wait before the second attempt; doubled before each further one."""
    timeout: float = 60.0
    """Largest time in seconds for one request of at most BLOCK_BYTES to a store."""

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.wait < 0 or self.timeout <= 0:
            raise ValueError(f"{self} needs at least 1 attempt, a wait of 0 or more and a timeout above 0 seconds")


class Shards:
    """Reads members of the shards of a prepared set in ``folder``; processes may share ``cache``."""

    def __init__(self, folder: Path, *, cache: Path, cache_bytes: int, patience: Patience) -> None:
        self.folder, self.cache, self.cache_bytes, self.patience = folder, cache, cache_bytes, patience

    def read(self, shard: str, offset: int, size: int, content_hash: bytes) -> bytes:
        """The bytes of one member, checked against their hash in the index.

        Raises:
            BadImage: if the shard is shorter, or holds other bytes at the offset.
            ShardUnavailable: if the shard cannot be read, for any reason, after some attempts.
            ValueError: for an address with an unknown scheme, or a copy larger than the cache.
        """
        if size > MAX_IMAGE_BYTES:
            raise BadImage(f"it has {size} bytes; at most {MAX_IMAGE_BYTES} are read")
        scheme = scheme_of(shard)
        data = self._patiently(shard, lambda: _part(self._file(shard), offset, size))
        if xxhash.xxh3_128(data).digest() == content_hash:
            return data
        if scheme:  # the copy may be damaged, or of an older object
            copy = self._copy_of(shard)
            copy.unlink(missing_ok=True)
            data = self._patiently(shard, lambda: _part(self._file(shard), offset, size))
            if xxhash.xxh3_128(data).digest() == content_hash:
                return data
        if len(data) < size:
            raise BadImage(f"the shard {shard} ends before it, at {offset + len(data)}: it was cut off")
        raise BadImage(f"the shard {shard} holds other bytes at {offset} than when it was indexed")

    def _file(self, shard: str) -> Path:
        """The local file of a shard, copied from its store where there is no copy yet."""
        if not scheme_of(shard):
            return self.folder / shard
        copy = self._copy_of(shard)
        if not copy.exists():
            self.cache.mkdir(parents=True, exist_ok=True)
            with locked(copy.with_suffix(".lock")):
                if not copy.exists():  # else another process was faster
                    self._fetch(shard, copy)
        os.utime(copy)
        return copy

    def _copy_of(self, shard: str) -> Path:
        return self.cache / f"{xxhash.xxh3_128(shard.encode()).hexdigest()}.tar"

    def _fetch(self, shard: str, copy: Path) -> None:
        scheme = scheme_of(shard)
        store = open_store(scheme, self.patience.timeout)
        path = store._strip_protocol(shard)
        size = int(_ask(store, "_info", path, timeout=self.patience.timeout)["size"])
        part = copy.with_suffix(".part")
        with locked(self.cache / "space.lock"):
            self._make_room(shard, size)
            with part.open("wb") as file:
                file.truncate(size)  # other processes count it from now on
        with part.open("r+b") as file:
            for start in range(0, size, BLOCK_BYTES):
                end = min(start + BLOCK_BYTES, size)
                block = _ask(store, "_cat_file", path, start=start, end=end, timeout=self.patience.timeout)
                if len(block) != end - start:
                    raise OSError(f"the store sent {len(block)} bytes instead of {end - start}")
                file.write(block)
        sync_file(part)
        os.replace(part, copy)

    def _make_room(self, shard: str, size: int) -> None:
        if size > self.cache_bytes:
            raise ValueError(
                f"the shard {shard} has {size:,} bytes and data.cache_gib allows {self.cache_bytes:,} for all copies; "
                f"raise data.cache_gib"
            )
        for part in self.cache.glob("*.part"):
            if part != self._copy_of(shard).with_suffix(".part") and _is_free(part.with_suffix(".lock")):
                part.unlink(missing_ok=True)  # its process was killed
        there = [(file.stat(), file) for file in self.cache.iterdir() if file.suffix in (".tar", ".part")]
        free = self.cache_bytes - sum(status.st_size for status, file in there if file != self._copy_of(shard))
        oldest = sorted((status.st_mtime, status.st_size, file) for status, file in there if file.suffix == ".tar")
        for _, taken, file in oldest:
            if free >= size:
                return
            file.unlink(missing_ok=True)
            free += taken

    def _patiently(self, shard: str, attempt: Callable[[], bytes]) -> bytes:
        errors = failures(scheme_of(shard))
        for number in range(1, self.patience.attempts + 1):
            try:
                return attempt()
            except errors as error:
                said = f"{type(error).__name__}: {error}".rstrip(": ")
                if number == self.patience.attempts:
                    what = f"the shard {shard} could not be read in {number} attempts"
                    raise ShardUnavailable(f"{what}; the last one said: {said}") from error
                time.sleep(self.patience.wait * 2 ** (number - 1))
        raise AssertionError("the last attempt returns or raises")


def scheme_of(shard: str) -> str:
    """The scheme of a shard's address: ``s3``, ``gs`` or ``hf``; "" for a file.

    Raises:
        ValueError: for any other address, and for a relative path that leads out of its folder.
    """
    scheme, separator, _ = shard.partition("://")
    if separator and scheme in STORES:
        return scheme
    head = shard.partition("/")[0]
    if ":" in head or not shard.isprintable():
        raise ValueError(f"the shard {shard!r} is not read; shards are files or addresses of {'://, '.join(STORES)}://")
    if ".." in shard.split("/"):
        raise ValueError(f"the shard {shard!r} leads out of its folder; name it by its absolute path")
    return ""


def open_store(scheme: str, timeout: float) -> Any:
    """The fsspec file system of a store, which finds credentials and endpoint where its own tools do.

    Raises:
        ValueError: if the package for it is not installed.
    """
    import fsspec

    options: dict[str, dict[str, Any]] = {
        "s3": {"config_kwargs": {"connect_timeout": timeout, "read_timeout": timeout, "retries": {"max_attempts": 1}}},
        "gs": {"timeout": timeout},
        "hf": {},
    }
    try:
        return fsspec.filesystem(scheme, use_listings_cache=False, **options[scheme])
    except ImportError as error:
        raise ValueError(
            f"{scheme}:// is read with the package {STORES[scheme]}, which is not installed: pip install '.[remote]'"
        ) from error


def failures(scheme: str) -> tuple[type[Exception], ...]:
    """Exceptions of reading after which another attempt may succeed: OSError, and those of a store's client."""
    if not scheme:
        return (OSError,)
    if scheme == "hf":
        from huggingface_hub.errors import HfHubHTTPError

        return (OSError, *HfHubHTTPError.__bases__)  # the first is that of the HTTP client of its version
    import aiohttp

    if scheme == "gs":
        from gcsfs.retry import HttpError

        return (OSError, aiohttp.ClientError, HttpError)
    from botocore.exceptions import BotoCoreError, ClientError

    return (OSError, aiohttp.ClientError, BotoCoreError, ClientError)


def _ask(store: Any, method: str, path: str, *, timeout: float, **how: Any) -> Any:
    """The answer to one request; the timeout is for all of it, so that a store that sends byte by byte fails."""
    if not store.async_impl:
        return getattr(store, method.removeprefix("_"))(path, **how)
    from fsspec.asyn import sync

    return sync(store.loop, getattr(store, method), path, timeout=timeout, **how)


def _part(file: Path, offset: int, size: int) -> bytes:
    """The bytes of a file from an offset on; fewer than ``size`` where it ends before."""
    with file.open("rb", buffering=0) as opened:
        parts: list[bytes] = []
        while size and (data := os.pread(opened.fileno(), size, offset)):
            parts.append(data)
            offset, size = offset + len(data), size - len(data)
    return b"".join(parts)


def _is_free(lock: Path) -> bool:
    try:
        with locked(lock, wait=False):
            return True
    except BlockingIOError:
        return False
