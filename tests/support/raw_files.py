"""Raw files as cameras and raw converters write them: a DNG, a TIFF with a sensor's values and JPEG previews in it.

Written byte by byte, since tifffile puts no JPEG into a file without imagecodecs.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence

import numpy as np
from PIL import Image

from support.image_files import encoded

WIDTH, HEIGHT = 64, 48
"""Size of the sensor in pixels."""
_CODE = {"B": 1, "s": 2, "H": 3, "I": 4, "i": 10}
"""TIFF's numbers of types, by their letters in ``struct``; ``i`` here is a signed fraction, of two integers."""
_SIZE = {"B": 1, "s": 1, "H": 2, "I": 4, "i": 8}
Tags = dict[int, tuple[str, Sequence[int] | bytes]]


def dng(previews: Sequence[bytes], *, orientation: int = 1, xmp: bytes = b"") -> bytes:
    """A DNG with these JPEGs, the first of which is in the first image, as the thumbnail of most."""
    file = io.BytesIO(b"II*\0\0\0\0\0")
    file.seek(0, io.SEEK_END)
    values = np.arange(WIDTH * HEIGHT, dtype="<u2").tobytes()
    sensor: Tags = {
        **_image(WIDTH, HEIGHT, bits=[16], compression=1, photometric=32803, place=_put(file, values), data=values),
        33421: ("H", [2, 2]),  # the pattern of colour filters: its size, and red, green, green, blue
        33422: ("B", [0, 1, 1, 2]),
    }
    images = [_preview(file, jpeg) for jpeg in previews] or [sensor]
    others = [_directory(file, tags) for tags in (*images[1:], *([sensor] if previews else []))]
    matrix = [number for value in np.eye(3, dtype=int).flat for number in (int(value), 1)]
    camera: Tags = {
        271: ("s", b"Maker\0"),
        272: ("s", b"Model\0"),
        274: ("H", [orientation]),
        50706: ("B", [1, 4, 0, 0]),  # DNGVersion
        50708: ("s", b"Maker Model\0"),  # UniqueCameraModel
        50721: ("i", matrix),  # ColorMatrix1
        **({330: ("I", others)} if others else {}),
        **({700: ("B", xmp)} if xmp else {}),
    }
    first = _directory(file, images[0] | camera)
    file.seek(4)
    file.write(struct.pack("<I", first))
    return file.getvalue()


def small_and_large(picture: Image.Image) -> list[bytes]:
    """Two previews of a picture: a thumbnail, and one at its size."""
    return [encoded(picture.resize((40, 30)), "JPEG", quality=95), encoded(picture, "JPEG", quality=95)]


def _preview(file: io.BytesIO, jpeg: bytes) -> Tags:
    width, height = Image.open(io.BytesIO(jpeg)).size
    place = _put(file, jpeg)
    reduced: Tags = {254: ("I", [1])}
    return reduced | _image(width, height, bits=[8, 8, 8], compression=7, photometric=6, place=place, data=jpeg)


def _image(
    width: int, height: int, *, bits: list[int], compression: int, photometric: int, place: int, data: bytes
) -> Tags:
    return {
        256: ("I", [width]),
        257: ("I", [height]),
        258: ("H", bits),
        259: ("H", [compression]),
        262: ("H", [photometric]),
        273: ("I", [place]),
        277: ("H", [len(bits)]),
        278: ("I", [height]),
        279: ("I", [len(data)]),
    }


def _put(file: io.BytesIO, data: bytes) -> int:
    """Append bytes at an even place, which is returned."""
    place = file.seek(0, io.SEEK_END)
    file.write(data + b"\0" * (len(data) % 2))
    return place


def _directory(file: io.BytesIO, tags: Tags) -> int:
    """Append an image's tags, and return their place."""
    entries = b""
    for code, (kind, values) in sorted(tags.items()):
        data = values if isinstance(values, bytes) else struct.pack(f"<{len(values)}{kind}", *values)
        count = len(data) // _SIZE[kind]
        field = data.ljust(4, b"\0") if len(data) <= 4 else struct.pack("<I", _put(file, data))
        entries += struct.pack("<HHI", code, _CODE[kind], count) + field
    return _put(file, struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0))
