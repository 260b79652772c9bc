"""Keywords that stand in the images themselves, as Lightroom, digiKam and exports of Flickr write them.

Read are XMP ``dc:subject``, the hierarchical lists of Lightroom, digiKam and Windows, and IPTC keywords (record 2:25).
The bytes are a stranger's: sizes, depth and numbers are limited, a document type is refused, no entity is expanded, and
what is refused is told, so that it can be counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from underpaint.data.decode.embedded_packets import BadPacket, read_packets

MAX_TAGS = 1000
"""Of one image; agencies allow 50, and a hundred fold of synonyms in many languages happens."""
MAX_TAG_LETTERS = 200

_MAX_DEPTH = 100
_MAX_ELEMENTS = 20_000
_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_FLAT = frozenset({"{http://purl.org/dc/elements/1.1/}subject"})
_HIERARCHICAL = {
    "{http://ns.adobe.com/lightroom/1.0/}hierarchicalSubject": "|",
    "{http://www.digikam.org/ns/1.0/}TagsList": "/",
    "{http://ns.microsoft.com/photo/1.0/}LastKeywordXMP": "/",
    "{http://ns.microsoft.com/photo/1.0}LastKeywordXMP": "/",
}
_NOTES_OF_PROGRAMS = ("darktable", "_Digikam_Internal_Tags_")
"""The first words of hierarchies in which these programs keep marks of their own."""
_NEEDLES = (b"subject", b"hierarchicalSubject", b"TagsList", b"LastKeywordXMP")

_UTF_8 = (b"\x1b%G", b"\x1b%/G", b"\x1b%/H", b"\x1b%/I")
_LATIN_1 = (b"", b"\x1b.A", b"\x1b-A", b"\x1b,A")


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """What an image says it shows."""

    tags: tuple[str, ...]
    """Distinct, as they were written, in order: ``dc:subject``, IPTC, then the last words of hierarchical keywords that
    the flat lists lack."""
    refused: tuple[str, ...] = ()
    """Why a packet or some keywords were not read, mostly nothing."""


def embedded_tags(data: bytes) -> Embedded:
    """The keywords embedded in an image file, given as a whole; none where it has none. Nothing is decoded."""
    try:
        packets = read_packets(data)
    except BadPacket as error:
        return Embedded(tags=(), refused=(str(error),))
    flat: list[str] = []
    leaves: list[str] = []
    refused: list[str] = []
    try:
        for name, text in xmp_keywords(packets.xmp):
            if name in _FLAT:
                flat.append(text)
            else:
                leaves += _leaf(text, _HIERARCHICAL[name])
    except BadPacket as error:
        refused.append(str(error))
    try:
        flat += iptc_keywords(packets.iptc)
    except BadPacket as error:
        refused.append(str(error))
    told = {tag.casefold() for tag in flat}
    tags = list(dict.fromkeys(_clean([*flat, *(leaf for leaf in leaves if leaf.casefold() not in told)], refused)))
    if len(tags) > MAX_TAGS:
        refused.append(f"{len(tags)} keywords; the first {MAX_TAGS} are read")
    return Embedded(tags=tuple(tags[:MAX_TAGS]), refused=tuple(refused))


def xmp_keywords(packet: bytes) -> list[tuple[str, str]]:
    """(property, text) of each keyword of an XMP packet, the property as ``{namespace}name``.

    Raises:
        BadPacket: if it is no XML, has a document type or entities, or is larger or deeper than any of a program.
    """
    if not packet.startswith((b"\xff\xfe", b"\xfe\xff")):  # of UTF-16, where half of the bytes are zeros
        packet = packet.strip(b"\0 \t\r\n")
    if not any(needle in packet for needle in _NEEDLES) and b"\0" not in packet:
        return []
    from xml.etree.ElementTree import ParseError

    from defusedxml.common import DefusedXmlException
    from defusedxml.ElementTree import DefusedXMLParser

    keywords = _Keywords()
    parser = DefusedXMLParser(target=keywords, forbid_dtd=True)
    try:
        parser.feed(packet)
        parser.close()
    except DefusedXmlException as error:
        raise BadPacket("XMP with a document type or entities") from error
    except (ParseError, LookupError, ValueError) as error:  # an unknown encoding is a LookupError
        raise BadPacket(str(error) if isinstance(error, BadPacket) else f"XMP that is no XML: {error}") from error
    return keywords.found


def iptc_keywords(data: bytes) -> list[str]:
    """The keywords of an IPTC-IIM block, by the character set that it declares.

    Most writers declare UTF-8 (record 1:90) or nothing. Then bytes that are valid UTF-8 are that, since Latin-1 hardly
    ever looks like it, and all others Latin-1.

    Raises:
        BadPacket: if it declares another character set.
    """
    charset = b""
    keywords: list[bytes] = []
    for record, number, content in _datasets(data):
        if (record, number) == (1, 90):
            charset = content
        elif (record, number) == (2, 25):
            keywords.append(content)
    if keywords and charset not in (*_UTF_8, *_LATIN_1):
        raise BadPacket(f"IPTC in the character set {charset[:16]!r}")
    return [_decoded(keyword, certain=charset in _UTF_8) for keyword in keywords]


def _decoded(keyword: bytes, *, certain: bool) -> str:
    try:
        return keyword.decode("utf-8")
    except UnicodeDecodeError:
        return keyword.decode("utf-8", "replace") if certain else keyword.decode("latin-1")


def _datasets(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Record, dataset and content, up to the end or to what is no dataset."""
    place = 0
    while data[place : place + 1] == b"\x1c" and place + 5 <= len(data):
        record, number = data[place + 1], data[place + 2]
        size = int.from_bytes(data[place + 3 : place + 5], "big")
        place += 5
        if size & 0x8000:  # an extended dataset tells how many bytes its size has
            digits = size & 0x7FFF
            if digits > 4:
                return
            size = int.from_bytes(data[place : place + digits], "big")
            place += digits
        yield record, number, data[place : place + size]
        place += size


