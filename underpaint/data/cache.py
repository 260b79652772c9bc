"""The cache between runs: prepared collections, and values measured from files that have not changed."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import xxhash

from underpaint import keyed_random
from underpaint.data.kept_values import KeptValues, kept_values
from underpaint.data.source import Files, Folder, Problem
from underpaint.progress import progress

T = TypeVar("T")
THREADS = 2
AT_ONCE = 5_000
"""Files whose stamps are compared at once, and after which new values are on the disk."""


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
    time of change) equals that of the last call is not measured again, also if that call was killed. Two threads
    measure, since decoders and disks release the interpreter lock.
    """
    values: dict[str, str] = {}
    problems: list[Problem] = []
    with (
        kept_values(cache_folder() / kind / f"{keyed_random.key(store):016x}.sqlite") as kept,
        ThreadPoolExecutor(max_workers=THREADS) as pool,
    ):
        measured = _measured(files, paths, kept, measure, pool)
        for path, value in progress(measured, description, total=len(paths), unit="images"):
            if isinstance(value, Problem):
                problems.append(value)
            else:
                values[path] = value
    return values, problems


def _measured(
    files: Files, paths: Sequence[str], kept: KeptValues, measure: Callable[[str], str], pool: ThreadPoolExecutor
) -> Iterator[tuple[str, str | Problem]]:
    """Each path with its value or its problem, some thousands at a time: a task for each file would be slow."""

    def tried(work: Callable[[str], T]) -> Callable[[str], T | Problem]:
        def work_or_problem(path: str) -> T | Problem:
            try:
                return work(path)
            except OSError as error:
                return Problem(key=path, reason=f"cannot be read: {error.strerror}")

        return work_or_problem

    for first in range(0, len(paths), AT_ONCE):
        batch = paths[first : first + AT_ONCE]
        stamps = dict(zip(batch, _in_pieces(pool, tried(files.stamp), batch), strict=True))
        known = {path: row[-1] for path, row in kept.find(batch).items() if [*row[:-1]] == stamps[path]}
        news = pool.map(
            tried(measure), [path for path in stamps if path not in known and not isinstance(stamps[path], Problem)]
        )
        rows: list[tuple[int | str, ...]] = []
        for path, stamp in stamps.items():
            if isinstance(stamp, Problem):
                yield path, stamp
            elif path in known:
                yield path, str(known[path])
            else:
                value = next(news)
                yield path, value
                rows += [] if isinstance(value, Problem) else [(path, *stamp, value)]
        kept.keep(rows)


def _in_pieces(pool: ThreadPoolExecutor, work: Callable[[str], T], paths: Sequence[str]) -> Iterator[T]:
    """The result of quick work on each path, in order, in few tasks."""
    size = -(-len(paths) // THREADS)
    pieces = [paths[first : first + size] for first in range(0, len(paths), size)]
    return itertools.chain.from_iterable(pool.map(lambda piece: [work(path) for path in piece], pieces))


def _content_hash(file: Path) -> str:
    return xxhash.xxh3_128(b"".join(_blocks(file))).hexdigest()


def _blocks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as opened:
        while block := opened.read(1 << 20):
            yield block
