"""XMP and IPTC in the text chunks of a PNG: its own one for XMP, and the raw profiles of ImageMagick and ExifTool.

A raw profile is a text of three parts: its name, the number of its bytes, and these in hexadecimal digits. Sources: PNG
3rd edition, ImageMagick's ``coders/png.c`` ("Raw profile type"), XMP specification part 3.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from underpaint.data.decode.packets import (
    MAX_PACKET_BYTES,
    MAX_PARTS,
    PHOTOSHOP,
    XMP_OF_JPEG,
    BadPacket,
    Packets,
    check_size,
    iptc_of_resources,
)

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_XMP = b"XML:com.adobe.xmp"
_RAW = b"raw profile type "
_OF_IPTC = ("iptc", "8bim")
_OF_XMP = ("xmp", "app1")
_MAX_PACKETS = 8
"""Largest number of chunks with packets read of one file, since each may unpack to a megabyte."""


def packets_of_png(data: bytes) -> Packets:
    """The first packet of each format, the XMP of the chunk that is made for it before all others."""
    xmp: dict[str, bytes] = {}
    iptc = b""
    refused: list[str] = []
    for number, (name, kind, rest) in enumerate(_packet_chunks(data)):
        if number == _MAX_PACKETS:
            refused.append(f"more than {_MAX_PACKETS} chunks of XMP and IPTC; the first are read")
            break
        try:
            if name == "XMP":
                xmp.setdefault("of its own", _text("XMP", kind, rest))
            elif name in _OF_IPTC:
                iptc = iptc or _iptc(_profile("IPTC", _text("IPTC", kind, rest)))
            elif packet := _xmp(name, _profile("XMP", _text("XMP", kind, rest))):
                xmp.setdefault("raw", packet)
        except BadPacket as error:
            refused.append(str(error))
    return Packets(xmp=xmp.get("of its own") or xmp.get("raw", b""), iptc=iptc, refused=tuple(refused))


def _packet_chunks(data: bytes) -> Iterator[tuple[str, bytes, bytes]]:
    """The name of the packet, the kind of chunk and the bytes after its keyword, for each chunk of XMP or IPTC."""
    for kind, content in _chunks(data):
        keyword, _, rest = content.partition(b"\0")
        if kind == b"iTXt" and keyword == _XMP:
            yield "XMP", kind, rest
        elif keyword.lower().startswith(_RAW):
            name = keyword[len(_RAW) :].decode("latin-1").lower()
            if name in (*_OF_IPTC, *_OF_XMP):
                yield name, kind, rest


def _xmp(name: str, profile: bytes) -> bytes:
    """The packet in a raw profile; a segment APP1 without one holds Exif."""
    return b"" if name == "app1" and not profile.startswith(XMP_OF_JPEG) else profile.removeprefix(XMP_OF_JPEG)


def _iptc(profile: bytes) -> bytes:
    profile = profile.removeprefix(PHOTOSHOP)
    return iptc_of_resources(profile) if profile.startswith(b"8BIM") else profile


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The kind and content of each text chunk."""
    place = len(SIGNATURE)
    for _ in range(MAX_PARTS):
        size, kind = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8]
        if kind in (b"", b"IEND"):
            return
        if kind in (b"tEXt", b"zTXt", b"iTXt"):
            yield kind, data[place + 8 : place + 8 + size]
        place += 12 + size


def _text(name: str, kind: bytes, rest: bytes) -> bytes:
    """The text of a chunk from the bytes after its keyword.

    In an iTXt chunk these are a flag, a method, a language, a translated keyword and the text; in a zTXt chunk a method
    and the text.
    """
    check_size(name, len(rest))
    if kind == b"tEXt":
        return rest
    if kind == b"zTXt":
        return _unpacked(name, rest[1:])
    parts = rest[2:].split(b"\0", 2)
    if len(parts) < 3:
        raise BadPacket(f"{name} in a broken iTXt chunk")
    return _unpacked(name, parts[2]) if rest[:1] == b"\1" else parts[2]


def _unpacked(name: str, packed: bytes) -> bytes:
    try:
        text = zlib.decompressobj().decompress(packed, MAX_PACKET_BYTES + 1)
    except zlib.error as error:
        raise BadPacket(f"{name} that cannot be unpacked: {error}") from error
    check_size(name, len(text))
    return text


def _profile(name: str, text: bytes) -> bytes:
    """The bytes of a raw profile."""
    words = text.split()
    number = next((place for place, word in enumerate(words[:4]) if word.isdigit() and place), 0)  # behind the name
    digits = b"".join(words[number + 1 :])
    try:
        profile = bytes.fromhex(digits.decode("ascii"))
    except ValueError as error:
        raise BadPacket(f"{name} in a raw profile that is not hexadecimal text") from error
    if not number or int(words[number]) != len(profile):
        raise BadPacket(f"{name} in a raw profile that lacks a part")
    return profile