class _Keywords:
    """Collects the items of the wanted properties while the parser reads; no tree is built."""

    def __init__(self) -> None:
        self._path: list[str] = []
        self.found: list[tuple[str, str]] = []
        self._text: list[str] = []
        self._elements = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._elements += 1
        self._path.append(tag)
        self._text.clear()
        if len(self._path) > _MAX_DEPTH or self._elements > _MAX_ELEMENTS:
            raise BadPacket(f"XMP of more than {_MAX_ELEMENTS} elements or {_MAX_DEPTH} levels")
        if tag == f"{_RDF}Description":
            self.found += [(name, text) for name in _FLAT if (text := attributes.get(name))]

    def data(self, text: str) -> None:
        self._text.append(text)

    def end(self, tag: str) -> None:
        name = self._property()
        text = "".join(self._text).strip()
        if name and text and tag == f"{_RDF}li":
            self.found.append((name, text))
        elif name and text and tag == name:  # no list but one text, against the specification
            self.found += [(name, part) for part in text.replace(",", ";").split(";")]
        self._text.clear()
        self._path.pop()

    def close(self) -> None:
        """The parser asks for it; what was found stays in ``found``."""

    def _property(self) -> str:
        """The property of the image whose value is being read: not that of something it was made from."""
        top = self._path.index(f"{_RDF}RDF") if f"{_RDF}RDF" in self._path else len(self._path)
        name = self._path[top + 2] if len(self._path) in (top + 3, top + 5) else ""
        return name if name in _FLAT or name in _HIERARCHICAL else ""


def _leaf(path: str, separator: str) -> list[str]:
    words = path.split(separator)
    return [] if words[0].strip() in _NOTES_OF_PROGRAMS else words[-1:]


def _clean(tags: Iterable[str], refused: list[str]) -> Iterator[str]:
    """Without control characters and surrounding spaces; empty ones, and texts that are no keywords, left out."""
    for tag in tags:
        text = " ".join("".join(letter if letter.isprintable() else " " for letter in tag).split())
        if len(text) > MAX_TAG_LETTERS:
            refused.append(f"a keyword of {len(text)} letters; at most {MAX_TAG_LETTERS} are read")
        elif text:
            yield text
