"""Fingerprints of images, by which near duplicates are found: two small views, and perceptual hashes of them.

The hash is pHash (Zauner 2010, as in the package imagehash) with one change, a margin. Drawings are often symmetric:
half of their coefficients are then zero, as is the median, and noise alone decides 32 of the 64 bits. With the margin
only a coefficient that differs from zero sets a bit.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt8, UInt64
from PIL import Image

from underpaint.data.cache import measure_files
from underpaint.data.decode.image import preview
from underpaint.data.decode.limits import BadImage
from underpaint.data.source import Source

SIDE = 32
"""Height and width of a view in pixels."""
MARGIN = 0.2
"""Distance above the median at which a coefficient sets its bit, in units of the mean absolute coefficient."""

BOX, FULL, INNER = range(3)
"""Views of an image: ``BOX``, the drawing without its ground, cut out and put on white; ``FULL``, the image as it is;
and, for the hash only, ``INNER``, the box without its edges, by which cropped copies are found."""
INNER_EDGE = 0.04
"""Share of the width and of the height of ``BOX`` that ``INNER`` lacks on each side."""

_KIND = "fingerprints-2"
_BLANK = " ".join(["0"] * 6 + ["111", "00" * 96])
_WORKING_SIDE = 128
_LEAST_DECODED = _WORKING_SIDE
"""Smallest side in pixels of a JPEG that is decoded at a reduced size."""
_LUMA = np.array([0.299, 0.587, 0.114])
_GROUND_SHARE = 0.6
"""Smallest share of the border that has one colour, for it to be the ground of a drawing."""
_GROUND_TOLERANCE = 24
_DRAWN = 40
"""Difference from the ground, in any channel, above which a pixel belongs to the drawing."""
_FLAT = 0.02
"""Standard deviation of the values, as a share of 255, below which a view shows nothing."""

_FREQUENCY, _PLACE = np.arange(8)[:, None], np.arange(SIDE)[None]
_COSINES = 2 * np.cos(np.pi * _FREQUENCY * (_PLACE + 0.5) / SIDE)
"""The first eight rows of the DCT-II."""
_MIRROR = np.array([1, -1] * 4)
"""Signs, by column, with which mirroring an image multiplies its coefficients."""


_PACKED = np.dtype(
    [("plain", "<u8", (3,)), ("mirrored", "<u8", (3,)), ("flat", "?", (3,)), ("fields", "u1", (2, 4, 4, 3))]
)
PACKED_BYTES = _PACKED.itemsize


def perceptual_hash(image: Float[np.ndarray, "h w"]) -> int:
    """A hash of 64 bits of a grey image; the more bits differ between two images, the less alike they are.

    Bit 63 is the coefficient of frequency (0, 0), bit 62 that of (0, 1), and so on by rows.
    """
    grey = Image.fromarray(image.astype(np.float32))
    small = np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BILINEAR), dtype=np.float64)
    return int(_bits(_coefficients(small[None]))[0])


@dataclass(frozen=True, kw_only=True)
class PerceptualHashes:
    """The perceptual hashes of some images, and their colours in 4 x 4 fields, which rule out most pairs."""

    plain: UInt64[np.ndarray, "n 3"]
    """Perceptual hashes of ``BOX``, ``FULL`` and ``INNER``."""
    mirrored: UInt64[np.ndarray, "n 3"]
    flat: Bool[np.ndarray, "n 3"]
    """Whether the view shows nothing, or could not be read, and so has no hash."""
    fields: UInt8[np.ndarray, "n 2 4 4 3"]
    """Mean colours of ``BOX`` and ``FULL`` in 4 x 4 fields."""

    def part(self, start: int, stop: int) -> PerceptualHashes:
        some = slice(start, stop)
        return PerceptualHashes(
            plain=self.plain[some], mirrored=self.mirrored[some], flat=self.flat[some], fields=self.fields[some]
        )

    def at(self, rows: Int64[np.ndarray, " k"]) -> PerceptualHashes:
        return PerceptualHashes(
            plain=self.plain[rows], mirrored=self.mirrored[rows], flat=self.flat[rows], fields=self.fields[rows]
        )

    def packed(self) -> list[bytes]:
        """The hashes and fields of each image as PACKED_BYTES bytes."""
        table = np.zeros(len(self.plain), dtype=_PACKED)
        table["plain"], table["mirrored"] = self.plain, self.mirrored
        table["flat"], table["fields"] = self.flat, self.fields
        return [row.tobytes() for row in table]

    @classmethod
    def unpacked(cls, packed: bytes) -> PerceptualHashes:
        """The hashes and fields of some images from the concatenated results of ``packed``."""
        table = np.frombuffer(packed, dtype=_PACKED)
        return cls(plain=table["plain"], mirrored=table["mirrored"], flat=table["flat"], fields=table["fields"])


def perceptual_hashes(source: Source, rows: Sequence[int]) -> PerceptualHashes:
    """The perceptual hashes of these rows, cached between runs, since decoding thousands of images takes a while."""
    paths = [source.path[row] for row in rows]
    measured, _ = measure_files(
        source.files,
        paths,
        kind=_KIND,
        store=str(source.root),
        measure=lambda path: _fingerprint(functools.partial(source.files.read, path)),
        description="Reading images to find near duplicates",
    )
    words = np.array([measured.get(path, _BLANK).split() for path in paths], dtype=str).reshape(-1, 8)
    hashes = np.array([[int(word, 16) for word in row[:6]] for row in words], dtype=np.uint64).reshape(-1, 6)
    return PerceptualHashes(
        plain=hashes[:, :3],
        mirrored=hashes[:, 3:],
        flat=np.array([[digit == "1" for digit in row[6]] for row in words], dtype=bool).reshape(-1, 3),
        fields=np.frombuffer(bytes.fromhex("".join(words[:, 7])), dtype=np.uint8).reshape(-1, 2, 4, 4, 3),
    )


@dataclass(frozen=True, kw_only=True)
class Views:
    """The views ``BOX`` and ``FULL`` of some images, resized to a square."""

    pixels: UInt8[np.ndarray, "n 2 32 32 3"]
    ratio: Float[np.ndarray, "n 2"]
    """Ratio of width to height before resizing."""
    flat: Bool[np.ndarray, "n 2"]

    def part(self, start: int, stop: int) -> Views:
        some = slice(start, stop)
        return Views(pixels=self.pixels[some], ratio=self.ratio[some], flat=self.flat[some])

    @classmethod
    def joined(cls, views: Sequence[Views]) -> Views:
        return cls(
            pixels=np.concatenate([view.pixels for view in views]),
            ratio=np.concatenate([view.ratio for view in views]),
            flat=np.concatenate([view.flat for view in views]),
        )


def read_views(files: Sequence[Callable[[], bytes]]) -> Views:
    """The views of files, each given by a function that reads it; flat where a file cannot be read."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        return _stacked(list(pool.map(_views_of_file, files)))


