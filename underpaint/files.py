"""Files that are whole or absent: everything the package writes goes through here (temporary, fsync, rename)."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

MAX_JSON_BYTES = 64 * 1024 * 1024
"""No file of JSON or of lines comes near this; a larger one is not read into memory."""


OneOrMany = str | Path | Sequence[str | Path]


def paths_of(given: OneOrMany) -> list[Path]:
    """One path or several as a list: a text is a path, and not a sequence of letters."""
    return [Path(given)] if isinstance(given, (str, Path)) else [Path(path) for path in given]


def write_bytes(path: Path, content: bytes, *, mode: int | None = None, changed: int | None = None) -> None:
    """Replace ``path`` by ``content`` in one step: after a crash there is the old file or the new one.

    ``mode`` and ``changed`` are the file's permissions and its time of change in nanoseconds, where not the usual ones.
    An error leaves no part of a file behind.
    """
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)  # left by a kill; were it somebody's link, opening it would empty another file
    file, renamed = part.open("xb"), False
    try:
        with file:
            file.write(content)
            file.flush()
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            if changed is not None:
                os.utime(file.fileno(), ns=(changed, changed))
            os.fsync(file.fileno())
        os.replace(part, path)
        renamed = True
    finally:
        if not renamed:  # afterwards a part of this name is that of another writer
            with suppress(OSError):
                part.unlink()
    sync_folder(path.parent)


def write_json(path: Path, value: object) -> None:
    """Write JSON as UTF-8; bytes of file names that are not UTF-8 (surrogates in Python) become JSON escapes."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    write_bytes(path, text.encode(errors="backslashreplace") + b"\n")


def as_utf8(name: str) -> str:
    r"""The name of a file as UTF-8 can hold it: bytes that are not UTF-8 (surrogates in Python) become ``\udcff``."""
    return name.encode(errors="backslashreplace").decode()


def beginning(name: str, *, most: int = 100) -> str:
    """A name, or as much of it as so many bytes hold: the system allows 255 for a file with all that is added to it."""
    encoded = os.fsencode(name)
    return name if len(encoded) <= most else encoded[:most].decode(errors="ignore")


def read_json(path: Path) -> Any:
    """The parsed file.

    Raises:
        ValueError: if it is too large or not JSON; the message names the file.
    """
    if path.stat().st_size > MAX_JSON_BYTES:
        raise ValueError(
            f"{path} has {path.stat().st_size} bytes; no file of this kind is larger than {MAX_JSON_BYTES}"
        )
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:  # among them a number of more digits than Python reads
        raise ValueError(f"{path} is not valid JSON: {error}") from error


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that are not empty, without the space around them.

    Raises:
        ValueError: if there is no such file, it is too large, not text or empty; the message names the file.
    """
    if not path.is_file():
        raise ValueError(f"{path} is not a file")
    if path.stat().st_size > MAX_JSON_BYTES:
        raise ValueError(f"{path} has {path.stat().st_size:,} bytes; a text has at most {MAX_JSON_BYTES:,}")
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}; save it as UTF-8") from error
    if not any(lines):
        raise ValueError(f"{path} is empty")
    return [line for line in lines if line]


@contextmanager
def reading_parquet(path: Path) -> Iterator[None]:
    """Turn pyarrow's errors on a damaged file into one ValueError that names it; those of a disk stay OSError."""
    import pyarrow as pa

    try:
        yield
    except OSError as error:  # pyarrow's own have no number
        if error.errno is not None:
            raise
        raise _damaged(path, error) from error
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> ValueError:
    reason = next(iter(str(error).splitlines()), type(error).__name__)
    return ValueError(f"{path} is damaged, or no Parquet file of this package: {reason}")


def write_tensors(path: Path, tensors: Mapping[str, Tensor], *, about: dict[str, str] | None = None) -> None:
    """A safetensors file (not synced: ``new_folder`` does that), for tensors of any device; ``about`` is its metadata.

    Raises:
        OSError: if the disk does not take it, for which safetensors has a separate class.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, path, metadata=about)
    except SafetensorError as error:
        raise OSError(f"{path}: {error}") from error
    path.chmod(path.parent.stat().st_mode & 0o666)  # safetensors leaves it to its owner alone; a run is for a team


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder that appears whole under its name when the block ends well, and replaces an older one then.

    The block fills ``NAME.part``; whatever it leaves there is synced to disk before the rename.
    """
    part, old = path.with_name(f"{path.name}.part"), path.with_name(f"{path.name}.old")
    for leftover in (part, old):
        shutil.rmtree(leftover, ignore_errors=True)
    part.mkdir(parents=True)
    yield part
    for file in (part, *part.rglob("*")):
        sync_file(file)
    if path.exists():
        os.replace(path, old)
    os.replace(part, path)
    sync_folder(path.parent)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def locked(file: Path, *, wait: bool = True) -> Iterator[None]:
    """One process at a time; the kernel frees the lock however a process ends.

    The file is opened without emptying it and without following a link: somebody's file of this name stays as it is.

    Raises:
        BlockingIOError: if another process holds the lock and ``wait`` is false.
    """
    with os.fdopen(os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)) as opened:
        fcntl.flock(opened, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield


def sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Make renames inside a folder survive a power cut."""
    sync_file(path)


def xxh3(path: Path) -> str:
    """The 64-bit XXH3 checksum of a file, as hexadecimal digits."""
    import xxhash

    digest = xxhash.xxh3_64()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
