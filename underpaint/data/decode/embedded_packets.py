"""The bytes of XMP and IPTC in an image file, without decoding a pixel.

The containers are read here and not by Pillow: it stops at the first pixels of a PNG, behind which ExifTool writes XMP,
keeps one of several APP13 segments, and allocates the canvas of a WebP to open it. Sources of those in this file: ITU-T
T.81 (JPEG), RFC 9649 (WebP), TIFF 6.0, XMP specification part 3, Photoshop file formats ("Image Resource Blocks").
"""

from __future__ import annotations

from collections.abc import Iterator

from underpaint.data.decode.limits import BadImage
from underpaint.data.decode.packets import (
    MAX_EXTENDED_BYTES,
    MAX_PACKET_BYTES,
    MAX_PARTS,
    PHOTOSHOP,
    XMP_OF_JPEG,
    BadPacket,
    Packets,
    check_size,
    even,
    iptc_of_resources,
)
from underpaint.data.decode.packets_of_gif import SIGNATURES as GIF
from underpaint.data.decode.packets_of_gif import packets_of_gif
from underpaint.data.decode.packets_of_heif import packets_of_heif
from underpaint.data.decode.packets_of_png import SIGNATURE as PNG
from underpaint.data.decode.packets_of_png import packets_of_png

_EXTENDED_OF_JPEG = b"http://ns.adobe.com/xmp/extension/\0"
_XMP_OF_TIFF, _IPTC_OF_TIFF, _PHOTOSHOP_OF_TIFF = 700, 33723, 34377


def read_packets(data: bytes) -> Packets:
    """The packets of a JPEG, PNG, TIFF, WebP, GIF, HEIC or AVIF file, up to the first damage.

    No other format that is read has any.
    """
    try:
        if data[:3] == b"\xff\xd8\xff":
            return _of_jpeg(data)
        if data.startswith(PNG):
            return packets_of_png(data)
        if data.startswith(GIF):
            return packets_of_gif(data)
        if data[4:8] == b"ftyp":
            return packets_of_heif(data)
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
        if marker == 0xE1 and content.startswith(XMP_OF_JPEG):
            xmp = xmp or content[len(XMP_OF_JPEG) :]
        elif marker == 0xE1 and content.startswith(_EXTENDED_OF_JPEG):
            part = content[len(_EXTENDED_OF_JPEG) :]
            extensions.setdefault(part[:32].decode("latin-1").upper(), []).append(part[32:])
        elif marker == 0xED and content.startswith(PHOTOSHOP):  # resources above 64 kB go on in the next segment
            resources += content[len(PHOTOSHOP) :]
    refused: list[str] = []
    extended: dict[str, bytes] = {}
    for name, parts in extensions.items():
        try:
            extended[name] = _joined(parts)
        except BadPacket as error:
            refused.append(str(error))
    try:
        check_size("the Photoshop resources", len(resources))
        iptc = iptc_of_resources(bytes(resources))
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
    """The marker and content of each segment before the first scan."""
    place = 2
    for _ in range(MAX_PARTS):
        while data[place : place + 2] == b"\xff\xff":  # fill bytes
            place += 1
        if place + 4 > len(data) or data[place] != 0xFF or data[place + 1] in (0xDA, 0xD9):
            return
        size = int.from_bytes(data[place + 2 : place + 4], "big")
        yield data[place + 1], data[place + 4 : place + 2 + size]
        place += 2 + max(size, 2)


def _of_webp(data: bytes) -> Packets:
    place = 12
    for _ in range(MAX_PARTS):
        kind, size = data[place : place + 4], int.from_bytes(data[place + 4 : place + 8], "little")
        if not kind:
            break
        if kind == b"XMP ":
            check_size("XMP", size)
            return Packets(xmp=data[place + 8 : place + 8 + size])
        place += 8 + even(size)
    return Packets()


def _of_tiff(data: bytes) -> Packets:
    from underpaint.data.decode import tiff

    try:
        stored = tiff.stored_bytes(data, (_XMP_OF_TIFF, _IPTC_OF_TIFF, _PHOTOSHOP_OF_TIFF), limit=MAX_PACKET_BYTES)
    except BadImage as error:
        raise BadPacket(str(error)) from error
    iptc = stored.get(_IPTC_OF_TIFF) or iptc_of_resources(stored.get(_PHOTOSHOP_OF_TIFF, b""))
    return Packets(xmp=stored.get(_XMP_OF_TIFF, b""), iptc=iptc)