@dataclass(frozen=True, kw_only=True)
class Fingerprints:
    """The perceptual hashes and views of some images, each decoded once."""

    prints: PerceptualHashes
    views: Views
    problems: tuple[str, ...]
    """Reason why each image could not be read; "" where it could."""

    def hashes(self) -> list[int | None]:
        """The perceptual hash of each image's view ``FULL``; None where it shows nothing, or could not be read."""
        flat, hashes = self.prints.flat[:, FULL].tolist(), self.prints.plain[:, FULL].tolist()
        return [None if nothing else bits for bits, nothing in zip(hashes, flat, strict=True)]


def fingerprint(images: Sequence[bytes]) -> Fingerprints:
    """Decode these image files, JPEGs at a reduced size, and return their views, hashes and fields.

    Images of other than 8 bits, or with many channels, are taken as ``preview`` shows them.
    """
    views, problems = zip(*map(_views_or_problem, images), strict=True) if images else ((), ())
    stacked = _stacked(views)
    return Fingerprints(prints=_prints(stacked), views=stacked, problems=problems)


def _views_or_problem(data: bytes) -> tuple[_View, str]:
    try:
        return _views_of(data, least=_LEAST_DECODED), ""
    except BadImage as error:
        return _NO_VIEW, str(error)


def _stacked(image_views: Sequence[_View]) -> Views:
    return Views(
        pixels=np.array([view[0] for view in image_views], dtype=np.uint8).reshape(-1, 2, SIDE, SIDE, 3),
        ratio=np.array([view[1] for view in image_views], dtype=np.float64).reshape(-1, 2),
        flat=np.array([view[2] for view in image_views], dtype=bool).reshape(-1, 2),
    )


_View = tuple[np.ndarray, tuple[float, float], tuple[bool, bool]]
_NO_VIEW: _View = np.zeros((2, SIDE, SIDE, 3), dtype=np.uint8), (1.0, 1.0), (True, True)


