"""TIFF files with other values than 8-bit ones, or with more than four channels, as microscopes and satellites do."""

from __future__ import annotations

import importlib.util
import logging
import lzma
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np

from underpaint.data.decode.deep import require_range, upright
from underpaint.data.decode.limits import DECODER_ERRORS, BadImage, check_bytes, check_pixels

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffFrame, TiffPage

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""The first four bytes of a TIFF or BigTIFF."""

_CHANNEL_AXES = "SCQ"
"""Names of axes that tifffile may give to channels: samples, channels (ImageJ, OME), unnamed (its own writer)."""

_NONE, _PACKBITS, _LZMA, _DEFLATES = 1, 32773, 34925, (8, 32946)
_WITHOUT_CODECS = (_NONE, _PACKBITS, _LZMA, *_DEFLATES)
"""Compressions that tifffile reads by itself."""
_PREDICTED_FLOATS = 3
_WHOLE_BYTES = (8, 16, 32, 64)
_ORIENTATION = 274
_WHITE_IS_ZERO = 0
_DNG_VERSION = 50706
_SENSORS = (32803, 34892)
"""Photometric interpretations of a sensor's values: a mosaic of colour filters, and linear ones of a DNG."""
_PLAIN_VALUES = (_WHITE_IS_ZERO, 1, 2, 5)
"""Photometric interpretations whose values are the channels themselves: grey in two directions, RGB, separated inks."""
_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3


@dataclass(frozen=True, kw_only=True)
class TiffHeader:
    """The properties of the first image of a TIFF, from the header."""

    width: int
    """Width in pixels as stored, before any rotation."""
    height: int
    channels: int
    plain: bool
    """Whether Pillow reads it without loss: up to 8 bits and four channels, or one channel of 12 or 16 bits."""
    deep: bool
    """Whether the values are signed, floating point, or of more than 8 bits."""
    rotated: bool


def is_tiff(data: bytes) -> bool:
    return data[:4] in SIGNATURES


def read_header(data: bytes) -> TiffHeader:
    """The header of the first image.

    Raises:
        BadImage: for a size outside the limits; an error of DECODER_ERRORS where the file is damaged.
    """
    with _opened(data) as tiff:
        page = tiff.pages.first
        if not isinstance(page.imagewidth, int) or not isinstance(page.imagelength, int):
            raise BadImage("its width or height is not a number")
        check_pixels(page.imagewidth, page.imagelength)
        channel_pages = _channel_pages(tiff)
        return TiffHeader(
            width=page.imagewidth,
            height=page.imagelength,
            channels=channel_pages or page.samplesperpixel,
            plain=not channel_pages and _is_plain(page),
            deep=page.bitspersample > 8 or page.sampleformat in (_SIGNED, _FLOAT),
            rotated=_orientation(page) != 1,
        )


def read(data: bytes, channels: int | None, value_range: tuple[float, float] | None) -> np.ndarray:
    """The stored values of the first image, (c, h, w), upright, 0 the darkest.

    Raises:
        BadImage: where it has neither ``channels`` (None: any) nor 1 nor 3 of them, has values that ``value_range``
            (None: any) cannot be meant for, or needs a decoder that is not installed; checked before decoding.
    """
    with _opened(data) as tiff:
        page = tiff.pages.first
        channel_pages = _channel_pages(tiff)
        count = channel_pages or page.samplesperpixel
        if channels is not None and count not in (channels, 1, 3):
            raise BadImage(f"the image has {count} channels, {channels} are declared")
        _require_values(page, value_range)
        _require_codecs(page)
        check_bytes(page.imagewidth * page.imagelength * count * np.dtype(page.dtype).itemsize)
        _require_complete([*tiff.series[0].pages] if channel_pages else [page], data)
        values = tiff.series[0].asarray() if channel_pages else page.asarray()
        axes = tiff.series[0].axes if channel_pages else page.axes
        planes = upright(_channels_first(values, axes), _orientation(page))
        if page.photometric == _WHITE_IS_ZERO:
            planes = (1 << page.bitspersample) - 1 - planes
    return planes


def holds_sensor_values(data: bytes) -> bool:
    """Whether a TIFF is a camera's: a DNG, or one with a sensor's values in the first image or those below it.

    A damaged file is not: whoever decodes it says what is wrong.
    """
    try:
        with _opened(data) as tiff:
            first = tiff.pages.first
            pages = [first, *(first.pages or ())]
            return _DNG_VERSION in first.tags or any(page.keyframe.photometric in _SENSORS for page in pages)
    except DECODER_ERRORS:
        return False


