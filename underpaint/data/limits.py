"""What is refused as an image, whichever decoder reads it."""

from __future__ import annotations

MAX_PIXELS = 100_000_000
"""Height times width beyond which an image is refused as a decompression bomb."""


class BadImage(ValueError):
    """The bytes are no image that can be used; the message is the reason."""


def check_pixels(width: int, height: int) -> None:
    """Raise BadImage for a size that no photograph has; asked with the header's numbers, before anything is decoded."""
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise BadImage(f"{width} x {height} pixels are outside the limit of 1 to {MAX_PIXELS}")
