"""Keywords of an IPTC-IIM block (record 2:25), read past damage.

Source: IPTC-NAA Information Interchange Model 4.2. A dataset is a marker, a record, a number, a size and its content.
A damaged byte in one of these is bridged where the next dataset shows where this one ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

_UTF_8 = (b"\x1b%G", b"\x1b%/G", b"\x1b%/H", b"\x1b%/I")
_LATIN_1 = (b"", b"\x1b.A", b"\x1b-A", b"\x1b,A")
_NO_ASCII = (b"\x1b$@", b"\x1b$A", b"\x1b$B", b"\x1b$(")
"""Escape sequences of character sets of two bytes a character, in which bytes of ASCII letters mean others."""

_MARKER = b"\x1c"
_DAMAGED = "damaged IPTC"
_RECORDS = range(1, 10)
_CHARSET, _KEYWORD = (1, 90), (2, 25)
_BINARY = (125, 200, 201, 202)
"""Numbers of datasets of record 2 that are not text, and so may contain the marker."""


def iptc_keywords(data: bytes) -> tuple[list[str], list[str]]:
    """The keywords of a block, by the character set that it declares, and the reasons why some are left out.

    Most writers declare UTF-8 (record 1:90) or nothing. Then bytes that are valid UTF-8 are read as such, since Latin-1
    hardly ever looks like it, and all others as Latin-1. In a block in another set only keywords in valid UTF-8 are
    read.
    """
    charset = b""
    keywords: list[bytes] = []
    reasons: list[str] = []
    for dataset in _datasets(data):
        if dataset.damage:
            reasons.append(dataset.damage)
        if dataset.kind == _CHARSET:
            charset = dataset.content
        elif dataset.kind == _KEYWORD and not dataset.is_cut:
            keywords.append(dataset.content)
    if keywords and charset not in (*_UTF_8, *_LATIN_1):
        reasons.append(f"IPTC in the character set {charset[:16]!r}")
    if charset.startswith(_NO_ASCII):
        return [], reasons
    decoded: list[str] = []
    for keyword in keywords:
        try:
            decoded.append(keyword.decode("utf-8"))
        except UnicodeDecodeError:
            if charset in _LATIN_1:
                decoded.append(keyword.decode("latin-1"))
            else:
                reasons.append("an IPTC keyword that is not UTF-8")
    return decoded, reasons


@dataclass(frozen=True, kw_only=True, slots=True)
class _Dataset:
    kind: tuple[int, int]
    """Record and number of the dataset."""
    content: bytes
    damage: str = ""
    is_cut: bool = False
    """Whether the end of the content cannot be found."""


def _datasets(data: bytes) -> Iterator[_Dataset]:
    """Yield every dataset, also behind damage, which is reported with the first dataset after it."""
    place, end = 0, len(data.rstrip(b"\0"))
    while place < end:
        start, size = _content_of(data, place)
        content = data[start : start + size]
        kind = (data[place + 1], data[place + 2]) if place + 2 < len(data) else (0, 0)
        damage = "" if data.startswith(_MARKER, place) else _DAMAGED
        if kind[0] in _RECORDS and _is_end(data, start + size, end) and not _swallows(kind, content):
            yield _Dataset(kind=kind, content=content, damage=damage)
            place = start + size
            continue
        following = _next_marker(data, place + 1)
        if damage or kind[0] not in _RECORDS:  # no dataset begins here
            yield _Dataset(kind=(0, 0), content=b"", damage=_DAMAGED)
        elif following < 0:
            yield _Dataset(kind=kind, content=content, damage=_DAMAGED, is_cut=True)
        else:  # a wrong size: the content ends where the next dataset begins
            yield _Dataset(kind=kind, content=data[place + 5 : following], damage=_DAMAGED)
        if following < 0:
            return
        place = following


def _content_of(data: bytes, place: int) -> tuple[int, int]:
    """Start and size of the content of a dataset, as its header states them."""
    size = int.from_bytes(data[place + 3 : place + 5], "big")
    start = place + 5
    if size & 0x8000 and (digits := size & 0x7FFF) <= 4:  # an extended dataset tells how many bytes its size has
        return start + digits, int.from_bytes(data[start : start + digits], "big")
    return start, size


def _is_end(data: bytes, place: int, end: int) -> bool:
    """Whether a dataset can end here: at the end, or before a header with at most its marker damaged."""
    if place > len(data):
        return False
    if place >= end or data.startswith(_MARKER, place):
        return True
    start, size = _content_of(data, place)
    following = start + size
    ends_well = end <= following <= len(data) or data.startswith(_MARKER, following)
    return place + 1 < len(data) and data[place + 1] in _RECORDS and ends_well


def _swallows(kind: tuple[int, int], content: bytes) -> bool:
    """Whether the content reaches over further datasets, as a marker in a text shows."""
    return kind[0] == 2 and kind[1] not in _BINARY and _MARKER in content


def _next_marker(data: bytes, place: int) -> int:
    """The place of the next marker with a record behind it; -1 where there is none."""
    while (place := data.find(_MARKER, place)) >= 0:
        if place + 5 <= len(data) and data[place + 1] in _RECORDS:
            return place
        place += 1
    return -1
