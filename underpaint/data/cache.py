"""The cache between runs: prepared collections, and values measured from files that have not changed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import xxhash

from underpaint import keyed_random
from underpaint.data.source import Files, Folder, Problem
from underpaint.files import read_json, write_bytes
from underpaint.messages import say
from underpaint.progress import progress

_FORMAT = 1


def cache_folder() -> Path:
    """The folder $UNDERPAINT_CACHE, else ``underpaint`` in the user's cache folder."""
    chosen = os.environ.get("UNDERPAINT_CACHE", "")
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME", "") or Path.home() / ".cache") / "underpaint"


def hash_files(root: Path, paths: Sequence[str]) -> tuple[dict[str, str], list[Problem]]:
    """The XXH3-128 of the content of each file by path, and the files that could not be read.

    A file whose size and time of change equal those of the last call is not read again.
    """
    return measure_files(
        Folder(root=root),
        paths,
        kind="hashes",
        store=str(root),
        measure=lambda path: _content_hash(root / path),
        description="Reading files to find exact copies",
    )


def measure_files(
    files: Files, paths: Sequence[str], *, kind: str, store: str, measure: Callable[[str], str], description: str
) -> tuple[dict[str, str], list[Problem]]:
    """The value of ``measure`` for each file by path, and the files that could not be read.

    Values are cached under the name ``kind`` for each ``store``, the name of a folder: a file whose stamp (size and
    time of change) equals that of the last call is not measured again. Two threads measure, since decoders and disks
    release the interpreter lock.
    """
    kept = cache_folder() / kind / f"{keyed_random.key(store):016x}.json"
    known = _known(kept)

    def entry(path: str) -> list[int | str] | Problem:
        """The two values of the stamp and the measured one, or the problem."""
        try:
            stamp = files.stamp(path)
            before = known.get(path, [])
            return before if before[:2] == stamp else [*stamp, measure(path)]
        except OSError as error:
            return Problem(key=path, reason=f"cannot be read: {error.strerror}")

    with ThreadPoolExecutor(max_workers=2) as pool:
        measured = progress(pool.map(entry, paths), description, total=len(paths), unit="images")
        entry_of = dict(zip(paths, measured, strict=True))
    entries = {
        path: entry_or_problem
        for path, entry_or_problem in entry_of.items()
        if not isinstance(entry_or_problem, Problem)
    }
    problems = [entry_or_problem for entry_or_problem in entry_of.values() if isinstance(entry_or_problem, Problem)]
    if any(known.get(path) != entry_or_problem for path, entry_or_problem in entries.items()):
        _remember(kept, known | entries)
    return {path: str(entry_or_problem[-1]) for path, entry_or_problem in entries.items()}, problems


def _content_hash(file: Path) -> str:
    return xxhash.xxh3_128(b"".join(_blocks(file))).hexdigest()


def _blocks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as opened:
        while block := opened.read(1 << 20):
            yield block


def _known(store: Path) -> dict[str, list[int | str]]:
    """The entries of the last call; none where the cache is missing or damaged."""
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
        say(f"The values measured from the files were not kept in {store}: {error.strerror}")
