"""XMP in the application extension of a GIF.

The packet stands there as it is, and 258 bytes behind it lead a reader of sub-blocks, which takes letters for sizes, to
the end. Some programs write sub-blocks instead. Sources: GIF 89a, XMP specification part 3 ("GIF").
"""

from __future__ import annotations

from underpaint.data.decode.packets import MAX_PARTS, BadPacket, Packets, check_size

SIGNATURES = (b"GIF87a", b"GIF89a")
_APPLICATION = b"XMP DataXMP"
TRAILER = bytes([1, *range(255, -1, -1)])
"""Bytes that follow the packet, before an empty sub-block."""
_COLOURS = 0x80
_EXTENSION, _IMAGE, _LABEL = 0x21, 0x2C, 0xFF
_MAX_SUB_BLOCKS = 1_000_000
"""Largest number of sub-blocks read, which hold 250 MB; a crafted file may have one for each two bytes."""


def packets_of_gif(data: bytes) -> Packets:
    """The XMP packet of the first application extension that holds one."""
    if _APPLICATION not in data:
        return Packets()
    place = 13 + _table_bytes(data[10:11])
    for _ in range(MAX_PARTS):
        kind = data[place : place + 1]
        if kind == bytes([_EXTENSION]):
            if data[place + 1 : place + 3] == bytes([_LABEL, len(_APPLICATION)]) and data.startswith(
                _APPLICATION, place + 3
            ):
                return Packets(xmp=_packet(data, place + 3 + len(_APPLICATION)))
            place = _end_of_blocks(data, place + 2)
        elif kind == bytes([_IMAGE]):
            place = _end_of_blocks(data, place + 11 + _table_bytes(data[place + 9 : place + 10]))
        else:  # the end of the file, or damage
            return Packets()
    return Packets()


def _table_bytes(flags: bytes) -> int:
    """The size in bytes of a colour table, from the flags before it."""
    return 3 * 2 ** ((flags[0] & 7) + 1) if flags and flags[0] & _COLOURS else 0


def _end_of_blocks(data: bytes, place: int) -> int:
    """The place behind sub-blocks, each of which begins with its size, and the empty one that ends them."""
    for _ in range(_MAX_SUB_BLOCKS):
        if place >= len(data):
            raise BadPacket("XMP in a GIF that ends before it")
        size = data[place]
        place += 1 + size
        if not size:
            return place
    raise BadPacket(f"XMP in a GIF of more than {_MAX_SUB_BLOCKS} blocks")


def _packet(data: bytes, start: int) -> bytes:
    end = data.find(TRAILER, start)
    if end >= 0:
        check_size("XMP", end - start)
        return data[start:end]
    end = _end_of_blocks(data, start)
    check_size("XMP", end - start)
    packet, place = bytearray(), start
    while size := data[place]:
        packet += data[place + 1 : place + 1 + size]
        place += 1 + size
    return bytes(packet)
