"""What packets of XMP and IPTC are, and how large they may be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

MAX_PACKET_BYTES = 1 << 20
"""The limit for XMP or IPTC; those of photographs have some 10 kB, and a tenfold of that holds any list of keywords."""
MAX_EXTENDED_BYTES = 1 << 24
"""The limit for the extended XMP of a JPEG, in which phones keep depth maps as well."""
MAX_PARTS = 10_000
"""Segments, chunks, boxes or resources of one file, so that a crafted one costs little."""

_IPTC_RESOURCE = 0x0404


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


def check_size(name: str, size: int) -> None:
    """Raise BadPacket for more bytes than a packet may have."""
    if size > MAX_PACKET_BYTES:
        raise BadPacket(f"{name} of {size} bytes; at most {MAX_PACKET_BYTES} are read")


def iptc_of_resources(blocks: bytes) -> bytes:
    """The IPTC among Photoshop's image resources; b"" without."""
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
    """The size with the byte that fills it up to an even one."""
    return size + size % 2
