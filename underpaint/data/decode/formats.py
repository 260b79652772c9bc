"""Image files that can be read: formats by their bytes, extensions by the installed packages."""

from __future__ import annotations

import functools
import importlib.util

from PIL import features

from underpaint.data.decode.limits import BadImage

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
"""Pillow's names of the formats that are always read."""

JPEG = ("JPEG", "MPO")
"""Pillow's names of JPEG files; MPO has further pictures, as cameras write them, of which the first is read."""

_ALWAYS = (".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".mpo", ".pbm", ".pgm", ".png", ".pnm", ".ppm")
_ALWAYS += (".tif", ".tiff", ".webp")
_AVIF, _HEIF = (".avif", ".avifs"), (".heic", ".heif", ".hif")
RAW = (".arw", ".cr2", ".cr3", ".dng", ".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2", ".srw")
"""Extensions of the raw files of cameras whose previews are read."""

_AVIF_BRANDS = (b"avif", b"avis")
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")

ADVICE_ON_HEIF = "pip install 'underpaint[heif]'"
ADVICE_ON_RAW = "pip install 'underpaint[raw]' for the previews in them"
ADVICE_ON_AVIF = "install a Pillow that has AVIF"


def reads_avif() -> bool:
    """Whether this Pillow was built with AVIF, as the published ones are."""
    return bool(features.check("avif"))


def reads_heif() -> bool:
    """Whether pillow-heif is installed (the extra ``heif``)."""
    return importlib.util.find_spec("pillow_heif") is not None


def reads_raw() -> bool:
    """Whether rawpy is installed (the extra ``raw``), which has LibRaw inside."""
    return importlib.util.find_spec("rawpy") is not None


_OPTIONAL = ((_AVIF, reads_avif()), (_HEIF, reads_heif()), (RAW, reads_raw()))
EXTENSIONS = tuple(sorted((*_ALWAYS, *(suffix for suffixes, is_read in _OPTIONAL if is_read for suffix in suffixes))))
"""Lower-case extensions of the files that are listed as images; the bytes decide how they are read."""


def formats_of(data: bytes) -> tuple[str, ...]:
    """Pillow's names of the formats that these bytes may be in.

    Raises:
        BadImage: for an empty file, and for AVIF and HEIC where they cannot be read.
    """
    if not data:
        raise BadImage("the file is empty")
    if data[4:8] != b"ftyp":
        return FORMATS
    brands = {data[8:12], *(data[start : start + 4] for start in range(16, _box_end(data), 4))}
    if brands.intersection(_AVIF_BRANDS):
        if not reads_avif():
            raise BadImage(f"AVIF is not read here: {ADVICE_ON_AVIF}, or convert it to JPEG")
        return ("AVIF",)
    if brands.intersection(_HEIF_BRANDS):
        if not reads_heif():
            raise BadImage(f"HEIC is not read here: {ADVICE_ON_HEIF}, or convert it to JPEG")
        _register_heif()
        return ("HEIF",)
    return FORMATS


def _box_end(data: bytes) -> int:
    """The end of the box of brands, at most 256 bytes."""
    return min(int.from_bytes(data[:4], "big"), len(data), 256)


@functools.cache
def _register_heif() -> None:
    """Register the HEIF decoder with Pillow, once in each process and only where such a file is read."""
    import pillow_heif

    pillow_heif.register_heif_opener(thumbnails=False)
