"""Small copies of drawings and photographs for a collection.

RGB on white, at most SIDE pixels on the longer side: twice what a study of minutes looks at, room for the crops, and
8 kB an image, so that thousands are prepared in two minutes and take as little room as one film.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
import xxhash
from PIL import Image, ImageChops

from underpaint.data.decode.image import EIGHT_BIT, decode
from underpaint.data.decode.limits import BadImage
from underpaint.messages import say
from underpaint.progress import progress

SIDE = 128
"""Largest longer side in pixels; smaller images keep their size."""

THINNEST = 8
"""Smallest shorter side in pixels of a usable image."""

MAX_BYTES = 64 * 1024**2


def write_thumbnails(files: Mapping[str, Path], images: Path, *, trim: bool, description: str) -> dict[str, str]:
    """Write a thumbnail for each path under ``images`` (``birds/owl.png``); returns the hash of each one's pixels.

    ``trim`` cuts off the empty paper around a drawing. Images that cannot be read, are blank or too thin are left out,
    with a message. Two threads work, since the decoders release the interpreter lock.
    """

    def write(path: str) -> str:
        try:
            thumbnail = _thumbnail(files[path], trim=trim)
        except BadImage as error:
            return f"!{error}"
        target = images / path
        target.parent.mkdir(parents=True, exist_ok=True)
        thumbnail.save(target, "PNG")
        return xxhash.xxh3_128_hexdigest(repr(thumbnail.size).encode() + thumbnail.tobytes())

    with ThreadPoolExecutor(max_workers=2) as pool:
        digests = dict(
            zip(files, progress(pool.map(write, files), description, total=len(files), unit="images"), strict=True)
        )
    bad = {path: digest.removeprefix("!") for path, digest in digests.items() if digest.startswith("!")}
    if bad:
        path = min(bad)
        say(f"{len(bad)} of {len(files)} images cannot be used and are left out, such as {path}: {bad[path]}")
    return {path: digest for path, digest in digests.items() if path not in bad}


def _thumbnail(file: Path, *, trim: bool) -> Image.Image:
    if file.stat().st_size > MAX_BYTES:
        raise BadImage(f"the file has more than {MAX_BYTES} bytes")
    pixels = decode(file.read_bytes(), channels=3, value_range=EIGHT_BIT)
    assert pixels.dtype == torch.uint8
    image = Image.fromarray(np.ascontiguousarray(pixels.permute(1, 2, 0).numpy()))
    box = ImageChops.invert(image).getbbox()
    if box is None:
        raise BadImage("nothing is seen of it on white")
    if trim:
        image = image.crop(box)
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    if min(image.size) < THINNEST:
        raise BadImage(f"at {SIDE} pixels it is {image.width} x {image.height}, too thin")
    return image
