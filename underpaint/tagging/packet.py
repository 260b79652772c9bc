"""Predicted tags put into an XMP packet, whose other bytes stay as they are.

Lists are changed in place by inserting and deleting items, so that whatever a program keeps in the packet survives,
with its order, prefixes and white space. Sources: ISO 16684-1; for the order in which digiKam reads lists, its handbook
(Settings, Metadata, Namespaces): it takes the first list that has keywords and none of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from xml.sax.saxutils import escape, quoteattr

from underpaint.data.decode.packets import MAX_PACKET_BYTES, BadPacket
from underpaint.data.decode.predicted_tags import BRANCH, PREDICTED, WRITTEN, is_predicted_path
from underpaint.data.decode.xmp_keywords import HIERARCHICAL, decode_packet, xmp_keywords
from underpaint.tags.keyword_paths import BAR

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
SUBJECT = "{http://purl.org/dc/elements/1.1/}subject"
LIGHTROOM = "{http://ns.adobe.com/lightroom/1.0/}hierarchicalSubject"
DIGIKAM = "{http://www.digikam.org/ns/1.0/}TagsList"
_PREFIX = {LIGHTROOM: "lr", DIGIKAM: "digiKam", PREDICTED: "underpaint", WRITTEN: "underpaint"}
_CONTAINERS = {f"{{{RDF}}}{name}" for name in ("Bag", "Seq", "Alt")}
EMPTY = (
    b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>\n<x:xmpmeta xmlns:x="adobe:ns:meta/">\n'
    b' <rdf:RDF xmlns:rdf="%s">\n </rdf:RDF>\n</x:xmpmeta>\n<?xpacket end="w"?>\n' % RDF.encode()
)
"""Packet without a property."""

Keywords = Sequence[tuple[str, str]]
"""Properties as ``{namespace}name``, and one keyword each."""


def keywords_of(packet: bytes) -> Keywords:
    """The keywords of a packet, with their properties.

    Raises:
        BadPacket: if it is damaged, or in another encoding than UTF-8.
    """
    if len(packet) > MAX_PACKET_BYTES:
        raise BadPacket(f"XMP of {len(packet)} bytes; at most {MAX_PACKET_BYTES} are changed")
    try:
        text = packet.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadPacket("XMP that is not UTF-8") from error
    if decode_packet(packet) != text.strip("\0\ufeff \t\r\n"):
        raise BadPacket("XMP that is not UTF-8, or has characters that XML does not allow")
    keywords, damage = xmp_keywords(text)
    if damage:
        raise BadPacket(damage)
    return keywords


def with_predicted(packet: bytes, labels: Sequence[str], *, about: Sequence[str], inside: Keywords) -> bytes:
    """The packet with these predicted tags in place of earlier ones; keywords of people stay in their order.

    ``about`` are the items of the property WRITTEN. ``inside`` are the keywords inside the image: a list that the
    packet lacks begins with those of people there, and with all their others, since a program that reads a list of a
    sidecar may read none of the others.

    Raises:
        BadPacket: if the packet is damaged, has a list in another form than RDF's, or would lose a keyword.
    """
    before = keywords_of(packet)
    places = _places(packet)
    of_people = [pair for pair in before if not _is_ours(pair)]
    inside = [pair for pair in inside if not _is_ours(pair)]
    wanted = {LIGHTROOM: [f"{BRANCH}{BAR}{label.replace(BAR, ' ')}" for label in labels]}
    if DIGIKAM in places.lists or any(name == DIGIKAM for name, _ in inside):
        wanted[DIGIKAM] = [f"{BRANCH}/{label.replace('/', ' ')}" for label in labels]
    wanted |= {PREDICTED: list(labels), WRITTEN: list(about)}
    edits: list[_Edit] = []
    created: dict[str, list[str]] = {}
    for name, items in wanted.items():
        if name in places.lists:
            edits += _edits_of_list(packet, name, places.lists[name], items)
        else:
            created[name] = [*_first_items(name, of_people, inside), *items]
    if created:
        edits.append(_insertion(packet, places.end_of_rdf, _description(created)))
    changed = _edited(packet, edits)
    left = [pair for pair in keywords_of(changed) if not _is_ours(pair) and pair[0] not in created]
    if left != [pair for pair in of_people if pair[0] not in created]:
        raise BadPacket("XMP whose keywords would not stay as they are")
    return changed


def _is_ours(pair: tuple[str, str]) -> bool:
    """Whether a keyword of a property is a predicted tag, or a remark on them."""
    name, text = pair
    if name in HIERARCHICAL:
        return is_predicted_path(BAR.join(text.split(HIERARCHICAL[name])))
    return name in (PREDICTED, WRITTEN)


def _first_items(name: str, beside: Keywords, inside: Keywords) -> list[str]:
    """The keywords of people that a new hierarchical list begins with: those of the other lists, each once."""
    if name not in HIERARCHICAL:
        return []
    separator = HIERARCHICAL[name]
    known: dict[str, str] = {}
    words: set[str] = set()
    by_levels = sorted([*beside, *inside], key=lambda pair: pair[0] == SUBJECT)  # flat words after the paths with them
    for source, text in by_levels:
        levels = [text] if source == SUBJECT else [level.strip() for level in text.split(HIERARCHICAL[source])]
        path = separator.join(level.replace(separator, " ") for level in levels if level)
        if path and (source != SUBJECT or text.casefold() not in words):
            known.setdefault(path.casefold(), path)
            words |= {level.casefold() for level in levels}
    return list(known.values())


@dataclass(kw_only=True)
class _List:
    """The place of a list in the packet."""

    start: int
    end: int = 0
    """Byte of the container's end tag; ``start`` where it is empty and has none."""
    items: list[tuple[int, int, str]] = field(default_factory=list)
    """Start and end in bytes, and text, of each item."""


