"""What the bytes of an image tell, before anybody trains on it: its size in pixels, its hash, what is unusual."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

import xxhash
from PIL import Image

from underpaint.data.decode.image import FORMATS, check_kind, decoding
from underpaint.data.decode.limits import BadImage, check_pixels
from underpaint.data.shards.tar import MAX_IMAGE_BYTES

EXTENSION = {
    "JPEG": "jpg",
    "PNG": "png",
    "WEBP": "webp",
    "TIFF": "tif",
    "GIF": "gif",
    "BMP": "bmp",
    "PPM": "ppm",
}
"""What a member of a shard is called, by what its bytes are and not by its old name."""

_ORIENTATION = 0x0112


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageHeader:
    """Columns of the index, and the extension that suits the bytes."""

    width: int
    """In pixels as stored, before any EXIF rotation."""
    height: int
    content_hash: bytes
    """XXH3-128 of the bytes, big-endian."""
    extension: str
    flags: tuple[str, ...]
    """``animated`` (the first frame is read), ``cmyk``, ``deep`` (more than 8 bits) and ``rotated``, for people."""


def examine(data: bytes) -> ImageHeader:
    """Read the header; pixels are not decoded.

    Raises:
        BadImage: for what no decoder here would take, with the reason.
    """
    check_kind(data)
    if len(data) > MAX_IMAGE_BYTES:
        raise BadImage(f"the file has {len(data)} bytes; at most {MAX_IMAGE_BYTES} are read")
    with decoding(), Image.open(BytesIO(data), formats=FORMATS) as image:
        check_pixels(*image.size)
        return _facts(image, data)


def _facts(image: Image.Image, data: bytes) -> ImageHeader:
    unusual = {
        "animated": getattr(image, "n_frames", 1) > 1 and image.format != "TIFF",
        "cmyk": image.mode == "CMYK",
        "deep": image.mode.startswith(("I", "F")),
        "rotated": image.getexif().get(_ORIENTATION, 1) != 1,
    }
    return ImageHeader(
        width=image.size[0],
        height=image.size[1],
        content_hash=xxhash.xxh3_128_digest(data),
        extension=EXTENSION[image.format or ""],
        flags=tuple(flag for flag, is_so in unusual.items() if is_so),
    )
