"""Shapes of objects, polygons or run lengths, and their masks over a box, sampled without a mask of the whole image."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor

EDGES_AT_ONCE = 4096
"""Edges of a polygon that are crossed with the rows of a mask at a time, which bounds memory."""
SMALLEST_POLYGON = 6
"""Fewest coordinates of a polygon: three points."""

Points = Float[np.ndarray, "_n 2"]
"""x and y in pixels of the stored image."""


class NoShape(ValueError):
    """A segmentation that cannot be used; the message is the reason."""


class Runs(NamedTuple):
    """Run lengths of a mask by columns, background first."""

    height: int
    ends: np.ndarray
    """Running sum of the runs."""


Shape = tuple[Points, ...] | Runs


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """Shapes of many objects in flat tensors, a few bytes per number, which worker processes can share."""

    numbers: Float[Tensor, " numbers"]
    """x, y, x, y, ... of all polygons."""
    runs: Int[Tensor, " runs"]
    """Running sums of all run lengths."""
    lengths: Int[Tensor, " lengths"]
    """How many numbers each polygon has; for run lengths the height of the image, negative, and their number."""
    starts: Int64[Tensor, "objects 4"]
    """First place of each object in ``lengths``, how many it has there, first places in ``numbers`` and ``runs``."""

    def share_memory(self) -> None:
        """Let processes that are sent this read the same memory."""
        for tensor in (self.numbers, self.runs, self.lengths, self.starts):
            tensor.share_memory_()

    def shape(self, index: int) -> Shape:
        length, count, number, run = self.starts[index].tolist()
        lengths = self.lengths[length : length + count].tolist()
        if lengths and lengths[0] < 0:
            return Runs(-lengths[0], self.runs[run : run + lengths[1]].numpy().astype(np.int64))
        polygons = []
        for size in lengths:
            polygons.append(self.numbers[number : number + size].double().view(-1, 2).numpy())
            number += size
        return tuple(polygons)


class ShapeWriter:
    """Collects the shapes of a table."""

    def __init__(self) -> None:
        self.numbers = array("f")
        self.runs = array("i")
        self.lengths = array("i")
        self.starts = array("q")

    def add(self, shape: Shape) -> None:
        """Append the shape of an object; without polygons it has none."""
        count = 2 if isinstance(shape, Runs) else len(shape)
        self.starts.extend((len(self.lengths), count, len(self.numbers), len(self.runs)))
        if isinstance(shape, Runs):
            self.lengths.extend((-shape.height, len(shape.ends)))
            self.runs.extend(shape.ends.tolist())
        else:
            for polygon in shape:
                self.lengths.append(polygon.size)
                self.numbers.extend(polygon.ravel().tolist())

    def finish(self, order: Int64[Tensor, " objects"]) -> Shapes:
        """The shapes at these places."""
        numbers, runs, lengths, starts = (
            torch.from_numpy(np.array(each)) for each in (self.numbers, self.runs, self.lengths, self.starts)
        )
        return Shapes(numbers=numbers, runs=runs, lengths=lengths, starts=starts.view(-1, 4)[order])


def parse_shape(value: object, *, height: int, width: int) -> Shape:
    """The shape that a ``segmentation`` describes: COCO's polygons, run lengths or compressed run lengths, or none.

    Raises:
        NoShape: if it is none of them, not finite, or of another size than the image.
    """
    if value is None or value == []:
        return ()
    if isinstance(value, list):
        return tuple(_polygon(each) for each in value)
    if isinstance(value, dict):
        if value.get("size") != [height, width]:
            raise NoShape(f"the mask has the size {value.get('size')!r:.40}, the image [{height}, {width}]")
        return Runs(height, _run_ends(value.get("counts"), height * width))
    raise NoShape(f"segmentation={value!r:.40} is neither polygons nor run lengths")


def _polygon(value: object) -> Points:
    if not isinstance(value, list) or len(value) < SMALLEST_POLYGON or len(value) % 2:
        size = len(value) if isinstance(value, list) else value
        raise NoShape(f"a polygon of {size!r:.40} numbers, which must be an even number from {SMALLEST_POLYGON} on")
    if not all(type(each) in (int, float) for each in value):
        raise NoShape("a polygon with something other than numbers")
    points = np.array(value, dtype=np.float64).reshape(-1, 2)
    if not np.isfinite(points).all() or np.abs(points).max() > 2**20:
        raise NoShape("a polygon with coordinates that are not finite, or are above 2^20")
    return points


def _run_ends(counts: object, pixels: int) -> np.ndarray:
    """The running sum of run lengths, which must end at the number of pixels."""
    if isinstance(counts, str):
        runs = _decompressed(counts, pixels)
    elif isinstance(counts, list) and all(type(run) is int and 0 <= run <= pixels for run in counts):
        runs = np.array(counts, dtype=np.int64)
    else:
        raise NoShape(f"counts={counts!r:.40} are not run lengths between 0 and {pixels}")
    ends = np.cumsum(runs)
    if not len(ends) or ends[-1] != pixels:
        raise NoShape(f"run lengths of {ends[-1] if len(ends) else 0} pixels, the image has {pixels}")
    return ends


def _decompressed(text: str, pixels: int) -> np.ndarray:
    """COCO's compressed run lengths: 5 bits a character, least first, and from the third run on differences of two."""
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise NoShape(f"counts={text!r:.40} are not compressed run lengths")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        if len(runs) > 2:
            value += runs[-2]
        if not 0 <= value <= pixels:
            raise NoShape(f"a run of {value} pixels, the image has {pixels}")
        runs.append(value)
        value = shift = 0
    if shift:
        raise NoShape("compressed run lengths that end in the middle of a number")
    return np.array(runs, dtype=np.int64)


