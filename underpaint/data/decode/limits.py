"""What is refused as an image, whichever decoder reads it."""

from __future__ import annotations

import struct
import zlib

from PIL import Image

MAX_PIXELS = 100_000_000
"""Height times width beyond which an image is refused as a decompression bomb."""
MAX_BYTES = 4 * MAX_PIXELS
"""Of decoded values: what the largest colour image takes with 8 bits. Deep images, and of many channels, take more."""
MAX_SIDE = 65_535
"""Of a JPEG, by its header; a longer side is that of no picture."""

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
    """Raise BadImage for a size that no picture has; asked with the header's numbers, before anything is decoded.

    One pixel is no picture but what counts the readers of a page.
    """
    if width < 1 or height < 1 or not 1 < width * height <= MAX_PIXELS:
        raise BadImage(f"{width} x {height} pixels are outside the limit of 2 to {MAX_PIXELS}")
    if max(width, height) > MAX_SIDE:
        raise BadImage(f"{width} x {height} pixels: a side is longer than {MAX_SIDE}")


def check_bytes(size: int) -> None:
    """Raise BadImage for more decoded values than fit into memory with a few copies of them."""
    if size > MAX_BYTES:
        raise BadImage(f"its values take {size} bytes; at most {MAX_BYTES} are read: cut it into smaller images")