def stored_bytes(data: bytes, codes: Sequence[int], *, limit: int) -> dict[int, bytes]:
    """The stored bytes of these tags of the first image, by code; a missing tag is left out.

    Raises:
        BadImage: if the file is not a readable TIFF, or a tag has more than ``limit`` bytes.
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


def _is_plain(page: TiffPage) -> bool:
    if page.parent.is_bigtiff and page.parent.byteorder == ">":  # Pillow knows none
        return False
    if page.bitspersample <= 8 and page.samplesperpixel <= 4:
        return page.sampleformat not in (_SIGNED, _FLOAT)
    if page.samplesperpixel > 1 or page.sampleformat != _UNSIGNED:
        return False
    if page.bitspersample == 16:
        return page.photometric == 1 or (page.photometric == _WHITE_IS_ZERO and page.fillorder == 1)
    little_endian = page.parent.byteorder == "<"
    plain_order = page.photometric == 1 and page.fillorder == 1
    return page.bitspersample == 12 and page.compression == _NONE and little_endian and plain_order


def _orientation(page: TiffPage) -> int:
    tag = page.tags.get(_ORIENTATION)
    return tag.value if tag is not None and isinstance(tag.value, int) and 1 <= tag.value <= 8 else 1


def _channel_pages(tiff: TiffFile) -> int:
    """The number of pages, where each page of the first series is one channel; 0 where pages are separate images."""
    series = tiff.series[0]
    stacked = len(series.axes) == 3 and series.axes[0] in "CQ" and series.axes[1:] == "YX"
    return series.shape[0] if stacked and len(series) > 1 else 0


def _channels_first(values: np.ndarray, axes: str) -> np.ndarray:
    channel = [index for index, axis in enumerate(axes) if axis in _CHANNEL_AXES]
    if sorted(axes.translate({ord(axis): None for axis in _CHANNEL_AXES})) != ["X", "Y"] or len(channel) > 1:
        raise BadImage(f"the axes {axes} with sizes {values.shape} are not one image")
    return np.moveaxis(values, channel[0], 0) if channel else values[None]


def _require_values(page: TiffPage, value_range: tuple[float, float] | None) -> None:
    if page.dtype is None or page.dtype.kind not in "uif":
        stored = page.dtype or f"sample format {int(page.sampleformat)} and {page.bitspersample} bits"
        raise BadImage(f"values of {stored} are not read; store them as integers or floats")
    if page.photometric not in _PLAIN_VALUES:
        name = getattr(page.photometric, "name", page.photometric)
        raise BadImage(f"colours as {name} with {page.dtype} values are not read; store them as RGB or grey")
    if page.photometric == _WHITE_IS_ZERO and page.dtype.kind != "u":
        raise BadImage(f"{page.dtype} values of which 0 is white are not read; store them with black as the lowest")
    require_range(page.dtype, value_range)


def _require_codecs(page: TiffPage) -> None:
    import tifffile

    if importlib.util.find_spec("imagecodecs") is not None:
        return
    if page.compression not in _WITHOUT_CODECS:
        what = f"{tifffile.COMPRESSION(page.compression).name} compression"
    elif page.bitspersample not in _WHOLE_BYTES:
        what = f"values of {page.bitspersample} bits"
    elif page.predictor == _PREDICTED_FLOATS:
        what = "a floating-point predictor"
    else:
        return
    raise BadImage(f"a TIFF with {what} and {page.samplesperpixel} deep channels needs `pip install imagecodecs`")


def _require_complete(pages: Sequence[TiffPage | TiffFrame | None], data: bytes) -> None:
    """Raise BadImage for a truncated file, which tifffile would fill with zeros, or one that unpacks to too much."""
    for page in pages:
        if page is None or page.keyframe is None:
            raise BadImage("a page is missing")
        places = list(zip(page.dataoffsets, page.databytecounts, strict=True))
        uncompressed = page.keyframe.compression == _NONE
        stored = sum(page.databytecounts)
        if max(map(sum, places), default=0) > len(data) or (uncompressed and stored < page.keyframe.nbytes):
            raise BadImage("the file is truncated")
        for start, count in places:
            _require_small(data[start : start + count], page.keyframe)


def _require_small(packed: bytes, page: TiffPage) -> None:
    """Raise BadImage for a strip or tile that unpacks to more than its pixels."""
    if page.compression in _DEFLATES:
        unpacker = zlib.decompressobj()
    elif page.compression == _LZMA:
        unpacker = lzma.LZMADecompressor()
    else:
        return
    most = int(np.prod(page.chunks)) * page.bitspersample // 8 + page.imagelength + 8  # rows end on whole bytes
    if len(unpacker.decompress(packed, most + 1)) > most:
        raise BadImage(f"a strip or tile unpacks to more than the {most} bytes of its pixels")


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
