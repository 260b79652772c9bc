"""Keywords that are written with the words above them: ``Places|Norway|Bergen``, ``Animals > Birds > barn owl``.

Lightroom and Capture One separate the levels by ``|``, others by ``>``; digiKam's and Windows' own lists, whose levels
``/`` separates, are read by ``data/decode/embedded_tags.py`` and arrive here with bars.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

BAR = "|"
_BETWEEN_LEVELS = re.compile(r"(?<![:;=8^>'-])\s*[|\uff5c](?![:;=])\s*|\s+[>\u203a\xbb]\s+")
"""Pattern of what separates levels: a bar that is part of no emoticon (``:|``), or a ``>`` between blanks."""


def levels_of(tag: str) -> tuple[str, ...]:
    """The words of a tag from the highest level to the lowest; a tag without levels is its only word."""
    return tuple(word for part in _BETWEEN_LEVELS.split(tag) if (word := part.strip()))


def words_and_paths(tags: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The distinct words of all levels, and the paths (``Places|Norway``) of tags with at least two levels.

    Words that stand alone come first, and a word of a path that they hold in another case is not repeated, so that an
    image counts once for a label.
    """
    levels = [levels_of(tag) for tag in tags]
    words = dict.fromkeys(words[0] for words in levels if len(words) == 1)
    known = {word.casefold() for word in words}
    paths = [words for words in levels if len(words) > 1]
    for word in (word for path in paths for word in reversed(path)):
        if word.casefold() not in known:
            known.add(word.casefold())
            words[word] = None
    return tuple(words), tuple(dict.fromkeys(BAR.join(path) for path in paths))
