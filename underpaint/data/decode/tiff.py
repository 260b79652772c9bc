"""TIFF files with 16 bits or more, or with more than four channels, as microscopes and satellites write them."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np

from underpaint.data.decode.limits import DECODER_ERRORS, BadImage, check_pixels

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffFrame, TiffPage

_CHANNEL_AXES = "SCQ"
"""Axes that tifffile may find before or after the plane: samples, channels (ImageJ, OME), unnamed (its own writer)."""

_WITHOUT_CODECS = ("NONE", "ADOBE_DEFLATE", "DEFLATE", "PACKBITS", "LZMA", "ZSTD")


def is_plain(data: bytes) -> bool:
    """Can Pillow read it without loss: up to 8 bits and four channels, or one channel of 16 bits?"""
    with _opened(data) as tiff:
        page = tiff.pages.first
        if not isinstance(page.imagewidth, int) or not isinstance(page.imagelength, int):
            raise BadImage("its width or height is no number")
        check_pixels(page.imagewidth, page.imagelength)
        if _channel_pages(tiff):
            return False
        small = page.bitspersample <= 8 and page.samplesperpixel <= 4
        grey = page.bitspersample == 16 and page.samplesperpixel == 1 and page.sampleformat == 1
        return small or grey


def read(data: bytes, channels: int) -> np.ndarray:
    """The stored values of the first image, (c, h, w)."""
    import tifffile

    with _opened(data) as tiff:
        page = tiff.pages.first
        pages = _channel_pages(tiff)
        found = pages if pages else page.samplesperpixel
        if found not in (channels, 1, 3):  # before decoding: the header tells
            raise BadImage(f"the image has {found} channels, {channels} are declared")
        _require_codecs(tifffile.COMPRESSION(page.compression).name)
        _require_complete([*tiff.series[0].pages] if pages else [page], len(data))
        values = tiff.series[0].asarray() if pages else page.asarray()
        axes = tiff.series[0].axes if pages else page.axes
    return _channels_first(values, axes)


def stored_bytes(data: bytes, codes: Sequence[int], *, limit: int) -> dict[int, bytes]:
    """What the first image of a file holds under these tags, as it is stored.

    Raises:
        BadImage: if it is no readable TIFF, or one of them has more than ``limit`` bytes.
    """
    try:
        with _opened(data) as tiff:
            tags = [tag for code in codes if (tag := tiff.pages.first.tags.get(code))]
            places = {tag.code: (tag.valueoffset, tag.valuebytecount) for tag in tags}
    except DECODER_ERRORS as error:
        raise BadImage(f"not a readable TIFF: {error}") from error
    for code, (_, size) in places.items():
        if size > limit:
            raise BadImage(f"TIFF tag {code} has {size} bytes; at most {limit} are read")
    return {code: data[start : start + size] for code, (start, size) in places.items()}


def _channel_pages(tiff: TiffFile) -> int:
    """The number of pages, where each page of the first series is one channel; 0 where pages are separate images."""
    series = tiff.series[0]
    stacked = len(series.axes) == 3 and series.axes[0] in "CQ" and series.axes[1:] == "YX"
    return series.shape[0] if stacked and len(series) > 1 else 0


def _channels_first(values: np.ndarray, axes: str) -> np.ndarray:
    channel = [index for index, axis in enumerate(axes) if axis in _CHANNEL_AXES]
    if sorted(axes.translate({ord(axis): None for axis in _CHANNEL_AXES})) != ["X", "Y"] or len(channel) > 1:
        raise BadImage(f"the axes {axes} with sizes {values.shape} are not one image")
    planes = np.moveaxis(values, channel[0], 0) if channel else values[None]
    kind = np.float32 if planes.dtype.kind == "f" or planes.dtype.itemsize > 2 else np.int32
    return np.ascontiguousarray(planes, dtype=kind)  # torch has few functions for unsigned 16-bit integers


def _require_codecs(compression: str) -> None:
    if compression not in _WITHOUT_CODECS and importlib.util.find_spec("imagecodecs") is None:
        raise BadImage(
            f"a TIFF with {compression} compression and more than 8 bits or 4 channels needs `pip install imagecodecs`"
        )


def _require_complete(pages: Sequence[TiffPage | TiffFrame | None], size: int) -> None:
    """Tifffile fills what a truncated file lacks with zeros; better no image than half of one."""
    for page in pages:
        if page is None or page.keyframe is None:
            raise BadImage("a page is missing")
        stored = sum(page.databytecounts)
        ends = (start + count for start, count in zip(page.dataoffsets, page.databytecounts, strict=True))
        uncompressed = page.keyframe.compression == 1
        if max(ends, default=0) > size or (uncompressed and stored < page.keyframe.nbytes):
            raise BadImage("the file is truncated")


@contextmanager
def _opened(data: bytes) -> Iterator[TiffFile]:
    import tifffile

    log = logging.getLogger("tifffile")
    before, log.disabled = log.disabled, True  # it reports what we report as BadImage
    try:
        with tifffile.TiffFile(BytesIO(data)) as tiff:
            yield tiff
    finally:
        log.disabled = before
