"""The words of names and captions, in whatever language."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

_WORD = re.compile(r"[^\W_]+(?:['\u2019.-][^\W_]+)*")
_ALPHABETS = ("LATIN", "CYRILLIC", "ARABIC", "GREEK", "DIGIT")


def words(texts: Iterable[str]) -> tuple[str, ...]:
    """The distinct words of all texts, in order, lower-cased, without single letters.

    Languages that write without spaces give a text as one word.
    """
    found = (word for text in texts for word in all_words(text))
    return tuple(dict.fromkeys(word for word in found if not _is_single_letter(word)))


def all_words(text: str) -> list[str]:
    """Every word of one text."""
    return _WORD.findall(plain(text))


def plain(text: str) -> str:
    """Composed (NFC), lower-cased, with spaces for underscores."""
    return unicodedata.normalize("NFC", text).lower().replace("_", " ")


def _is_single_letter(word: str) -> bool:
    """One letter is no word in scripts that spell; in Chinese, Japanese and Korean it is."""
    return len(word) == 1 and unicodedata.name(word, "").startswith(_ALPHABETS)
