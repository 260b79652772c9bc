"""Keywords embedded in image files, as Lightroom, digiKam and exports of Flickr write them.

XMP ``dc:subject``, the hierarchical lists of Lightroom, digiKam and Windows, and IPTC keywords (record 2:25) are read.
The bytes are not trusted: sizes, depth and numbers are limited, damage costs the keyword it hits and no other, and
everything that is not read is reported with a reason, so that it can be counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from underpaint.data.decode.embedded_packets import read_packets
from underpaint.data.decode.iptc_keywords import iptc_keywords
from underpaint.data.decode.packets import MAX_PACKET_BYTES, BadPacket, Packets
from underpaint.data.decode.predicted_tags import PREDICTED, WRITTEN, Writing, read_writing, without_predicted
from underpaint.data.decode.xmp_keywords import DAMAGE, FLAT, HIERARCHICAL, decode_packet, extension_of, xmp_keywords
from underpaint.tags.keyword_paths import BAR, levels_of
from underpaint.tags.normalise import MAX_TAG_LETTERS

MAX_TAGS = 1000
"""Largest number of tags read of one image; agencies allow 50, but synonyms in many languages can be hundreds."""

_NOTES_OF_PROGRAMS = ("darktable", "_Digikam_Internal_Tags_")
"""First words of hierarchies in which programs keep their own marks."""


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """The keywords of one image that people wrote."""

    tags: tuple[str, ...]
    """Distinct tags, as they were written, in order: ``dc:subject``, IPTC, then hierarchical keywords of two and more
    levels as ``Animals|Bears|brown bear`` (``tags/keyword_paths.py`` makes words of them)."""
    refused: tuple[str, ...] = ()
    """Reasons why packets or keywords were not read."""
    predicted: tuple[str, ...] = ()
    """Tags that this package wrote; they are not among ``tags``."""
    writing: Writing | None = None
    """The times of that."""


def embedded_tags(data: bytes) -> Embedded:
    """The keywords embedded in the bytes of an image file; no pixel is decoded."""
    return _keywords(read_packets(data))


def keyword_properties(data: bytes) -> list[tuple[str, str]]:
    """The keywords in the bytes of an image file as they stand there: ``{namespace}name`` of the list, and the text.

    Those of IPTC count as of the flat list. Damaged ones are left out.
    """
    packets = read_packets(data)
    (flat,) = FLAT
    return [*_xmp_keywords(packets, []), *((flat, text) for text in iptc_keywords(packets.iptc)[0])]


def packet_tags(packet: bytes) -> Embedded:
    """The keywords of an XMP packet that is a file beside the image, as Lightroom and darktable write it."""
    if len(packet) > MAX_PACKET_BYTES:
        return Embedded(tags=(), refused=(f"XMP of {len(packet)} bytes; at most {MAX_PACKET_BYTES} are read",))
    return _keywords(Packets(xmp=packet))


def _keywords(packets: Packets) -> Embedded:
    refused = list(packets.refused)
    flat: list[str] = []
    paths: list[str] = []
    ours: dict[str, list[str]] = {PREDICTED: [], WRITTEN: []}
    for name, text in _xmp_keywords(packets, refused):
        if name in FLAT:
            flat.append(text)
        elif name in ours:
            ours[name].append(text)
        else:
            paths += _path(text, HIERARCHICAL[name])
    keywords_of_iptc, reasons = iptc_keywords(packets.iptc)
    refused += reasons
    flat, paths = without_predicted([*flat, *keywords_of_iptc], paths, ours[PREDICTED])
    known = {tag.casefold() for tag in flat}
    tags = list(dict.fromkeys(_clean([*flat, *(path for path in paths if path.casefold() not in known)], refused)))
    if len(tags) > MAX_TAGS:
        refused.append(f"{len(tags)} keywords; the first {MAX_TAGS} are read")
    return Embedded(
        tags=tuple(tags[:MAX_TAGS]),
        refused=tuple(refused),
        predicted=tuple(dict.fromkeys(ours[PREDICTED]))[:MAX_TAGS],
        writing=read_writing(ours[WRITTEN]),
    )


def _xmp_keywords(packets: Packets, refused: list[str]) -> Iterator[tuple[str, str]]:
    """The keywords of the packet and of the extended one that it names; reasons for others are added to ``refused``."""
    try:
        text = decode_packet(packets.xmp)
        keywords, damage = xmp_keywords(text)
        yield from keywords
        refused += [damage] if damage else []
        if (extension := extension_of(text)) in packets.extended:
            keywords, damage = xmp_keywords(decode_packet(packets.extended[extension]))
            yield from keywords
            refused += [damage] if damage else []
        elif extension and not packets.refused:
            refused.append("extended XMP that is not in the file")
    except BadPacket as error:
        refused.append(str(error))


def _path(text: str, separator: str) -> list[str]:
    """The path with bars between its levels; nothing for the marks of programs."""
    words = [word.strip() for word in text.split(separator)]
    return [] if words[0] in _NOTES_OF_PROGRAMS else [BAR.join(word.replace(BAR, " ") for word in words if word)]


def _clean(tags: Iterable[str], refused: list[str]) -> Iterator[str]:
    """The tags without control characters and surrounding spaces, leaving out empty, damaged and too long ones."""
    for tag in tags:
        text = " ".join("".join(letter if letter.isprintable() else " " for letter in tag).split())
        if DAMAGE in text:
            refused.append("an XMP keyword with bytes that are not text")
        elif max(map(len, levels_of(text)), default=0) > MAX_TAG_LETTERS:
            refused.append(f"a keyword of {len(text)} letters; at most {MAX_TAG_LETTERS} are read")
        elif text:
            yield text
