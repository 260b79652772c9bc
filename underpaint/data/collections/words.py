"""The words of names and captions in any language."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import cache

_WORD = re.compile(r"[^\W_]+(?:['\u2019.-][^\W_]+)*")
_ALPHABETS = ("LATIN", "CYRILLIC", "ARABIC", "GREEK", "DIGIT")


def words(texts: Iterable[str], *, marks: bool) -> tuple[str, ...]:
    """The distinct words of all texts, in order, lower-cased, without single letters.

    A text in a language without spaces is one word. With ``marks``, vowel signs and accents that are separate
    characters belong to a word, as in the scripts of India; without, words end at them.
    """
    find = _word_with_marks().findall if marks else _WORD.findall
    matches = (word for text in texts for word in find(plain(text)))
    return tuple(dict.fromkeys(word for word in matches if not _is_single_letter(word)))


def all_words(text: str) -> list[str]:
    """Every word of a text, lower-cased, in order."""
    return _WORD.findall(plain(text))


def plain(text: str) -> str:
    """The text composed (NFC), lower-cased, with spaces for underscores."""
    return unicodedata.normalize("NFC", text).lower().replace("_", " ")


@cache
def _word_with_marks() -> re.Pattern[str]:
    marks = "".join(mark for mark in map(chr, range(0x10000)) if unicodedata.category(mark).startswith("M"))
    run = rf"[^\W_](?:[^\W_]|[{marks}\u200c\u200d])*"
    return re.compile(rf"{run}(?:['\u2019.-]{run})*")


def _is_single_letter(word: str) -> bool:
    """Whether a word is one letter of an alphabet; in Chinese, Japanese and Korean one character can be a word."""
    return len(word) == 1 and unicodedata.name(word, "").startswith(_ALPHABETS)