@dataclass(kw_only=True)
class _Places:
    lists: dict[str, _List]
    end_of_rdf: int
    """Byte of the end tag, as in ``_List``."""


@dataclass(frozen=True, kw_only=True)
class _Edit:
    start: int
    end: int
    content: bytes


def _places(packet: bytes) -> _Places:
    """The lists of a packet.

    Raises:
        BadPacket: if it is not XML, has no RDF, or has one of the properties in another form than a list.
    """
    from xml.etree.ElementTree import ParseError

    from defusedxml.common import DefusedXmlException
    from defusedxml.ElementTree import DefusedXMLParser

    finder = _Finder(packet)
    parser = DefusedXMLParser(target=finder, forbid_dtd=True, encoding="utf-8")
    finder.position = lambda: parser.parser.CurrentByteIndex
    try:
        parser.feed(packet)
        parser.close()
    except (DefusedXmlException, ParseError) as error:
        raise BadPacket("XMP that is not XML, or has a document type") from error
    if finder.end_of_rdf is None:
        raise BadPacket("XMP without RDF")
    return _Places(lists=finder.lists, end_of_rdf=finder.end_of_rdf)


class _Finder:
    """Notes the places of the wanted lists while the parser reads."""

    position: Callable[[], int]
    """The byte where the tag that is being read starts; at the end of an element without an end tag, that behind it."""

    def __init__(self, packet: bytes) -> None:
        self._packet = packet
        self._path: list[str] = []
        self._starts: list[int] = []
        self._is_empty = False
        """Whether nothing has come since the last start of an element."""
        self._text: list[str] = []
        self.lists: dict[str, _List] = {}
        self.end_of_rdf: int | None = None

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._path.append(tag)
        self._starts.append(self.position())
        self._is_empty = True
        self._text.clear()
        if tag == f"{{{RDF}}}Description" and (wrong := attributes.keys() & _PREFIX.keys()):
            raise BadPacket(f"XMP whose {_shown(wrong.pop())} is not a list")
        name, depth = self._property()
        if name and depth == 1:
            if tag not in _CONTAINERS:
                raise BadPacket(f"XMP whose {_shown(name)} is not a list")
            if name in self.lists:
                raise BadPacket(f"XMP with two lists {_shown(name)}")
            self.lists[name] = _List(start=self.position())

    def data(self, text: str) -> None:
        self._is_empty = False
        self._text.append(text)

    def end(self, tag: str) -> None:
        name, depth = self._property()
        start, place = self._starts.pop(), self.position()
        has_end_tag = not (self._is_empty and self._packet[place - 2 : place] == b"/>")
        if name and depth == 0 and name not in self.lists:
            raise BadPacket(f"XMP whose {_shown(name)} is not a list")
        if name and depth == 1:
            self.lists[name].end = place if has_end_tag else start
        elif name and depth == 2:
            end = self._packet.index(b">", place) + 1 if has_end_tag else place
            self.lists[name].items.append((start, end, "".join(self._text).strip()))
        elif tag == f"{{{RDF}}}RDF" and self.end_of_rdf is None:
            self.end_of_rdf = place if has_end_tag else start
        self._is_empty = False
        self._text.clear()
        self._path.pop()

    def close(self) -> None:
        """Do nothing, since the parser requires this method."""

    def _property(self) -> tuple[str, int]:
        """The wanted property that is being read, "" elsewhere, and the number of elements below it."""
        root = f"{{{RDF}}}RDF"
        place = self._path.index(root) + 2 if root in self._path else len(self._path)
        name = self._path[place] if len(self._path) > place else ""
        return name if name in _PREFIX else "", len(self._path) - place - 1


