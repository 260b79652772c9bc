"""Limits on images for all decoders, and the exceptions of decoders."""

from __future__ import annotations

import struct
import zlib

from PIL import Image

MAX_PIXELS = 100_000_000
"""Largest product of height and width in pixels; a larger image is refused as a decompression bomb."""
MAX_BYTES = 4 * MAX_PIXELS
"""Largest size of an image's decoded values in bytes, which allows MAX_PIXELS in four channels of 8 bits."""
MAX_SIDE = 65_535
"""Longest side of an image in pixels, which is the longest that a JPEG's header can state."""

DECODER_ERRORS = (
    OSError,  # Pillow: truncated, unidentified
    SyntaxError,  # Pillow: broken chunks
    ValueError,
    ArithmeticError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    RuntimeError,
    EOFError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
"""Exceptions that decoders are known to raise on damaged files; each of them means a bad image."""


class BadImage(ValueError):
    """The bytes are not a usable image; the message is the reason."""


def check_pixels(width: int, height: int) -> None:
    """Raise BadImage for a size outside the limits; called with the header's numbers, before anything is decoded.

    An image of one pixel is refused as well: pages use such images to count their readers.
    """
    if width < 1 or height < 1 or not 1 < width * height <= MAX_PIXELS:
        raise BadImage(f"{width} x {height} pixels are outside the limit of 2 to {MAX_PIXELS}")
    if max(width, height) > MAX_SIDE:
        raise BadImage(f"{width} x {height} pixels: a side is longer than {MAX_SIDE}")


def check_bytes(size: int) -> None:
    """Raise BadImage where the decoded values have more than MAX_BYTES, since a few copies must fit into memory."""
    if size > MAX_BYTES:
        raise BadImage(f"its values take {size} bytes; at most {MAX_BYTES} are read: cut it into smaller images")
