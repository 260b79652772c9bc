"""What is kept between runs for speed: prepared collections, and the hashes of files that have not changed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import xxhash

from underpaint import draws
from underpaint.data.progress import progress
from underpaint.data.records import Problem
from underpaint.files import read_json, write_bytes
from underpaint.messages import say

_FORMAT = 1


def cache_folder() -> Path:
    """$UNDERPAINT_CACHE, else ``underpaint`` in the user's cache folder."""
    own = os.environ.get("UNDERPAINT_CACHE", "")
    if own:
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME", "") or Path.home() / ".cache") / "underpaint"


def hash_files(root: Path, paths: Sequence[str]) -> tuple[dict[str, str], list[Problem]]:
    """The xxh3 of the content of each file, and those files that could not be read.

    A file whose size and time of change equal those of the last call is not read again.
    """
    store = cache_folder() / "hashes" / f"{draws.key(str(root)):016x}.json"
    known = _known(store)
    entries: dict[str, list[int | str]] = {}
    problems: list[Problem] = []
    for path in progress(paths, total=len(paths), description="Reading files to find exact copies"):
        try:
            entries[path] = _entry(root / path, known.get(path, []))
        except OSError as error:
            problems.append(Problem(key=path, reason=f"cannot be read: {error.strerror}"))
    if entries != known:
        _remember(store, entries)
    return {path: str(entry[-1]) for path, entry in entries.items()}, problems


def _entry(file: Path, known: list[int | str]) -> list[int | str]:
    """Size, time of change in nanoseconds, hash."""
    status = file.stat()
    stamp: list[int | str] = [status.st_size, status.st_mtime_ns]
    return known if known[:2] == stamp else [*stamp, xxhash.xxh3_128(b"".join(_blocks(file))).hexdigest()]


def _blocks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as opened:
        while block := opened.read(1 << 20):
            yield block


def _known(store: Path) -> dict[str, list[int | str]]:
    """The entries of the last call; a damaged cache is an empty one."""
    try:
        content = read_json(store)
    except (OSError, ValueError):
        return {}
    return content["files"] if isinstance(content, dict) and content.get("format") == _FORMAT else {}


def _remember(store: Path, entries: dict[str, list[int | str]]) -> None:
    try:
        store.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(store, json.dumps({"format": _FORMAT, "files": entries}).encode())
    except OSError as error:  # it would only have saved time
        say(f"The file hashes were not kept in {store}: {error.strerror}")
