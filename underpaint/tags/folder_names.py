"""The tag that the name of a folder gives: ``2019-05 Bergen`` gives ``Bergen``, ``100CANON`` and ``Fotos 2021`` none.

Words for albums and names of programs (``album_words.txt``) say nothing of the picture in any language, nor do the
numbers of albums (``Fotos 3``). Other numbers stay: ``class 12`` is not ``class 13``.
"""

from __future__ import annotations

import re

from underpaint.tags.function_words import album_words

_DATE = re.compile(
    r"(?<!\d)(?:19|20)\d{2}(?:[-_. ]?\d{2}){0,2}(?!\d)|(?<!\d)\d{1,2}[-_.]\d{1,2}[-_.](?:19|20)?\d{2}(?!\d)"
)
"""Pattern of ``2019``, ``2019-05``, ``20190512``, ``12.05.2019``."""
_CAMERA = re.compile(r"\d{3}[A-Z0-9_]{5}|DCIM|\d{3}_\w{3,8}", re.IGNORECASE)
"""Pattern of folders that cameras make (DCF: three digits and five letters)."""
_LEAD = re.compile(r"^\W+|\W+$")


def tag_of_folder(name: str) -> str:
    """The folder's name without dates and album words at its ends; "" where nothing else is in it."""
    if _CAMERA.fullmatch(name.strip()):
        return ""
    words = _LEAD.sub("", _DATE.sub(" ", name)).replace("_", " ").split()
    while words and _is_bookkeeping(words[0]):
        del words[0]
    while words and _is_bookkeeping(words[-1]):
        del words[-1]
    tag = " ".join(words)
    return tag if tag == name or any(letter.isalpha() for letter in tag) else ""


def _is_bookkeeping(word: str) -> bool:
    letters = _LEAD.sub("", word).lower()
    return not letters or letters in album_words()
