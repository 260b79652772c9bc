"""The encoding of a table's text, and the character between its fields, as programs export them.

Spreadsheets of many countries write semicolons, and old programs an encoding of single bytes. Both are found from the
file itself; where that cannot be decided the table is refused, so that no word is read wrongly.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from underpaint.data.tables.table_file import DELIMITERS
from underpaint.messages import say

_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_WESTERN = "cp1252"
_WORD = re.compile(r"[^\W\d_]+")


def encoding_of(blocks: Callable[[], Iterable[bytes]], file: Path, *, advice: str = "save it as UTF-8") -> str:
    """The encoding of a table: Unicode's by its mark, UTF-8, or that of Windows in Western Europe, which is said.

    ``blocks`` reads the file from its beginning, piece by piece; ``advice`` ends the message about another encoding.
    Windows' encoding is taken where half of the letters
    of the words with accents are plain ones, as in the languages that are written in it: words in other encodings of
    single bytes would have hardly any.

    Raises:
        ValueError: for any other encoding.
    """
    start = next(iter(blocks()), b"")
    for mark, encoding in _MARKS.items():
        if start.startswith(mark):
            return encoding
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for block in blocks():
            decoder.decode(block)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        if not _is_western(blocks()):
            raise ValueError(f"{file} is not a table in UTF-8: {error}; {advice}") from error
        say(f"{file.name} is not in UTF-8: it is read as Windows-1252; save it as UTF-8 if words are wrong")
        return _WESTERN
    return "utf-8"


def delimiter_of(line: str, is_known: Callable[[str], bool]) -> str:
    """The character by which a header has most of the columns that are known; a comma where it has none."""

    def known(delimiter: str) -> int:
        try:
            return sum(map(is_known, next(csv.reader([line], delimiter=delimiter), [])))
        except csv.Error:  # without its own delimiter a header of many columns is a field longer than Python reads
            return 0

    return max(DELIMITERS.values(), key=known)


def _is_western(blocks: Iterable[bytes]) -> bool:
    plain = accented = 0
    for block in blocks:
        try:
            text = block.decode(_WESTERN)
        except UnicodeDecodeError:
            return False
        for word in _WORD.findall(text):
            letters = sum(letter.isascii() for letter in word)
            if letters < len(word):
                plain, accented = plain + letters, accented + len(word) - letters
    return plain >= accented > 0
