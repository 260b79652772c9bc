"""What is refused as an image, whichever decoder reads it."""

from __future__ import annotations

import struct
import zlib

from PIL import Image

MAX_PIXELS = 100_000_000
"""Height times width beyond which an image is refused as a decompression bomb."""

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
"""What decoders are known to raise on damaged files; the bytes are the user's, so any of them means a bad image."""


class BadImage(ValueError):
    """The bytes are no image that can be used; the message is the reason."""


def check_pixels(width: int, height: int) -> None:
    """Raise BadImage for a size that no photograph has; asked with the header's numbers, before anything is decoded."""
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise BadImage(f"{width} x {height} pixels are outside the limit of 1 to {MAX_PIXELS}")
