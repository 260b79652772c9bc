"""Separation of a text into tags, by the same rule for tables, sidecars and JSON (docs/data.md).

A list is taken as it is, also where it is written as text (``['brown bear', 'snow']``). Otherwise one separator holds
for a whole column: lines, then ``;``, then ``|``, then ``,``, then blanks; full-width and Arabic ones count as well.
Hashtags may be run together.
"""

from __future__ import annotations

import ast
import html
import json
import re
import urllib.parse
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Literal

Separator = Literal["lines", ";", "|", ",", "blanks"]

LEAST_SHARE = 0.05
"""Share of a column's texts with several words that must be exceeded by those with a comma, for commas to separate, and
for bars: a stray comma or ``|_|`` in space-separated rows would otherwise join the tags of all others."""

_EMOTICON = r"(?:(?<![^\s;,]);(?:[-'^~]?[)(\]\[dDpPoOqQ3tT/\\|*<>]|_;)(?![^\s;,]))"
"""Pattern of winks, which contain a semicolon: ``;d``, ``;)``, ``;-)``, ``;_;``."""
_ENTITY = r"(?:&(?:[A-Za-z][A-Za-z0-9]{1,30}|#\d{1,7}|#[xX][0-9A-Fa-f]{1,6});)"
"""Pattern of character references of HTML, such as ``&amp;``."""
_SEMICOLON = re.compile(f"{_EMOTICON}|{_ENTITY}|([;\uff1b\u061b])")
_BAR = re.compile(r"(?<![:;=8^>'-])[|\uff5c](?![:;=])")
"""Pattern of a bar that separates, unlike that of ``:|``."""
_ESCAPED = re.compile(r"%[0-9A-Fa-f]{2}")
MARKS = ("#", "\uff03")
_HASHES = re.compile("[#\uff03]")
_COMMA = re.compile(r",(?!\d)|(?<!\d),|[\uff0c\u3001\u060c]")
"""Pattern of a comma that separates, unlike that of ``1,000``."""


class SeparatorCount:
    """Counts the texts of a column that contain each separator, block by block, and chooses one."""

    def __init__(self) -> None:
        self.texts: Counter[str] = Counter()

    def add(self, texts: Iterable[object]) -> None:
        for text in texts:
            if not isinstance(text, str) or _written_list(text) is not None:
                continue
            text = text.strip()
            commas = bool(_COMMA.search(text))
            self.texts["lines"] += "\n" in text
            self.texts[";"] += any(match.group(1) for match in _SEMICOLON.finditer(text))
            bars = bool(_BAR.search(text))
            self.texts["|"] += bars
            self.texts[","] += commas
            self.texts["several"] += commas or bars or (" " in text and not text.startswith(MARKS))

    def choose(self) -> Separator:
        if self.texts["lines"]:
            return "lines"
        if self.texts[";"]:
            return ";"
        enough = LEAST_SHARE * self.texts["several"]
        if self.texts["|"] > enough:
            return "|"
        return "," if self.texts[","] > enough else "blanks"


def split_tags(value: object, separator: Separator | None = None) -> tuple[str, ...]:
    """The tags of one cell or field, as they were written; without ``separator`` the text's own is found.

    A number gives its digits (a whole one without ``.0``), and a missing value or NaN gives no tag.
    """
    if isinstance(value, str):
        listed = _written_list(value)
        value = list(_split(value.strip(), separator)) if listed is None else listed
    if isinstance(value, (list, tuple)):
        return tuple(_unescaped(word) for tag in value if (word := word_of(tag)))
    return (word,) if (word := word_of(value)) else ()


def word_of(value: object) -> str:
    """A value of a table as text; 7.0 gives ``7``, since a column of whole numbers with a gap becomes floats."""
    if value is None or isinstance(value, (bool, dict)) or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def describe(separator: Separator) -> str:
    """The name of the separator, in the plural."""
    return {"lines": "lines", ";": "semicolons", "|": "bars", ",": "commas", "blanks": "blanks"}[separator]


def _split(text: str, separator: Separator | None) -> Iterator[str]:
    if separator is None:
        count = SeparatorCount()
        count.add([text])
        separator = count.choose()
    for tag in _parts(text, separator):
        # hashtags need nothing between them
        yield from _HASHES.split(tag) if tag.strip().startswith(MARKS) else (tag,)


def _parts(text: str, separator: Separator) -> list[str]:
    if separator == "lines":
        return text.split("\n")
    if separator == ";":
        return _at_semicolons(text)
    if separator in ("|", ","):
        return (_BAR if separator == "|" else _COMMA).split(text)
    return text.split()


def _at_semicolons(text: str) -> list[str]:
    cuts = [match.start() for match in _SEMICOLON.finditer(text) if match.group(1)]
    starts, ends = [0, *(cut + 1 for cut in cuts)], [*cuts, len(text)]
    return [text[start:end] for start, end in zip(starts, ends, strict=True)]


def _written_list(text: str) -> list[object] | None:
    """The list that a text spells in JSON or Python; None where it spells none."""
    text = text.strip()
    if not (text.startswith("[") and text.endswith("]")):
        return None
    for read in (json.loads, ast.literal_eval):
        try:
            listed = read(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if isinstance(listed, list) and all(not isinstance(item, (list, dict, tuple, set)) for item in listed):
            return listed
    return None


def _unescaped(tag: str) -> str:
    """The tag with percent-encoding and HTML references decoded; for tags that are split already."""
    if _ESCAPED.search(tag):
        decoded = urllib.parse.unquote_plus(tag)
        tag = tag if "\ufffd" in decoded else decoded
    return html.unescape(tag) if "&" in tag else tag