def mask_over(
    shape: Shape, x: Float[np.ndarray, " columns"], y: Float[np.ndarray, " rows"]
) -> Bool[np.ndarray, "rows columns"]:
    """Whether the points (x, y), in pixels of the stored image, lie inside the shape.

    ``x`` may fall, where a view is mirrored. A point belongs to a polygon by the even-odd rule, to run lengths by the
    pixel it lies in, to several polygons if it belongs to one of them.
    """
    if isinstance(shape, Runs):
        column, row = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
        width = int(shape.ends[-1]) // shape.height
        inside = ((row >= 0) & (row < shape.height))[:, None] & ((column >= 0) & (column < width))[None]
        place = column.clip(0, width - 1)[None] * shape.height + row.clip(0, shape.height - 1)[:, None]
        return inside & (np.searchsorted(shape.ends, place, side="right") % 2 == 1)
    if len(x) > 1 and x[0] > x[-1]:
        return mask_over(shape, x[::-1], y)[:, ::-1]
    inside = np.zeros((len(y), len(x)), dtype=bool)
    for polygon in shape:
        inside |= _inside_polygon(polygon, x, y)
    return inside


def _inside_polygon(points: Points, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Points with an odd number of edges on their left; ``x`` rises."""
    crossings = np.zeros((len(y), len(x) + 1), dtype=np.int64)
    following = np.roll(points, -1, axis=0)
    for first in range(0, len(points), EDGES_AT_ONCE):
        (x0, y0), (x1, y1) = points[first : first + EDGES_AT_ONCE].T, following[first : first + EDGES_AT_ONCE].T
        row, edge = np.nonzero((y0[None] <= y[:, None]) != (y1[None] <= y[:, None]))
        at = x0[edge] + (y[row] - y0[edge]) / (y1[edge] - y0[edge]) * (x1[edge] - x0[edge])
        np.add.at(crossings, (row, np.searchsorted(x, at, side="left")), 1)
    return np.cumsum(crossings, axis=1)[:, :-1] % 2 == 1
