"""The words of names and captions, in whatever language."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import cache

_WORD = re.compile(r"[^\W_]+(?:['\u2019.-][^\W_]+)*")
_ALPHABETS = ("LATIN", "CYRILLIC", "ARABIC", "GREEK", "DIGIT")


def words(texts: Iterable[str], *, marks: bool) -> tuple[str, ...]:
    """The distinct words of all texts, in order, lower-cased, without single letters.

    Languages that write without spaces give a text as one word. ``marks``: do vowel signs and accents that stand as
    characters of their own belong to a word, as in the scripts of India? Without, words end at them.
    """
    find = _word_with_marks().findall if marks else _WORD.findall
    matches = (word for text in texts for word in find(plain(text)))
    return tuple(dict.fromkeys(word for word in matches if not _is_single_letter(word)))


def all_words(text: str) -> list[str]:
    """Every word of one text."""
    return _WORD.findall(plain(text))


def plain(text: str) -> str:
    """Composed (NFC), lower-cased, with spaces for underscores."""
    return unicodedata.normalize("NFC", text).lower().replace("_", " ")


@cache
def _word_with_marks() -> re.Pattern[str]:
    marks = "".join(mark for mark in map(chr, range(0x10000)) if unicodedata.category(mark).startswith("M"))
    run = rf"[^\W_](?:[^\W_]|[{marks}\u200c\u200d])*"
    return re.compile(rf"{run}(?:['\u2019.-]{run})*")


def _is_single_letter(word: str) -> bool:
    """One letter is no word in scripts that spell; in Chinese, Japanese and Korean it is."""
    return len(word) == 1 and unicodedata.name(word, "").startswith(_ALPHABETS)
