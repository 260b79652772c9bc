"""Decoding of the bytes of an image file to a tensor.

Pillow reads 8-bit images, ``deep.py`` and ``tiff.py`` what has more. Nothing is decoded before the size that the header
states was checked. Eight-bit images stay uint8, which is the fast path: the views convert the crop, not the picture.
Everything else becomes float32 in [0, 1] by the declared range of stored values.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

import numpy as np
import torch
from jaxtyping import Float, Shaped, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from underpaint.data.decode import deep, tiff
from underpaint.data.decode.deep import EIGHT_BIT
from underpaint.data.decode.formats import JPEG, formats_of
from underpaint.data.decode.limits import DECODER_ERRORS, MAX_PIXELS, BadImage, check_pixels
from underpaint.data.decode.raw import as_picture


def decode(
    data: bytes, *, channels: int, value_range: tuple[float, float], least: int = 0
) -> UInt8[Tensor, "c h w"] | Float[Tensor, "c h w"]:
    """Decode the first frame, upright, with transparent parts on white, in ``channels`` channels.

    uint8 for eight-bit images declared as (0, 255); else float32, ``value_range`` mapped to [0, 1] and clamped. Grey
    becomes RGB by repetition and RGB grey by its luma; any other difference in channels raises BadImage, as does
    everything that cannot be read, and values of more than 8 bits declared as (0, 255). Colours of 16 bits in PNG and
    PPM are for screens: declared as (0, 255) their upper 8 bits are read. With ``least`` above 0 a JPEG is decoded at a
    half, a quarter or an eighth of its size, in a fraction of the time, where each side keeps so many pixels.
    """
    with decoding():
        return _tensor(_in_channels(_stored(data, channels, value_range, least), channels), value_range)


def decode_picture(
    image: Image.Image, *, channels: int, value_range: tuple[float, float]
) -> UInt8[Tensor, "c h w"] | Float[Tensor, "c h w"]:
    """The same for an image that Pillow has opened or made, which stays as it is.

    Raises BadImage, also where Pillow may have dropped the lower bits of values whose range is declared.
    """
    with decoding():
        check_pixels(*image.size)
        if deep.is_deep(image):
            return _tensor(_in_channels(deep.read_grey(image, value_range), channels), value_range)
        if value_range != EIGHT_BIT and len(image.getbands()) > 1:
            raise BadImage(
                f"Pillow holds 8 bits of each colour, and value_range is {value_range}; give the path of the image, or "
                f"an array of the stored values"
            )
        return _tensor(_in_channels(_eight_bit(ImageOps.exif_transpose(image), channels), channels), value_range)


def decode_planes(
    planes: Shaped[np.ndarray, "c h w"], *, channels: int, value_range: tuple[float, float]
) -> UInt8[Tensor, "c h w"] | Float[Tensor, "c h w"]:
    """The same for stored values; raises BadImage as ``decode`` does."""
    with decoding():
        check_pixels(planes.shape[2], planes.shape[1])
        deep.require_range(planes.dtype, value_range)
        return _tensor(_in_channels(planes, channels), value_range)


def preview(data: bytes, *, least: int = 0) -> UInt8[np.ndarray, "h w 3"]:
    """Pixels for display, from an image of any depth and any number of channels; ``least`` as in ``decode``.

    Eight-bit images are as ``decode`` reads them. Others are stretched between their lowest and highest value, and
    images with other than 1 or 3 channels show the mean. Raises BadImage for an image that cannot be read.
    """
    with decoding():
        values = _stored(data, None, None, least)
        eight = values.dtype == np.uint8 and len(values) in (1, 3)
        planes = _in_channels(values, 3) if eight else deep.stretched(values)
        return np.ascontiguousarray(planes.transpose(1, 2, 0))


def preview_with_alpha(data: bytes) -> UInt8[np.ndarray, "h w 4"]:
    """Colours and opacity of an 8-bit image for display; an image without transparent parts is opaque.

    Raises BadImage for an image that cannot be read.
    """
    with decoding():
        picture = as_picture(data)
        with Image.open(BytesIO(picture), formats=formats_of(picture)) as image:
            check_pixels(*image.size)
            if deep.is_deep(image):
                raise BadImage("it has more than 8 bits per channel, which have no opacity")
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            return np.array(image.convert("RGBA"))


@contextmanager
def decoding() -> Iterator[None]:
    """Turn a decoder's exceptions into BadImage with the reason, and ignore Pillow's warnings."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except BadImage:
        raise
    except UnidentifiedImageError as error:  # its own message names an address in memory
        raise BadImage("it is not an image of a known format") from error
    except Image.DecompressionBombError as error:  # its own message names Pillow's limit, which is another
        raise BadImage(f"it has more pixels than the limit of {MAX_PIXELS}") from error
    except DECODER_ERRORS as error:
        reason = " ".join(str(error).split()) or type(error).__name__  # libheif's messages have line ends
        if "truncated" in reason.lower():  # one reason for all, whatever number of bytes each message names
            reason = "the file is truncated"
        raise BadImage(f"cannot be decoded: {reason}") from error


def _tensor(
    values: Shaped[np.ndarray, "c h w"], value_range: tuple[float, float]
) -> UInt8[Tensor, "c h w"] | Float[Tensor, "c h w"]:
    if values.dtype == np.uint8 and value_range == EIGHT_BIT:
        return torch.from_numpy(values)  # as Pillow lays it out, channels last: no copy
    return torch.from_numpy(deep.scaled(values, value_range))


def _stored(
    data: bytes, channels: int | None, value_range: tuple[float, float] | None, least: int
) -> Shaped[np.ndarray, "c h w"]:
    """The values, upright: uint8, or deep ones as they are stored; None accepts any number of channels or range."""
    data = as_picture(data)
    formats = formats_of(data)
    if tiff.is_tiff(data) and not tiff.read_header(data).plain:
        return tiff.read(data, channels, value_range)
    with Image.open(BytesIO(data), formats=formats) as image:
        check_pixels(*image.size)
        if deep.is_deep(image):
            return deep.read_grey(image, value_range)
        if value_range not in (None, EIGHT_BIT) and deep.is_reduced(image, data):
            return deep.read_colour(image, data, channels or 3)
        if least and image.format in JPEG:
            image.draft(None, (least, least))
        return _eight_bit(image, channels or 3)


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
