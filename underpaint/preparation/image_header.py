"""Facts about an image from its bytes, without decoding: size in pixels, content hash, and unusual properties."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

import xxhash
from PIL import Image

from underpaint.data.decode import deep, tiff
from underpaint.data.decode.formats import formats_of
from underpaint.data.decode.image import decoding
from underpaint.data.decode.limits import BadImage, check_pixels
from underpaint.data.decode.raw import as_picture
from underpaint.data.shards.tar import MAX_IMAGE_BYTES

EXTENSION = {
    "JPEG": "jpg",
    "MPO": "jpg",
    "PNG": "png",
    "WEBP": "webp",
    "TIFF": "tif",
    "GIF": "gif",
    "BMP": "bmp",
    "PPM": "ppm",
    "AVIF": "avif",
    "HEIF": "heic",
}
"""Extension of an image in a shard, by Pillow's name for the format of its bytes."""

_ORIENTATION = 0x0112
_TURNS = range(2, 9)
_ANIMATED = ("GIF", "WEBP", "PNG", "AVIF")
"""Formats whose further pictures are frames; in others they are pages, or extras of a camera."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageHeader:
    """The size, hash and unusual properties of an image, and the extension that suits its bytes."""

    width: int
    """Width in pixels as stored, before any EXIF rotation."""
    height: int
    content_hash: bytes
    """XXH3-128 of the bytes, big-endian."""
    extension: str
    flags: tuple[str, ...]
    """Unusual properties: ``animated`` (the first frame is read), ``cmyk``, ``deep`` (more than 8 bits), ``rotated``,
    ``many_channels`` (more than four)."""


def examine(data: bytes) -> ImageHeader:
    """Read the header without decoding pixels.

    Raises:
        BadImage: for bytes that no decoder here would take, with the reason.
    """
    if len(data) > MAX_IMAGE_BYTES:
        raise BadImage(f"the file has {len(data)} bytes; at most {MAX_IMAGE_BYTES} are read")
    with decoding():
        picture = as_picture(data)
        formats = formats_of(picture)
        if tiff.is_tiff(picture) and not (header := tiff.read_header(picture)).plain:
            return _of_tiff(header, data)
        with Image.open(BytesIO(picture), formats=formats) as image:
            check_pixels(*image.size)
            return _of_image(image, data)


def _of_tiff(header: tiff.TiffHeader, data: bytes) -> ImageHeader:
    unusual = {"deep": header.deep, "rotated": header.rotated, "many_channels": header.channels > 4}
    return ImageHeader(
        width=header.width,
        height=header.height,
        content_hash=xxhash.xxh3_128_digest(data),
        extension=EXTENSION["TIFF"],
        flags=tuple(flag for flag, is_so in unusual.items() if is_so),
    )


def _of_image(image: Image.Image, data: bytes) -> ImageHeader:
    unusual = {
        "animated": getattr(image, "n_frames", 1) > 1 and image.format in _ANIMATED,
        "cmyk": image.mode == "CMYK",
        "deep": deep.is_deep(image) or (image.format in ("PNG", "PPM") and deep.is_reduced(image, data)),
        "rotated": image.getexif().get(_ORIENTATION) in _TURNS,
    }
    return ImageHeader(
        width=image.size[0],
        height=image.size[1],
        content_hash=xxhash.xxh3_128_digest(data),
        extension=EXTENSION[image.format or ""],
        flags=tuple(flag for flag, is_so in unusual.items() if is_so),
    )
