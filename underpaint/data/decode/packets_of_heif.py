"""XMP in a HEIC or AVIF file: an item of its box ``meta``.

``iinf`` names the items and their types, ``iloc`` where their bytes lie: in the file, or in the box ``idat``. Source:
ISO/IEC 14496-12 (ISO base media file format) 8.11; no pixel is decoded, and no library for pixels is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from underpaint.data.decode.packets import MAX_PARTS, BadPacket, Packets, check_size

_XMP_TYPE = b"application/rdf+xml"
_IN_FILE, _IN_IDAT = 0, 1
_DAMAGED = "XMP in a damaged HEIC or AVIF"


def packets_of_heif(data: bytes) -> Packets:
    """The packet of the first item of XMP."""
    meta = next((content for name, content in _boxes(data) if name == b"meta"), None)
    if meta is None or _XMP_TYPE not in meta:
        return Packets()
    boxes = dict(_boxes(meta[4:]))
    item, encoding = _xmp_item(boxes.get(b"iinf", b""))
    if item is None:
        raise BadPacket(_DAMAGED)
    if encoding:
        raise BadPacket(f"XMP packed by {encoding.decode('ascii', 'replace')!r} in a HEIC or AVIF")
    return Packets(xmp=_content(item, boxes.get(b"iloc", b""), {_IN_FILE: data, _IN_IDAT: boxes.get(b"idat", b"")}))


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The name and content of each box; the last may reach to the end."""
    place = 0
    for _ in range(MAX_PARTS):
        size, header = int.from_bytes(data[place : place + 4], "big"), 8
        if size == 1:
            size, header = int.from_bytes(data[place + 8 : place + 16], "big"), 16
        if place + header > len(data) or (size and size < header):
            return
        end = place + size if size else len(data)
        yield data[place + 4 : place + 8], data[place + header : end]
        place = end


def _xmp_item(items: bytes) -> tuple[int | None, bytes]:
    """The number of the item of XMP, and how it is packed."""
    width = 2 if items[:1] == b"\0" else 4
    for name, entry in _boxes(items[4 + width :]):
        version = entry[:1]
        if name != b"infe" or version not in (b"\2", b"\3"):
            continue
        size = 2 if version == b"\2" else 4
        kind, text = entry[6 + size : 10 + size], entry[10 + size :]
        _, content_type, encoding = [*text.split(b"\0", 3), b"", b"", b""][:3]
        if kind == b"mime" and content_type == _XMP_TYPE:
            return int.from_bytes(entry[4 : 4 + size], "big"), encoding
    return None, b""


@dataclass(kw_only=True)
class _Numbers:
    """Reads numbers of given widths, one behind the other."""

    data: bytes
    place: int = 0

    def next(self, width: int) -> int:
        if self.place + width > len(self.data):
            raise BadPacket(_DAMAGED)
        self.place += width
        return int.from_bytes(self.data[self.place - width : self.place], "big")


def _content(item: int, locations: bytes, holders: dict[int, bytes]) -> bytes:
    """The bytes of an item, from its parts."""
    numbers = _Numbers(data=locations)
    version, _ = numbers.next(1), numbers.next(3)
    widths = numbers.next(2)
    offset_width, length_width, base_width = widths >> 12, widths >> 8 & 15, widths >> 4 & 15
    index_width = widths & 15 if version in (1, 2) else 0
    number_width = 4 if version == 2 else 2
    for _ in range(min(numbers.next(number_width), MAX_PARTS)):
        number = numbers.next(number_width)
        method = numbers.next(2) & 15 if version in (1, 2) else _IN_FILE
        outside, base = numbers.next(2), numbers.next(base_width)
        extents: list[tuple[int, int]] = []
        for _ in range(numbers.next(2)):
            numbers.next(index_width)
            extents.append((base + numbers.next(offset_width), numbers.next(length_width)))
        if number != item:
            continue
        if outside or method not in holders:
            raise BadPacket("XMP that lies outside of its HEIC or AVIF")
        return _joined(holders[method], extents)
    raise BadPacket(_DAMAGED)


def _joined(holder: bytes, extents: list[tuple[int, int]]) -> bytes:
    """The parts, each of a start and a length, one behind the other; without a length a part reaches to the end."""
    ends = [start + length if length else len(holder) for start, length in extents]
    check_size("XMP", sum(end - start for (start, _), end in zip(extents, ends, strict=True)))
    if max(ends, default=0) > len(holder):
        raise BadPacket(_DAMAGED)
    return b"".join(holder[start:end] for (start, _), end in zip(extents, ends, strict=True))
