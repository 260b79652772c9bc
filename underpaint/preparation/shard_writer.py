"""Tar shards in the WebDataset layout: ``KEY.jpg`` and ``KEY.json`` side by side, the same bytes every time."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Mapping
from typing import BinaryIO

MAX_KEY_BYTES = 90
"""With an extension, what the name of a member may have at most in the plainest of headers."""

_BLOCK = tarfile.BLOCKSIZE


class ShardWriter:
    """Appends members to a file and says where their content lies; nothing of a machine or an hour is in it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._place = 0

    def add(self, name: str, content: bytes) -> int:
        """The offset of the content."""
        header = tarfile.TarInfo(name)
        header.size, header.mode = len(content), 0o644
        self._write(header.tobuf(tarfile.USTAR_FORMAT, "utf-8", "strict"))
        offset = self._place
        self._write(content)
        self._write(bytes(-len(content) % _BLOCK))
        return offset

    def add_json(self, name: str, value: Mapping[str, object]) -> None:
        """What is known of an image, without what is empty."""
        filled = {field: content for field, content in value.items() if content}
        self.add(name, json.dumps(filled, ensure_ascii=False, sort_keys=True).encode())

    def finish(self) -> None:
        """The two empty blocks that end a tar."""
        self._write(bytes(2 * _BLOCK))

    def _write(self, content: bytes) -> None:
        self._file.write(content)
        self._place += len(content)
