"""Tar shards in the WebDataset layout: ``KEY.jpg`` and ``KEY.json`` side by side, the same bytes every time."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Mapping
from typing import BinaryIO

MAX_KEY_BYTES = 90
"""Largest key in bytes, so that with an extension the member's name fits into a plain USTAR header."""

_BLOCK = tarfile.BLOCKSIZE


class ShardWriter:
    """Appends members to a tar and returns the offsets of their contents; no times or owners are stored."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._place = 0

    def add(self, name: str, content: bytes) -> int:
        """Append a member; returns the offset of its content in bytes."""
        header = tarfile.TarInfo(name)
        header.size, header.mode = len(content), 0o644
        self._write(header.tobuf(tarfile.USTAR_FORMAT, "utf-8", "strict"))
        offset = self._place
        self._write(content)
        self._write(bytes(-len(content) % _BLOCK))
        return offset

    def add_json(self, name: str, value: Mapping[str, object]) -> None:
        """Append a JSON member with the fields of an image that are not empty."""
        filled = {field: content for field, content in value.items() if content}
        self.add(name, json.dumps(filled, ensure_ascii=False, sort_keys=True).encode())

    def finish(self) -> None:
        """Write the two empty blocks that end a tar."""
        self._write(bytes(2 * _BLOCK))

    def _write(self, content: bytes) -> None:
        self._file.write(content)
        self._place += len(content)
