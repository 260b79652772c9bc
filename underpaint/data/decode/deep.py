"""Images with values other than 8-bit ones, read as they are stored and scaled by the range declared for them.

Pillow reads one channel of more than 8 bits; from 16-bit colour it drops the lower 8 bits, so torchvision reads PNG,
and ``tiff.py`` reads TIFF.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Shaped, UInt8
from PIL import Image, ImageFile, ImageOps

from underpaint.data.decode.limits import BadImage, check_bytes

EIGHT_BIT = (0.0, 255.0)
"""The range of values where none is declared."""

_ORIENTATION = 0x0112
_WHITE_IS_ZERO_TAG = 262
_WHITE = 65_535


def require_range(dtype: np.dtype, value_range: tuple[float, float] | None) -> None:
    """Raise BadImage for values of more than 8 bits where the declared range is (0, 255); None is any range."""
    if dtype == np.uint8 or value_range != EIGHT_BIT:
        return
    example = (0, 1) if dtype.kind == "f" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    raise BadImage(
        f"the pixels have more than 8 bits ({dtype} values), but value_range is (0, 255); declare the range of the "
        f"stored values, for example {example}"
    )


def is_deep(image: Image.Image) -> bool:
    """Whether Pillow reads more than 8 bits per value of the image."""
    return image.mode.startswith(("I", "F"))


def is_reduced(image: Image.Image, data: bytes) -> bool:
    """Whether Pillow may drop lower bits: in colour, or grey with transparency, of more than 8 bits."""
    if image.format in ("AVIF", "HEIF"):
        return True
    if image.format == "PNG":
        return data[24:26] in (b"\x10\x02", b"\x10\x04", b"\x10\x06")
    return image.mode == "RGB" and _ppm_maximum(image) > 255


def read_grey(image: Image.Image, value_range: tuple[float, float] | None) -> Shaped[np.ndarray, "1 h w"]:
    """The stored values of an image of one channel, upright, 0 the darkest; transparent pixels are white.

    Raises:
        BadImage: if ``value_range`` cannot be meant for them.
    """
    maximum = _ppm_maximum(image)
    kind = np.uint16 if maximum else {"I": np.int32, "F": np.float32}.get(image.mode, np.uint16)
    require_range(np.dtype(kind), value_range)
    inverted = image.format == "TIFF" and image.getexif().get(_WHITE_IS_ZERO_TAG) == 0
    transparent = image.info.get("transparency") if image.format == "PNG" else None
    values = np.array(ImageOps.exif_transpose(image))
    if maximum:  # Pillow scales them to 65,535
        values = np.rint(values * (maximum / _WHITE))
    if isinstance(transparent, int):
        values = np.where(values == transparent, _WHITE, values)
    return (_WHITE - values if inverted else values)[None]


def read_colour(image: Image.Image, data: bytes, channels: int) -> Shaped[np.ndarray, "c h w"]:
    """The stored values of an image that is reduced, upright; transparent parts on white unless they are declared.

    Raises:
        BadImage: for other formats than PNG, or if it is too large.
    """
    from torchvision.io import ImageReadMode, decode_png

    if image.format != "PNG":
        raise BadImage(
            f"colours of more than 8 bits in {image.format} are read with 8 bits only, for value_range (0, 255); store "
            f"them as TIFF or PNG"
        )
    check_bytes(image.size[0] * image.size[1] * 8)
    stored = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    values = upright(decode_png(stored, ImageReadMode.UNCHANGED).numpy(), image.getexif().get(_ORIENTATION, 1))
    if values.dtype != np.uint16:
        raise BadImage(f"a 16-bit PNG was read as {values.dtype}; store it as TIFF")
    transparent = image.info.get("transparency")
    if len(values) == channels and not isinstance(transparent, tuple):
        return values
    if len(values) in (2, 4):
        opacity = values[-1:].astype(np.float32) / _WHITE
        return values[:-1] * opacity + _WHITE * (1 - opacity)
    if isinstance(transparent, tuple):
        shown = (values != np.array(transparent)[:, None, None]).any(axis=0)
        return np.where(shown, values, _WHITE)
    return values


def upright(planes: Shaped[np.ndarray, "c h w"], orientation: int) -> Shaped[np.ndarray, "c h2 w2"]:
    """The image turned and mirrored as the EXIF orientation says; any other number than 2 to 8 changes nothing."""
    turned = planes.transpose(0, 2, 1) if orientation in (5, 6, 7, 8) else planes
    if orientation in (2, 3, 6, 7):
        turned = turned[:, :, ::-1]
    if orientation in (3, 4, 7, 8):
        turned = turned[:, ::-1]
    return np.ascontiguousarray(turned)  # torch takes no negative strides


def scaled(planes: Shaped[np.ndarray, "c h w"], value_range: tuple[float, float]) -> Float[np.ndarray, "c h w"]:
    """``value_range`` mapped to [0, 1] and clamped, as float32; plane by plane, so that little memory is taken.

    Raises:
        BadImage: for values that are NaN or infinite.
    """
    low, high = value_range
    exact = np.float32 if planes.dtype.itemsize <= 2 else np.float64  # float32 holds integers up to 24 bits
    result = np.empty(planes.shape, dtype=np.float32)
    for plane, target in zip(planes, result, strict=True):
        if planes.dtype.kind == "f" and not np.isfinite(plane).all():
            raise BadImage("pixels are NaN or infinite")
        values = plane.astype(exact)
        values -= low
        values /= high - low
        target[:] = values.clip(0, 1, out=values)
    return result


def stretched(planes: Shaped[np.ndarray, "c h w"]) -> UInt8[np.ndarray, "3 h w"]:
    """Pixels for display, with the lowest value black and the highest white; the mean for other than 1 or 3 channels.

    Raises:
        BadImage: for values that are NaN or infinite.
    """
    shown = planes if len(planes) in (1, 3) else planes.mean(axis=0, dtype=np.float64, keepdims=True)
    low, high = float(shown.min()), float(shown.max())
    grey = (scaled(shown, (low, high if high > low else low + 1)) * 255).round().astype(np.uint8)
    return np.broadcast_to(grey, (3, *grey.shape[1:]))


def _ppm_maximum(image: Image.Image) -> int:
    """The highest value that a PPM or PGM may store where Pillow scales its values; 0 where it does not."""
    tiles = image.tile if isinstance(image, ImageFile.ImageFile) and image.format == "PPM" else []
    arguments = tiles[0].args if tiles else None
    return arguments[1] if isinstance(arguments, tuple) and isinstance(arguments[1], int) else 0
