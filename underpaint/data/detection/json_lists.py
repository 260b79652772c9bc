"""JSON files of any size read element by element: the annotations of LVIS take 1.1 GB, and far more as a whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TextIO

BLOCK = 1 << 20
"""Characters read at a time."""
LARGEST_VALUE = 1 << 26
"""Most characters of one element of a list, or of any other value; no annotation comes near."""


def read_lists(path: Path, take: Mapping[str, Callable[[object], None]]) -> None:
    """Hand each element of the lists of these names in a file's outermost object to their functions, in order.

    Other entries are skipped. No more than one element is in memory at a time.

    Raises:
        ValueError: if the file is not such JSON, or one of the lists is missing.
    """
    missing = dict(take)
    try:
        with path.open(encoding="utf-8-sig") as file:
            text = _Text(file)
            text.expect("{")
            separator = "," if text.peek() != "}" else "}"
            while separator == ",":
                name = text.value()
                text.expect(":")
                if text.peek() == "[":
                    _read_list(text, missing.pop(str(name), _ignore))
                else:
                    text.value()
                separator = text.expect(",}")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error.reason}") from error
    except RecursionError as error:
        raise ValueError(f"{path} is not a file of annotations: its values are nested too deeply") from error
    except _NotJSON as error:
        raise ValueError(f"{path} is not a whole JSON file of annotations: {error}") from error
    if missing:
        raise ValueError(f"{path} has no list named {' and none named '.join(sorted(missing))}; is it COCO's format?")


def _read_list(text: _Text, take: Callable[[object], None]) -> None:
    text.expect("[")
    if text.peek() == "]":
        text.expect("]")
        return
    separator = ","
    while separator == ",":
        take(text.value())
        separator = text.expect(",]")


def _ignore(element: object) -> None:
    """Element of a list that nobody asked for."""


class _NotJSON(Exception):
    """The text stops being JSON; the message is the reason."""


class _Text:
    """The text of a file from the place that was read so far."""

    def __init__(self, file: TextIO) -> None:
        self.file = file
        self.decoder = json.JSONDecoder()
        self.buffer, self.place, self.ended = "", 0, False

    def peek(self) -> str:
        """The next character that is not white space; "" at the end."""
        while True:
            while self.place < len(self.buffer) and self.buffer[self.place] in " \t\r\n":
                self.place += 1
            if self.place < len(self.buffer) or self.ended:
                return self.buffer[self.place : self.place + 1]
            self._read_on(BLOCK)

    def expect(self, characters: str) -> str:
        """Step over the next character, which must be one of these."""
        character = self.peek()
        if not character or character not in characters:
            here = repr(self.buffer[self.place : self.place + 20]) if character else "its end"
            raise _NotJSON(f"{' or '.join(characters)} is missing before {here}")
        self.place += 1
        return character

    def value(self) -> object:
        """The next value as a whole."""
        self.peek()
        size = BLOCK
        while True:
            try:
                value, end = self.decoder.raw_decode(self.buffer, self.place)
            except ValueError as error:  # of a number with thousands of digits as well
                reason = str(error)
            else:
                if end < len(self.buffer) or self.ended:  # else a number may go on
                    self.place = end
                    return value
                reason = "a value goes on"
            if self.ended or len(self.buffer) - self.place > LARGEST_VALUE:
                raise _NotJSON(reason)
            self._read_on(size)
            size *= 2  # a large value is not decoded again for every block

    def _read_on(self, size: int) -> None:
        block = self.file.read(size)
        self.ended = not block
        self.buffer, self.place = self.buffer[self.place :] + block, 0
