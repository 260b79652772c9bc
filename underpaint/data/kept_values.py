"""Values measured from files, kept from one call to the next in a database of the cache folder.

A text file of all values would be read and written whole: at ten million files that takes gigabytes and minutes, and
work that is killed keeps nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from underpaint.messages import say

FORMAT = 2
SECONDS = 30.0
"""Time to wait for another process that writes."""
AT_ONCE = 500
"""Paths of one query; a query for each would take four times as long."""
Value = int | str


class KeptValues:
    """Rows of two values that make a stamp and a measured one, by path.

    A cache that cannot be read or written only costs time: it is said once, and everything is measured.
    """

    def __init__(self, database: sqlite3.Connection | None, file: Path) -> None:
        self._database = database
        self._file = file

    def find(self, paths: Sequence[str]) -> dict[str, tuple[Value, ...]]:
        """The rows of these paths, as far as they are known."""
        values_of: dict[str, tuple[Value, ...]] = {}
        if self._database is None:
            return values_of
        try:
            for first in range(0, len(paths), AT_ONCE):
                path_of = {_bytes(path): path for path in paths[first : first + AT_ONCE]}
                marks = ", ".join("?" * len(path_of))
                query = f"SELECT path, one, two, value FROM files WHERE path IN ({marks})"  # noqa: S608  marks alone
                rows = self._database.execute(query, tuple(path_of))
                values_of.update((path_of[path], tuple(values)) for path, *values in rows)
        except sqlite3.Error as error:
            self.give_up(error)
        return values_of

    def keep(self, rows: Iterable[tuple[Value, ...]]) -> None:
        """Write rows of a path, a stamp and a value to the disk."""
        written = [(_bytes(str(path)), *values) for path, *values in rows]
        if self._database is None or not written:
            return
        try:
            with self._database:
                self._database.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", written)
        except (sqlite3.Error, OverflowError) as error:
            self.give_up(error)

    def give_up(self, error: Exception) -> None:
        """Keep nothing from now on, and say why; a damaged file is removed, so that the next call begins anew."""
        self._database = None
        if is_damage(error):
            self._file.unlink(missing_ok=True)
        say(f"The values measured from the files are not kept in {self._file}: {error}")


@contextmanager
def kept_values(file: Path) -> Iterator[KeptValues]:
    """The values kept in ``file``, which is made where it is missing and anew where it is damaged."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        database = _opened(file)
    except (OSError, sqlite3.Error) as error:
        kept = KeptValues(None, file)
        kept.give_up(error)
        yield kept
        return
    with closing(database):
        yield KeptValues(database, file)


def _opened(file: Path) -> sqlite3.Connection:
    try:
        return _with_table(file)
    except sqlite3.Error as error:
        if not is_damage(error):
            raise
        file.unlink()
        return _with_table(file)


def is_damage(error: Exception) -> bool:
    """Whether the file is broken, and not locked or on a full or read-only disk."""
    return isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError)


def _with_table(file: Path) -> sqlite3.Connection:
    database = sqlite3.connect(file, timeout=SECONDS)
    try:
        with database:
            version = database.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, FORMAT):
                database.execute("DROP TABLE IF EXISTS files")
            database.execute(
                "CREATE TABLE IF NOT EXISTS files (path BLOB PRIMARY KEY, one, two, value TEXT) WITHOUT ROWID"
            )
            database.execute(f"PRAGMA user_version = {FORMAT}")
        database.execute("SELECT path, one, two, value FROM files LIMIT 1").fetchall()
    except sqlite3.Error:
        database.close()
        raise
    return database


def _bytes(path: str) -> bytes:
    """Names of files may hold bytes that are not UTF-8, which a database refuses as text."""
    return path.encode("utf-8", "surrogatepass")
