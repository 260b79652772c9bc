"""Objects cut out of pictures: by their transparent parts, or by a plain white ground."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image, ImageDraw

from underpaint.data.decode.image import preview_with_alpha
from underpaint.data.decode.limits import BadImage
from underpaint.data.source import Files

WHITE = 250
"""Smallest value of all channels of a white ground."""
OPAQUE = 128
"""Smallest opacity of a pixel that belongs to an object."""
SMALLEST_SHARE, LARGEST_SHARE = 0.02, 0.95
"""Shares of its picture between which an object may cover."""
KEPT = 512
"""Cut-outs that are kept in memory."""

CutOut = UInt8[np.ndarray, "h w 4"]
"""Colours and opacity within the bounds of an object."""


class CutOuts:
    """Cut-outs of pictures by their paths, no larger than ``side`` pixels."""

    def __init__(self, files: Files, *, side: int) -> None:
        self._read = lru_cache(maxsize=KEPT)(lambda path: cut_out(files.read(path), side=side))

    def read(self, path: str) -> CutOut:
        """The cut-out of a picture.

        Raises:
            BadImage: if it cannot be read, or has no transparent parts and no white ground.
            OSError: if its file cannot be read.
        """
        return self._read(path)


def cut_out(data: bytes, *, side: int) -> CutOut:
    """The object of a picture, within its bounds and resized to at most ``side`` pixels.

    Raises:
        BadImage: as ``CutOuts.read``.
    """
    pixels = preview_with_alpha(data)
    if pixels[..., 3].min() >= OPAQUE:
        pixels[..., 3] = np.where(_ground(pixels[..., :3]), 0, 255)
    inside = pixels[..., 3] >= OPAQUE
    share = float(inside.mean())
    if not SMALLEST_SHARE <= share <= LARGEST_SHARE:
        raise BadImage(f"its object covers {share:.0%} of it; an object needs transparent parts or a white ground")
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    image = Image.fromarray(pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    return resized(image, side / max(image.size)) if max(image.size) > side else np.array(image)


def resized(image: Image.Image, scale: float) -> CutOut:
    """A cut-out of another size; colours are weighed by their opacity, so that no ground bleeds in."""
    size: Sequence[int] = [max(1, round(length * scale)) for length in image.size]
    weighed = image.convert("RGBa").resize((size[0], size[1]), Image.Resampling.BILINEAR)
    return np.array(weighed.convert("RGBA"))


def _ground(colours: UInt8[np.ndarray, "h w 3"]) -> Bool[np.ndarray, "h w"]:
    """The white parts that are connected with the border."""
    white = (colours.min(axis=2) >= WHITE).astype(np.uint8) * 255
    framed = Image.fromarray(np.pad(white, 1, constant_values=255)).copy()  # else it is read-only
    ImageDraw.floodfill(framed, (0, 0), 128)
    return np.array(framed)[1:-1, 1:-1] == 128
