"""Small pictures for a page, read by the package's own decoder with its limits; names of files never become paths."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from underpaint.data.decode.image import preview
from underpaint.data.decode.limits import BadImage
from underpaint.data.source import Files, Problem
from underpaint.progress import progress

SIDE = 192
"""Longer side in pixels at most; smaller images keep their size."""
QUALITY = 78
OF_FOLDER = 1_000
"""Pictures in one folder: file managers and file systems are slow with more."""


def write_thumbnails(files: Files, paths: Sequence[str], folder: Path) -> list[Problem]:
    """Write ``folder/0/0.webp`` for the first image, and so on; the images that cannot be drawn.

    Two threads work, since the decoders release the interpreter lock.
    """
    for number in range(0, len(paths), OF_FOLDER):
        (folder / str(number // OF_FOLDER)).mkdir(parents=True)

    def write(number: int) -> Problem | None:
        try:
            _write(files.read(paths[number]), folder / thumbnail_name(number))
        except BadImage as problem:
            return Problem(key=paths[number], reason=str(problem))
        except FileNotFoundError:
            return Problem(key=paths[number], reason="cannot be read: it is gone")
        return None

    with ThreadPoolExecutor(max_workers=2) as pool:
        numbers = range(len(paths))
        shown = progress(pool.map(write, numbers), "Thumbnails", total=len(paths), unit="images")
        return [problem for problem in shown if problem is not None]


def thumbnail_name(number: int) -> str:
    """Path of the thumbnail of an image, relative to the folder of all."""
    return f"{number // OF_FOLDER}/{number}.webp"


def _write(data: bytes, target: Path) -> None:
    from PIL import Image

    picture = Image.fromarray(preview(data, least=SIDE))
    if max(picture.size) > SIDE:
        share = SIDE / max(picture.size)
        size = tuple(max(1, round(side * share)) for side in picture.size)
        picture = picture.resize((size[0], size[1]), Image.Resampling.LANCZOS)
    picture.save(target, "WEBP", quality=QUALITY, method=3)
