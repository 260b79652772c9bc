"""Normalisation of a typed tag to its words, or to the reason why it has none."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

_KEPT_FORMAT = "\u200c\u200d"
"""The joiners, which belong to the spelling of Persian and of the scripts of India."""
_ADDRESS = re.compile(
    r"(?:[a-z][a-z0-9+.-]*://|www\.|mailto:)\S*|\S+@\S+\.\S+|[\w-]+(?:\.[\w-]+)*\.(?:com|org|net)(?:/\S*)?"
)
_MACHINE = re.compile(r"[a-z]\w*:\w+=.*|hash\(.*\)|0x[0-9a-f]+")
_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")
_MARKS = re.compile(r"[\W_]+")
_ALPHABETS = ("LATIN", "CYRILLIC", "GREEK", "ARABIC", "HEBREW", "ARMENIAN", "GEORGIAN")
MAX_TAG_LETTERS = 200
"""Largest number of letters of a tag: no word has more, so a longer tag is a text in the wrong place."""


@dataclass(frozen=True, slots=True)
class Form:
    """The words of a tag in small letters."""

    words: tuple[str, ...]
    """The words, parted at blanks, hyphens, underscores and other marks, and where small letters meet capitals."""
    whole: tuple[str, ...]
    """The words, parted at blanks and marks but not at capitals."""

    @property
    def run(self) -> str:
        """The word of a tag that is a single word; "" for others."""
        return self.words[0] if len(self.words) == 1 else ""


@dataclass(frozen=True, slots=True)
class Nothing:
    """A tag without a word."""

    reason: str


def plain(tag: str) -> str:
    """The tag in NFKC, without invisible characters and without blanks and hash signs around it; the case stays."""
    text = tag
    if not text.isascii() or not text.isprintable():
        text = "".join(mark for mark in unicodedata.normalize("NFKC", text) if not _invisible(mark))
    return text.strip().lstrip("#").strip()


def normalise(tag: str) -> Form | Nothing:
    """The words of a tag, or the reason why it has none.

    Tags without a word in any language are addresses, @names, machine tags, numbers, codes, single letters of
    alphabets, mere signs, and texts longer than MAX_TAG_LETTERS.
    """
    if len(tag) > MAX_TAG_LETTERS:
        return Nothing(f"longer than {MAX_TAG_LETTERS} letters")
    text = plain(tag)
    lowered = _lower(text)
    if not lowered.isalpha() and (reason := _machine_made(lowered)):
        return Nothing(reason)
    whole = (lowered,) if lowered.isalnum() else tuple(_words(lowered))
    if not any(mark.isalpha() for word in whole for mark in word):
        return Nothing("a number" if whole else "no letters")
    if len(whole) == 1 and _is_single_letter(whole[0]):
        return Nothing("a single letter")
    if len(whole) == 1 and _is_code(whole[0]):
        return Nothing("a code")
    if text == lowered or text.isupper():
        return Form(words=whole, whole=whole)
    return Form(words=tuple(_words(_lower(_part_at_capitals(text)))), whole=whole)


def squeeze(text: str) -> str:
    """Letters, digits and the signs combined with them, which two spellings of one compound have in common.

    A vowel sign of Hindi, Thai, Arabic or Hebrew tells words apart as a letter does.
    """
    if text.isalnum():
        return text
    if text.isascii():
        return _MARKS.sub("", text)
    return "".join(mark for mark in text if mark.isalnum() or _combines(mark))


def _machine_made(lowered: str) -> str:
    """The reason why a tag is not a word that a person wrote; "" where it may be one."""
    if lowered.startswith("@"):
        return "an @name"
    if _ADDRESS.fullmatch(lowered):
        return "an address"
    return "written by a program" if _MACHINE.fullmatch(lowered) else ""


def _invisible(mark: str) -> bool:
    category = unicodedata.category(mark)
    return (category in {"Cc", "Cf", "Co", "Cs", "Cn"} and mark not in _KEPT_FORMAT) or "\ufe00" <= mark <= "\ufe0f"


def _lower(text: str) -> str:
    return text.lower().replace("i\u0307", "i")  # Turkish capital I with a dot


def _words(text: str) -> list[str]:
    if text.isascii():
        return _WORD.findall(text)
    # marks that stand as characters of their own (vowel signs of the scripts of India) belong to the word
    letters = "".join(mark if _is_of_a_word(mark) else " " for mark in text.replace("\u2019", "'"))
    return [word for word in (part.strip("'" + _KEPT_FORMAT) for part in letters.split()) if word]


def _is_of_a_word(mark: str) -> bool:
    return mark.isalnum() or mark in _KEPT_FORMAT or mark == "'" or _combines(mark)


def _combines(mark: str) -> bool:
    return unicodedata.category(mark)[0] == "M"


def _part_at_capitals(text: str) -> str:
    """The text with a blank before each capital that begins a word: ``Brown Bear``, ``HTML Page``."""
    parted: list[str] = []
    for index, mark in enumerate(text):
        after_small = index > 0 and text[index - 1].islower()
        before_small = index > 0 and text[index - 1].isupper() and text[index + 1 : index + 2].islower()
        parted.append(f" {mark}" if mark.isupper() and (after_small or before_small) else mark)
    return "".join(parted)


def _is_single_letter(word: str) -> bool:
    """Whether a word is one letter of an alphabet; in Chinese, Japanese and Korean one character can be a word."""
    return len(word) == 1 and unicodedata.name(word, "").startswith(_ALPHABETS)


def _is_code(word: str) -> bool:
    """Whether digits and letters alternate as in checksums and serial numbers: 8 characters, 3 runs of digits."""
    return len(word) >= 8 and not word.isalpha() and len(re.findall(r"\d+", word)) >= 3
