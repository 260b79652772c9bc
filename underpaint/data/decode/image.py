"""From the bytes of an image file to a tensor.

Pillow reads everything but deep or many-channel TIFF files, which ``tiff.py`` reads. Nothing is decoded before the
size that the header states was checked. Eight-bit images stay uint8, which is the fast path: the views convert the
crop, not the picture. Everything else becomes float32 in [0, 1] by the declared range of stored values.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from underpaint.data.decode.limits import DECODER_ERRORS, BadImage, check_pixels

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp")

_BRANDS = {b"avif": "AVIF", b"avis": "AVIF"}
_BRANDS |= dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "HEIC")

EIGHT_BIT = (0.0, 255.0)


def decode(
    data: bytes, *, channels: int, value_range: tuple[float, float], least: int = 0
) -> UInt8[Tensor, "c h w"] | Float[Tensor, "c h w"]:
    """Decode the first frame, upright, with transparent parts on white, in ``channels`` channels.

    uint8 for eight-bit images declared as (0, 255); else float32, ``value_range`` mapped to [0, 1] and clamped. Grey
    becomes RGB by repetition and RGB grey by its luma; any other difference in channels raises BadImage, as does
    everything that cannot be read. With ``least`` above 0 a JPEG is decoded at a half, a quarter or an eighth of its
    size, in a fraction of the time, where each side keeps so many pixels.
    """
    check_kind(data)
    with decoding():
        values = _values(data, channels, value_range, least)
    return _scaled(torch.from_numpy(values), value_range)


@contextmanager
def decoding() -> Iterator[None]:
    """What a decoder raises inside becomes BadImage with the reason; what Pillow warns of, it reads all the same."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except BadImage:
        raise
    except UnidentifiedImageError as error:  # its own message names an address in memory
        raise BadImage("it is no image of a known format") from error
    except DECODER_ERRORS as error:
        raise BadImage(f"cannot be decoded: {str(error) or type(error).__name__}") from error


def check_kind(data: bytes) -> None:
    """Raise BadImage for no bytes, and for known formats that are not read, by name."""
    if not data:
        raise BadImage("the file is empty")
    if data[4:8] == b"ftyp" and data[8:12] in _BRANDS:
        raise BadImage(f"{_BRANDS[data[8:12]]} is not read; convert it to JPEG")


def _values(data: bytes, channels: int, value_range: tuple[float, float], least: int) -> np.ndarray:
    """The stored values as (c, h, w), of any type."""
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        from underpaint.data.decode import tiff

        if not tiff.is_plain(data):
            return _in_channels(tiff.read(data, channels), channels)
    with Image.open(BytesIO(data), formats=FORMATS) as image:
        check_pixels(*image.size)
        if least:
            image.draft(None, (least, least))
        if image.mode.startswith(("I", "F")):
            return _in_channels(_deep(image, value_range), channels)
        if _is_reduced(data) and value_range != EIGHT_BIT:
            raise BadImage("a PNG with 16-bit colour is read with 8 bits only; store it as TIFF")
        return _eight_bit(image, channels)


def _is_reduced(data: bytes) -> bool:
    """Is this a PNG with 16 bits per channel and more than one channel? Pillow drops the lower 8 bits."""
    return data[:4] == b"\x89PNG" and data[24:26] in (b"\x10\x02", b"\x10\x04", b"\x10\x06")


def _deep(image: Image.Image, value_range: tuple[float, float]) -> np.ndarray:
    if value_range == EIGHT_BIT:
        raise BadImage(
            f"the pixels have more than 8 bits (mode {image.mode}), but value_range is (0, 255); declare the range of "
            f"the stored values, for example (0, 65535)"
        )
    ImageOps.exif_transpose(image, in_place=True)
    return np.array(image)[None]


def _eight_bit(image: Image.Image, channels: int) -> np.ndarray:
    image.load()
    ImageOps.exif_transpose(image, in_place=True)
    bands = len(image.getbands())
    if channels == bands and bands in (2, 4) and image.mode in ("LA", "RGBA", "CMYK"):
        return _planes(image)  # declared so: the further channels are data, not transparency
    flat = _on_white(image) if image.has_transparency_data else image
    grey = flat.mode in ("1", "L")
    if channels == 1:
        return _planes(flat.convert("L") if grey else flat.convert("RGB").convert("L"))
    if channels == 3:
        return _planes(flat.convert("RGB"))
    raise BadImage(f"the image has {1 if grey else bands} channels, {channels} are declared")


def _on_white(image: Image.Image) -> Image.Image:
    colour = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", colour.size, "white"), colour).convert("RGB")


def _planes(image: Image.Image) -> np.ndarray:
    """(c, h, w), a copy of the pixels."""
    pixels = np.array(image)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _in_channels(values: np.ndarray, channels: int) -> np.ndarray:
    have = values.shape[0]
    if have == channels:
        return values
    if have == 1 and channels == 3:
        return values.repeat(3, axis=0)
    if have == 3 and channels == 1:
        luma = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R 601, as Pillow's own
        return np.tensordot(luma, values.astype(np.float32), axes=1)[None]
    raise BadImage(f"the image has {have} channels, {channels} are declared")


def _scaled(values: Tensor, value_range: tuple[float, float]) -> Tensor:
    if values.dtype == torch.uint8 and value_range == EIGHT_BIT:
        return values
    if values.is_floating_point() and not torch.isfinite(values).all():
        raise BadImage("pixels are NaN or infinite")
    low, high = value_range
    return ((values.to(torch.float32) - low) / (high - low)).clamp_(0, 1)