def _fingerprint(file: Callable[[], bytes]) -> str:
    """A text of six hashes (box, full, inner, and those of the mirrored image), flags of flat views, and the fields."""
    prints = _prints(_stacked([_views_of_file(file)]))
    flat = "".join(str(int(nothing)) for nothing in prints.flat[0])
    return " ".join(
        [*(f"{int(bit):x}" for bit in (*prints.plain[0], *prints.mirrored[0])), flat, prints.fields.tobytes().hex()]
    )


def _prints(views: Views) -> PerceptualHashes:
    count, edge = len(views.pixels), SIDE * INNER_EDGE
    inside = (edge, edge, SIDE - edge, SIDE - edge)
    inner = [_resized(Image.fromarray(pixels), inside) for pixels in views.pixels[:, BOX]]
    seen = np.concatenate([views.pixels, np.array(inner, dtype=np.uint8).reshape(-1, 1, SIDE, SIDE, 3)], axis=1)
    coefficients = _coefficients((seen @ _LUMA).reshape(-1, SIDE, SIDE))
    fields = views.pixels.reshape(-1, 2, 4, SIDE // 4, 4, SIDE // 4, 3).mean(axis=(3, 5))
    return PerceptualHashes(
        plain=_bits(coefficients).reshape(count, 3),
        mirrored=_bits(coefficients * _MIRROR).reshape(count, 3),
        flat=views.flat[:, [BOX, FULL, BOX]],
        fields=fields.round().astype(np.uint8),
    )


def _views_of_file(file: Callable[[], bytes]) -> _View:
    try:
        return _views_of(file(), least=0)
    except (BadImage, OSError):
        return _NO_VIEW


def _views_of(data: bytes, *, least: int) -> _View:
    return _views(Image.fromarray(preview(data, least=least)))


def _views(image: Image.Image) -> _View:
    ratio = image.width / image.height
    full = _resized(image, (0, 0, image.width, image.height))
    image.thumbnail((_WORKING_SIDE, _WORKING_SIDE), Image.Resampling.BOX)
    pixels = np.asarray(image)
    ground = _ground(pixels)
    if ground is None:
        return np.stack([full, full]), (ratio, ratio), (_is_flat(full), _is_flat(full))
    apart = np.abs(pixels - ground)
    difference = np.maximum(np.maximum(apart[..., 0], apart[..., 1]), apart[..., 2])
    drawn = difference > _DRAWN
    if not drawn.any():
        return np.stack([full, full]), (ratio, ratio), (True, _is_flat(full))
    rows, columns = np.flatnonzero(drawn.any(axis=1)), np.flatnonzero(drawn.any(axis=0))
    left, top, right, bottom = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
    opacity = np.clip((difference - 8) / 32, 0, 1)[..., None]
    on_white = Image.fromarray((255.5 + opacity * (pixels - np.float32(255))).astype(np.uint8))
    box = _resized(on_white, (left, top, right, bottom))
    return np.stack([box, full]), ((right - left) / (bottom - top), ratio), (_is_flat(box), _is_flat(full))


def _ground(pixels: np.ndarray) -> np.ndarray | None:
    """The one colour of the border; None where it has many, as in most photographs."""
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]).astype(np.float32)
    near = np.abs(border - np.median(border, axis=0)).max(axis=1) <= _GROUND_TOLERANCE
    return border[near].mean(axis=0) if near.mean() >= _GROUND_SHARE else None


def _resized(image: Image.Image, box: tuple[float, float, float, float]) -> np.ndarray:
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box, reducing_gap=4.0))


def _is_flat(view: np.ndarray) -> bool:
    return float(view.reshape(-1, 3).std(axis=0, dtype=np.float32).max()) < 255 * _FLAT


def _coefficients(grey: np.ndarray) -> np.ndarray:
    """The coefficients of the lowest frequencies, (n, 8, 8), from (n, SIDE, SIDE) grey values."""
    return _COSINES @ grey @ _COSINES.T


def _bits(coefficients: np.ndarray) -> UInt64[np.ndarray, " n"]:
    flat = coefficients.reshape(len(coefficients), 64)
    threshold = np.median(flat, axis=1) + MARGIN * np.abs(flat[:, 1:]).mean(axis=1)
    return np.packbits(flat > threshold[:, None], axis=1).view(">u8")[:, 0].astype(np.uint64)
