"""The undo file: what every sidecar was before it was written, kept until it is taken back.

A part of it is on the disk before the sidecars that it is about are touched, so that a killed process leaves nothing
that cannot be undone, and the same command goes on.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypedDict

import xxhash

from underpaint import files
from underpaint.tagging.sidecars import Change

if TYPE_CHECKING:
    import pyarrow as pa

UNDO = "undo"
"""Name of the folder of the parts."""
CHANGED_MEANWHILE = "was changed meanwhile and stays as it is"
_FAULTS_OF_ONE_FILE = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.EISDIR, errno.ENOENT, errno.ENOTDIR}
)
"""Numbers of the system's errors that other sidecars need not have."""


class Entry(TypedDict):
    """One sidecar."""

    sidecar: bytes
    """Its path relative to the folder of the images, as the system's bytes."""
    before: bytes | None
    """Its content before; None for a file that was not there."""
    mode: int | None
    changed: int
    """Permissions, and time of change in nanoseconds, before."""
    after: bytes
    """XXH3-128 of its content afterwards."""


class Undone(NamedTuple):
    """Numbers of sidecars."""

    restored: int
    deleted: int
    """Those that had not been there."""
    untouched: int
    """Those that are as before already."""
    kept: list[Path]
    """Those that somebody has changed since, which stay as they are."""


class Journal:
    """The parts in the folder ``UNDO`` of a folder, in the order of writing, about sidecars below ``images``.

    A file may come from anybody: it can name nothing but sidecars in the folder that the user names.
    """

    def __init__(self, folder: Path, images: Path) -> None:
        self.folder, self._images = folder / UNDO, images.absolute()

    def parts(self) -> list[Path]:
        return sorted(self.folder.glob("*.parquet"))

    def written(self) -> set[Path]:
        """The sidecars that have been written, and those that somebody has changed since."""
        entries = (entry for part in self.parts() for entry in read_part(part))
        return {self._path(entry) for entry in entries if not _has(self._path(entry), entry["before"])}

    def write(self, changes: Sequence[Change]) -> dict[Path, str]:
        """Keep what the sidecars are, then write them; those that stay as they are come back with the reason.

        Reasons are a change since they were read, and a folder or a name that takes no file.

        Raises:
            OSError: if the disk is full or damaged.
        """
        if not changes:
            return {}
        self.folder.mkdir(parents=True, exist_ok=True)
        files.write_bytes(self.folder / f"{len(self.parts()):06d}.parquet", self._packed(changes))
        left: dict[Path, str] = {}
        for change in changes:
            try:
                if _has(change.sidecar, change.before):
                    files.write_bytes(change.sidecar, change.after, mode=change.mode, changed=change.written)
                else:
                    left[change.sidecar] = CHANGED_MEANWHILE
            except OSError as error:
                if error.errno not in _FAULTS_OF_ONE_FILE:
                    raise
                left[change.sidecar] = f"cannot be written: {error.strerror}"
        return left

    def undo(self) -> Undone:
        """Restore every sidecar that is as it was written, byte by byte, the last part first.

        The parts are kept afterwards under another name.
        """
        restored = deleted = untouched = 0
        kept: list[Path] = []
        for part in reversed(self.parts()):
            for entry in read_part(part):
                sidecar = self._path(entry)
                if _has(sidecar, entry["before"]):
                    untouched += 1
                elif not sidecar.is_file() or xxhash.xxh3_128_digest(sidecar.read_bytes()) != entry["after"]:
                    kept.append(sidecar)
                elif entry["before"] is None:
                    sidecar.unlink()
                    deleted += 1
                else:
                    files.write_bytes(sidecar, entry["before"], mode=entry["mode"], changed=entry["changed"])
                    restored += 1
        number = 1 + len(list(self.folder.parent.glob("undone-*")))
        os.replace(self.folder, self.folder.with_name(f"undone-{number}"))
        return Undone(restored, deleted, untouched, kept)

    def _path(self, entry: Entry) -> Path:
        return self._images / os.fsdecode(entry["sidecar"])

    def _packed(self, changes: Sequence[Change]) -> bytes:
        import pyarrow as pa
        import pyarrow.parquet as pq

        rows: list[Entry] = [
            {
                "sidecar": os.fsencode(change.sidecar.relative_to(self._images)),
                "before": change.before,
                "mode": change.mode,
                "changed": change.changed,
                "after": xxhash.xxh3_128_digest(change.after),
            }
            for change in changes
        ]
        content = BytesIO()
        pq.write_table(pa.Table.from_pylist(rows, _schema()), content, compression="zstd")
        return content.getvalue()


def _has(file: Path, content: bytes | None) -> bool:
    """Whether a file has this content, where None stands for no file; a folder or a pipe in its place has none."""
    if content is None:
        return not file.exists()
    return file.is_file() and file.read_bytes() == content


def _schema() -> pa.Schema:
    import pyarrow as pa

    return pa.schema(
        {
            "sidecar": pa.binary(),
            "before": pa.large_binary(),
            "mode": pa.int32(),
            "changed": pa.int64(),
            "after": pa.binary(16),
        }
    )


def read_part(part: Path) -> Iterator[Entry]:
    """The entries of a part.

    Raises:
        ValueError: if it is damaged, or names anything but an XMP file below the folder of the images.
    """
    import pyarrow.parquet as pq

    with files.reading_parquet(part):
        table = pq.read_table(part)
        table.validate(full=True)
    if not table.schema.equals(_schema()):
        raise ValueError(f"{part} has other columns than an undo file; it is damaged")
    for entry in table.to_pylist():
        sidecar = Path(os.fsdecode(entry["sidecar"] or b""))
        if sidecar.is_absolute() or ".." in sidecar.parts or sidecar.suffix != ".xmp" or entry["after"] is None:
            raise ValueError(f"{part} names {str(sidecar)!r}, which is not an XMP file in the folder of the images")
        yield entry
