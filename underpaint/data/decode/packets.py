"""Packets of XMP and IPTC, and limits on their sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

MAX_PACKET_BYTES = 1 << 20
"""Largest packet of XMP or IPTC in bytes; those of photographs have some 10 kB."""
MAX_EXTENDED_BYTES = 1 << 24
"""Largest extended XMP of a JPEG in bytes; phones keep depth maps in it as well."""
MAX_PARTS = 10_000
"""Largest number of segments, chunks, boxes or resources read of one file, so that a crafted one costs little."""

XMP_OF_JPEG = b"http://ns.adobe.com/xap/1.0/\0"
PHOTOSHOP = b"Photoshop 3.0\0"
"""First bytes of a JPEG segment with XMP, and of one with Photoshop's resources; PNG keeps such segments as text."""
_IPTC_RESOURCE = 0x0404


class BadPacket(ValueError):
    """A packet cannot be read; the message is the reason."""


@dataclass(frozen=True, kw_only=True)
class Packets:
    """The bytes of the two formats in one file; b"" where there is none."""

    xmp: bytes = b""
    extended: Mapping[str, bytes] = field(default_factory=dict)
    """Packets of a JPEG that its XMP may name as its continuation, by their identifiers."""
    iptc: bytes = b""
    refused: tuple[str, ...] = ()
    """Reasons why packets were not read: too large, or not found because of damage."""


def check_size(name: str, size: int) -> None:
    """Raise BadPacket for more bytes than a packet may have."""
    if size > MAX_PACKET_BYTES:
        raise BadPacket(f"{name} of {size} bytes; at most {MAX_PACKET_BYTES} are read")


def iptc_of_resources(blocks: bytes) -> bytes:
    """The IPTC among Photoshop's image resources; b"" where there is none."""
    place = 0
    for _ in range(MAX_PARTS):
        if blocks[place : place + 4] != b"8BIM" or place + 7 > len(blocks):
            break
        kind = int.from_bytes(blocks[place + 4 : place + 6], "big")
        start = place + 6 + even(1 + blocks[place + 6])  # behind the name
        size = int.from_bytes(blocks[start : start + 4], "big")
        if kind == _IPTC_RESOURCE:
            return blocks[start + 4 : start + 4 + size]
        place = start + 4 + even(size)
    return b""


def even(size: int) -> int:
    """The size rounded up to an even number."""
    return size + size % 2
