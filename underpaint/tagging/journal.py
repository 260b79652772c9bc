"""The undo file: what every sidecar was before it was written, kept until it is taken back.

A part of it is on the disk before the sidecars that it is about are touched, so that a killed process leaves nothing
that cannot be undone, and the same command goes on.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
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
        return {self._path(entry) for entry in entries if _content(self._path(entry)) != entry["before"]}

    def write(self, changes: Sequence[Change]) -> list[Path]:
        """Keep what the sidecars are, then write them; those that have changed since they were read are returned."""
        if not changes:
            return []
        self.folder.mkdir(parents=True, exist_ok=True)
        files.write_bytes(self.folder / f"{len(self.parts()):06d}.parquet", self._packed(changes))
        changed_since: list[Path] = []
        for change in changes:
            if _content(change.sidecar) != change.before:
                changed_since.append(change.sidecar)
                continue
            files.write_bytes(change.sidecar, change.after, mode=change.mode, changed=change.written)
        return changed_since

    def undo(self) -> Undone:
        """Restore every sidecar that is as it was written, byte by byte, the last part first.

        The parts are kept afterwards under another name.
        """
        restored = deleted = untouched = 0
        kept: list[Path] = []
        for part in reversed(self.parts()):
            for entry in read_part(part):
                sidecar = self._path(entry)
                content = _content(sidecar)
                if content == entry["before"]:
                    untouched += 1
                elif content is None or xxhash.xxh3_128_digest(content) != entry["after"]:
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


def _content(file: Path) -> bytes | None:
    with suppress(FileNotFoundError):
        return file.read_bytes()
    return None


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