def _shown(name: str) -> str:
    return name.rpartition("}")[2]


def _edits_of_list(packet: bytes, name: str, place: _List, items: Sequence[str]) -> list[_Edit]:
    """Deletions of earlier predicted tags, with the white space before them, and the insertion of the new ones."""
    edits: list[_Edit] = []
    for start, end, text in place.items:
        if _is_ours((name, text)):
            blank = len(packet[:start]) - len(packet[:start].rstrip())
            edits.append(_Edit(start=start - blank, end=end, content=b""))
    written = "".join(f"\n     <{_li(packet, place)}>{escape(item)}</{_li(packet, place)}>" for item in items)
    return [*edits, _insertion(packet, place.end, written)] if items else edits


def _li(packet: bytes, place: _List) -> str:
    """The name of an item with the prefix of its container."""
    container = packet[place.start + 1 :].split(b">", 1)[0].split()[0].rstrip(b"/").decode()
    prefix, colon, _ = container.rpartition(":")
    return f"{prefix}{colon}li"


def _insertion(packet: bytes, end: int, content: str) -> _Edit:
    """The content before an end tag; an empty element (``<rdf:Bag/>``) gets a start and an end."""
    if packet.startswith(b"</", end):
        start = len(packet[:end].rstrip())
        return _Edit(start=start, end=start, content=content.encode())
    after = packet.index(b">", end) + 1
    opened = packet[end:after].rstrip(b">").rstrip(b"/").rstrip()
    name = opened[1:].split()[0]
    return _Edit(start=end, end=after, content=opened + b">" + content.encode() + b"</" + name + b">")


def _description(lists: dict[str, list[str]]) -> str:
    """New lists, in a description of their own that needs no declaration of the packet."""
    names = {_PREFIX[name]: name[1:].partition("}")[0] for name in lists}
    declared = " ".join(f"xmlns:{prefix}={quoteattr(namespace)}" for prefix, namespace in names.items())
    parts = [f'\n  <rdf:Description xmlns:rdf="{RDF}" rdf:about="" {declared}>']
    for name, items in lists.items():
        prefixed = f"{_PREFIX[name]}:{_shown(name)}"
        written = "".join(f"\n     <rdf:li>{escape(item)}</rdf:li>" for item in items)
        parts.append(f"\n   <{prefixed}>\n    <rdf:Bag>{written}\n    </rdf:Bag>\n   </{prefixed}>")
    return "".join([*parts, "\n  </rdf:Description>"])


def _edited(packet: bytes, edits: Sequence[_Edit]) -> bytes:
    """The packet after all edits, whose places are those before any."""
    parts: list[bytes] = []
    place = 0
    for edit in sorted(edits, key=lambda edit: (edit.start, edit.end)):
        parts += [packet[place : max(place, edit.start)], edit.content]
        place = max(place, edit.end)
    return b"".join([*parts, packet[place:]])
