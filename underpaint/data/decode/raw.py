"""Raw files of cameras: the JPEG preview that the camera or a raw converter put into them is their picture.

LibRaw finds it (the extra ``raw``). The sensor's own values are not developed: that is slow, and every program does it
in another way, while the preview is as the camera shows it.
"""

from __future__ import annotations

import importlib
from io import BytesIO
from typing import Any

from PIL import Image

from underpaint.data.decode import tiff
from underpaint.data.decode.formats import reads_raw
from underpaint.data.decode.limits import DECODER_ERRORS, BadImage

_SIGNATURES = (b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FUJIFILMCCD-RAW")
"""The first bytes of ORF (three kinds), RW2 and RAF."""
_CR3 = b"ftypcrx "
_START, _EXIF = b"\xff\xd8", b"\xff\xe1"
"""The first bytes of a JPEG, and of the segment in it that holds Exif."""
_OF_LIBRAW = b"dcraw v"
_ORIENTATION = 0x0112
_ORIENTATION_OF_FLIP = (1, 2, 4, 3, 5, 8, 6, 7)
"""Orientations in Exif by LibRaw's numbers: bits for a mirror image, upside down, and rows as columns."""


def is_raw(data: bytes) -> bool:
    """Whether these are the bytes of a raw file: one of ``_SIGNATURES``, CR3, or a TIFF with values of a sensor."""
    if data.startswith(_SIGNATURES) or data[4:12] == _CR3:
        return True
    return tiff.is_tiff(data) and tiff.holds_sensor_values(data)


def as_picture(data: bytes) -> bytes:
    """The largest preview in a raw file, a JPEG with the orientation of the photograph; any other file as it is.

    Raises:
        BadImage: for a raw file without a preview in JPEG, a damaged one, and where LibRaw is not installed.
    """
    if not is_raw(data):
        return data
    if not reads_raw():
        advice = "pip install 'underpaint[raw]' for its preview, or convert it to JPEG"
        raise BadImage(f"a camera's raw file is not read here: {advice}")
    rawpy: Any = importlib.import_module("rawpy")
    try:
        with rawpy.RawPy() as opened:
            opened.open_buffer(BytesIO(data))
            preview, flip = opened.extract_thumb(), opened.sizes.flip
    except (rawpy.LibRawNoThumbnailError, rawpy.LibRawUnsupportedThumbnailError) as error:
        raise BadImage("the raw file has no preview that can be read: convert it to JPEG") from error
    except (rawpy.LibRawError, rawpy.NotSupportedError, *DECODER_ERRORS) as error:
        message = error.args[0] if error.args else ""
        reason = message.decode(errors="replace") if isinstance(message, bytes) else str(error)
        raise BadImage(f"the raw file cannot be decoded: {reason}") from error
    if preview.format != rawpy.ThumbFormat.JPEG:
        raise BadImage("the preview in the raw file is not a JPEG: convert the file to JPEG")
    return _oriented(preview.data, _ORIENTATION_OF_FLIP[flip & 7])


def _oriented(jpeg: bytes, orientation: int) -> bytes:
    """A preview with the orientation of the photograph, unless it has one of its own.

    The Exif that LibRaw puts before a preview is left out: it has a time in the zone of this machine, so that the same
    file would have other bytes elsewhere.
    """
    rest = jpeg[2:]
    size = 2 + int.from_bytes(rest[2:4], "big")
    if rest.startswith(_EXIF) and _OF_LIBRAW in rest[:size]:
        rest = rest[size:]
    try:
        with Image.open(BytesIO(_START + rest), formats=("JPEG",)) as image:
            stated = image.getexif().get(_ORIENTATION)
    except DECODER_ERRORS:  # too large or damaged, as its decoder will say
        return _START + rest
    if stated is not None or orientation == 1:
        return _START + rest
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    content = exif.tobytes()
    return _START + _EXIF + (2 + len(content)).to_bytes(2, "big") + content + rest
