"""The bytes of XMP and IPTC in an image file, without decoding a pixel.

The containers are read here and not by Pillow: it stops at the first pixels of a PNG, behind which ExifTool writes XMP,
keeps one of several APP13 segments, and allocates the canvas of a WebP to open it. Sources: ITU-T T.81 (JPEG), PNG 3rd
edition, RFC 9649 (WebP), TIFF 6.0, XMP specification part 3, Photoshop file formats ("Image Resource Blocks").
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from underpaint.data.decode.limits import BadImage

MAX_PACKET_BYTES = 1 << 20
"""The limit for XMP or IPTC; those of photographs have some 10 kB, and a tenfold of that holds any list of keywords."""
MAX_EXTENDED_BYTES = 1 << 24
"""The limit for the extended XMP of a JPEG, in which phones keep depth maps as well."""

_XMP_OF_JPEG = b"http://ns.adobe.com/xap/1.0/\0"
_EXTENDED_OF_JPEG = b"http://ns.adobe.com/xmp/extension/\0"
_PHOTOSHOP = b"Photoshop 3.0\0"
_XMP_OF_PNG = b"XML:com.adobe.xmp\0"
_IPTC_RESOURCE = 0x0404
_XMP_OF_TIFF, _IPTC_OF_TIFF, _PHOTOSHOP_OF_TIFF = 700, 33723, 34377
_MAX_PARTS = 10_000
"""Segments, chunks or resources of one file, so that a crafted one costs little."""


class BadPacket(ValueError):
    """A packet that is not read; the message is the reason."""


@dataclass(frozen=True, kw_only=True)
class Packets:
    """The bytes of the two formats in one file; b"" where there is none."""

    xmp: bytes = b""
    extended: Mapping[str, bytes] = field(default_factory=dict)
    """Packets of a JPEG that its XMP may name as its continuation, by their identifiers."""
    iptc: bytes = b""
    refused: tuple[str, ...] = ()
    """Why a packet was not read: it is too large, or cannot be found for damage."""


def read_packets(data: bytes) -> Packets:
    """The packets of a JPEG, PNG, TIFF or WebP file; none of any other, or behind the place where a file is damaged."""
    try:
        if data[:3] == b"\xff\xd8\xff":
            return _of_jpeg(data)
        if data[:8] == b"\x89PNG\r\n\x1a\n":
            return _of_png(data)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _of_webp(data)
        if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            return _of_tiff(data)
    except BadPacket as error:
        return Packets(refused=(str(error),))
    return Packets()


def _of_jpeg(data: bytes) -> Packets:
    xmp, resources = b"", bytearray()
    extensions: dict[str, list[bytes]] = {}
    for marker, content in _segments(data):
        if marker == 0xE1 and content.startswith(_XMP_OF_JPEG):
            xmp = xmp or content[len(_XMP_OF_JPEG) :]
        elif marker == 0xE1 and content.startswith(_EXTENDED_OF_JPEG):
            part = content[len(_EXTENDED_OF_JPEG) :]
            extensions.setdefault(part[:32].decode("latin-1").upper(), []).append(part[32:])
        elif marker == 0xED and content.startswith(_PHOTOSHOP):  # resources above 64 kB go on in the next segment
            resources += content[len(_PHOTOSHOP) :]
    refused: list[str] = []
    extended: dict[str, bytes] = {}
    for name, parts in extensions.items():
        try:
            extended[name] = _joined(parts)
        except BadPacket as error:
            refused.append(str(error))
    try:
        _check_size("the Photoshop resources", len(resources))
        iptc = _iptc_of_resources(bytes(resources))
    except BadPacket as error:
        refused.append(str(error))
        iptc = b""
    return Packets(xmp=xmp, extended=extended, iptc=iptc, refused=tuple(refused))


def _joined(parts: list[bytes]) -> bytes:
    """An extended packet of its segments, each of which states the length of the whole and where it begins in it."""
    length = int.from_bytes(parts[0][:4], "big")
    if length > MAX_EXTENDED_BYTES:
        raise BadPacket(f"extended XMP of {length} bytes; at most {MAX_EXTENDED_BYTES} are read")
    whole = bytearray()
    for part in sorted(parts, key=lambda part: part[4:8]):
        if len(part) < 8 or int.from_bytes(part[4:8], "big") != len(whole):
            raise BadPacket("extended XMP that lacks a part")
        whole += part[8:]
    if len(whole) != length:
        raise BadPacket("extended XMP that lacks a part")
    return bytes(whole)


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and content of each segment before the first scan."""
    place = 2
    for _ in range(_MAX_PARTS):
        while data[place : place + 2] == b"\xff\xff":  # fill bytes
            place += 1
        if place + 4 > len(data) or data[place] != 0xFF or data[place + 1] in (0xDA, 0xD9):
            return
        size = int.from_bytes(data[place + 2 : place + 4], "big")
        yield data[place + 1], data[place + 4 : place + 2 + size]
        place += 2 + max(size, 2)


