"""Keywords of an XMP packet in any encoding, up to the first damage.

They are ``dc:subject``, the hierarchical lists of Lightroom, digiKam and Windows, and this package's own lists
(``predicted_tags.py``). A document type is refused, no
entity is expanded, and depth and numbers are limited. Sources: ISO 16684-1 (XMP), part 3 of Adobe's specification
("Scanning files for XMP packets", "Extended XMP in JPEG").
"""

from __future__ import annotations

import codecs
import re

from underpaint.data.decode.packets import BadPacket
from underpaint.data.decode.predicted_tags import PREDICTED, WRITTEN

_MAX_DEPTH = 100
_MAX_ELEMENTS = 20_000
_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
FLAT = frozenset({"{http://purl.org/dc/elements/1.1/}subject"})
HIERARCHICAL = {
    "{http://ns.adobe.com/lightroom/1.0/}hierarchicalSubject": "|",
    "{http://www.digikam.org/ns/1.0/}TagsList": "/",
    "{http://ns.microsoft.com/photo/1.0/}LastKeywordXMP": "/",
    "{http://ns.microsoft.com/photo/1.0}LastKeywordXMP": "/",
}
"""The separator of each hierarchical property."""
_NEEDLES = ("subject", "hierarchicalSubject", "TagsList", "LastKeywordXMP", "predicted")
_WANTED = frozenset({*FLAT, *HIERARCHICAL, PREDICTED, WRITTEN})

_BYTE_ORDER_MARKS = {  # those of 32 bits first: the marks of 16 bits begin like them
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
    codecs.BOM_UTF8: "utf-8",
}
_DECLARED = re.compile(rb"""<\?xml\s[^>]{0,200}?\bencoding\s*=\s*["']([A-Za-z0-9._:-]{1,40})["']""")
_WIDE = re.compile(r"utf-?(16|32)|ucs-?[24]|iso-10646", re.IGNORECASE)
_SINGLE_BYTE = re.compile(r"ascii|iso8859-\d+|cp125\d|koi8-r|mac-roman")
"""Python's names of the encodings besides Unicode's that a declaration may name."""
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_EXTENDED = re.compile(r"HasExtendedXMP\s*(?:=\s*[\"']|>)\s*([0-9A-Fa-f]{32})")
DAMAGE = "\ufffd"
"""Character that replaces bytes that cannot be decoded, and characters that XML does not allow."""


def decode_packet(packet: bytes) -> str:
    """The text of a packet in UTF-8, UTF-16 or UTF-32, either byte order, with or without a mark of it.

    An XML declaration may name an encoding of single bytes. Bytes that cannot be decoded become DAMAGE.

    Raises:
        BadPacket: if it declares any other encoding.
    """
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if packet.startswith(mark):
            return _text(packet[len(mark) :], encoding)
    first = packet.find(b"<")
    following = packet[first + 1 : first + 5]
    width = {1: 2, 3: 4}.get(len(following) - len(following.lstrip(b"\0")), 1)
    if first >= 0 and width > 1:
        big = first % width == width - 1  # the packet begins with a whole character, of which "<" is the last byte
        return _text(packet[first - (width - 1) * big :], f"utf-{8 * width}-{'be' if big else 'le'}")
    return _text(packet, _declared(packet[: first + 300]))


def _declared(head: bytes) -> str:
    """The encoding that the XML declaration of a packet in single bytes names; UTF-8 without one.

    A declaration of 16 or 32 bits cannot be true here: programs that convert a packet leave it as it was.
    """
    match = _DECLARED.search(head)
    name = match[1].decode("ascii") if match else "utf-8"
    if _WIDE.search(name):
        return "utf-8"
    try:
        known = codecs.lookup(name).name
    except LookupError:
        known = ""
    if known != "utf-8" and not _SINGLE_BYTE.fullmatch(known):
        raise BadPacket(f"XMP in the encoding '{name}'")
    return known


def _text(data: bytes, encoding: str) -> str:
    width = {"utf-16": 2, "utf-32": 4}.get(encoding[:6], 1)
    text = data[: len(data) - len(data) % width].decode(encoding, "replace")
    return _NO_XML.sub(DAMAGE, text.strip("\0\ufeff \t\r\n"))


def extension_of(text: str) -> str:
    """The identifier, in upper case, of the extended packet that continues this packet of a JPEG; "" without one."""
    match = _EXTENDED.search(text)
    return match[1].upper() if match else ""


def xmp_keywords(text: str) -> tuple[list[tuple[str, str]], str]:
    """The property, as ``{namespace}name``, and text of each keyword of a packet, and why reading ended early, or "".

    Keywords that stand before damaged XML are kept.

    Raises:
        BadPacket: if it has a document type or entities.
    """
    if not any(needle in text for needle in _NEEDLES):
        return [], ""
    from xml.etree.ElementTree import ParseError
    from xml.parsers.expat import ErrorString

    from defusedxml.common import DefusedXmlException
    from defusedxml.ElementTree import DefusedXMLParser

    keywords = _Keywords()
    parser = DefusedXMLParser(target=keywords, forbid_dtd=True, encoding="utf-8")  # whatever the packet declares
    try:
        parser.feed(text.encode("utf-8"))
        parser.close()
    except DefusedXmlException as error:
        raise BadPacket("XMP with a document type or entities") from error
    except BadPacket as error:
        return keywords.collected, str(error)
    except ParseError as error:
        return keywords.collected, f"XMP that is not XML: {ErrorString(error.code)}"
    return keywords.collected, ""


class _Keywords:
    """Collects the items of the wanted properties while the parser reads; no tree is built."""

    def __init__(self) -> None:
        self._path: list[str] = []
        self.collected: list[tuple[str, str]] = []
        self._text: list[str] = []
        self._elements = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._elements += 1
        self._path.append(tag)
        self._text.clear()
        if len(self._path) > _MAX_DEPTH or self._elements > _MAX_ELEMENTS:
            raise BadPacket(f"XMP of more than {_MAX_ELEMENTS} elements or {_MAX_DEPTH} levels")
        if tag == f"{_RDF}Description":
            self.collected += [(name, text) for name in FLAT if (text := attributes.get(name))]

    def data(self, text: str) -> None:
        self._text.append(text)

    def end(self, tag: str) -> None:
        name = self._property()
        text = "".join(self._text).strip()
        if name and text and tag == f"{_RDF}li":
            self.collected.append((name, text))
        elif name and text and tag == name:  # no list but one text, against the specification
            self.collected += [(name, part) for part in text.replace(",", ";").split(";")]
        self._text.clear()
        self._path.pop()

    def close(self) -> None:
        """Do nothing, since the parser requires this method; the keywords are in ``collected``."""

    def _property(self) -> str:
        """The property of the image itself whose value is being read; "" elsewhere, as in those of its sources."""
        top = self._path.index(f"{_RDF}RDF") if f"{_RDF}RDF" in self._path else len(self._path)
        name = self._path[top + 2] if len(self._path) in (top + 3, top + 5) else ""
        return name if name in _WANTED else ""