def _iptc_of_resources(blocks: bytes) -> bytes:
    place = 0
    for _ in range(_MAX_PARTS):
        if blocks[place : place + 4] != b"8BIM" or place + 7 > len(blocks):
            break
        kind = int.from_bytes(blocks[place + 4 : place + 6], "big")
        start = place + 6 + _even(1 + blocks[place + 6])  # behind the name
        size = int.from_bytes(blocks[start : start + 4], "big")
        if kind == _IPTC_RESOURCE:
            return blocks[start + 4 : start + 4 + size]
        place = start + 4 + _even(size)
    return b""


def _even(size: int) -> int:
    return size + size % 2


def _of_png(data: bytes) -> Packets:
    place = 8
    for _ in range(_MAX_PARTS):
        size, kind = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8]
        if kind in (b"", b"IEND"):
            break
        if kind == b"iTXt" and data.startswith(_XMP_OF_PNG, place + 8):
            _check_size("XMP", size)
            return Packets(xmp=_text_of_png(data[place + 8 + len(_XMP_OF_PNG) : place + 8 + size]))
        place += 12 + size
    return Packets()


def _text_of_png(content: bytes) -> bytes:
    """The text of an iTXt chunk behind its keyword: a flag, a method, a language, a translated keyword, the text."""
    compressed, parts = content[:1] == b"\1", content[2:].split(b"\0", 2)
    if len(parts) < 3:
        raise BadPacket("XMP in a broken iTXt chunk")
    if not compressed:
        return parts[2]
    unpacker = zlib.decompressobj()
    try:
        text = unpacker.decompress(parts[2], MAX_PACKET_BYTES + 1)
    except zlib.error as error:
        raise BadPacket(f"XMP that cannot be unpacked: {error}") from error
    _check_size("XMP", len(text))
    return text


def _of_webp(data: bytes) -> Packets:
    place = 12
    for _ in range(_MAX_PARTS):
        kind, size = data[place : place + 4], int.from_bytes(data[place + 4 : place + 8], "little")
        if not kind:
            break
        if kind == b"XMP ":
            _check_size("XMP", size)
            return Packets(xmp=data[place + 8 : place + 8 + size])
        place += 8 + _even(size)
    return Packets()


def _of_tiff(data: bytes) -> Packets:
    from underpaint.data.decode import tiff

    try:
        stored = tiff.stored_bytes(data, (_XMP_OF_TIFF, _IPTC_OF_TIFF, _PHOTOSHOP_OF_TIFF), limit=MAX_PACKET_BYTES)
    except BadImage as error:
        raise BadPacket(str(error)) from error
    iptc = stored.get(_IPTC_OF_TIFF) or _iptc_of_resources(stored.get(_PHOTOSHOP_OF_TIFF, b""))
    return Packets(xmp=stored.get(_XMP_OF_TIFF, b""), iptc=iptc)


def _check_size(name: str, size: int) -> None:
    if size > MAX_PACKET_BYTES:
        raise BadPacket(f"{name} of {size} bytes; at most {MAX_PACKET_BYTES} are read")
