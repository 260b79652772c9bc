"""Drawings and photographs that are unlike each other, and what is done to copies of them."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

import numpy as np
import scipy.fft
from PIL import Image, ImageDraw, ImageOps

SIZE = 96


def drawing(seed: int) -> Image.Image:
    """Some coloured shapes on white, unlike those of any other seed."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (SIZE, SIZE), "white")
    draw = ImageDraw.Draw(image)
    for _ in range(7):
        colour = tuple(int(value) for value in rng.integers(0, 200, size=3))
        if rng.random() < 0.5:
            draw.polygon([tuple(point) for point in rng.integers(8, SIZE - 8, size=(4, 2)).tolist()], fill=colour)
        else:
            left, top = (int(value) for value in rng.integers(8, SIZE - 40, size=2))
            width, height = (int(value) for value in rng.integers(10, 32, size=2))
            draw.ellipse((left, top, left + width, top + height), fill=colour)
    return image


def photograph(seed: int) -> Image.Image:
    """Smooth colours from edge to edge."""
    rng = np.random.default_rng(seed)
    waves = scipy.fft.idctn(np.pad(rng.normal(size=(9, 9, 3)), ((0, 119), (0, 87), (0, 0))), axes=(0, 1), norm="ortho")
    waves = (waves - waves.min()) / (waves.max() - waves.min())
    return Image.fromarray((255 * waves).astype(np.uint8))


def jpeg(image: Image.Image) -> Image.Image:
    out = BytesIO()
    image.save(out, "JPEG", quality=50)
    with Image.open(out) as image:
        return image.convert("RGB")


def scaled(image: Image.Image, factor: float) -> Image.Image:
    return image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.BICUBIC)


def cropped(image: Image.Image, *share: float) -> Image.Image:
    left, top, right, bottom = share
    width, height = image.size
    return image.crop(
        (round(width * left), round(height * top), round(width * (1 - right)), round(height * (1 - bottom)))
    )


def on_ground(image: Image.Image) -> Image.Image:
    """The white around the shapes becomes yellow."""
    outside = image.copy()
    for corner in ((0, 0), (0, SIZE - 1), (SIZE - 1, 0), (SIZE - 1, SIZE - 1)):
        ImageDraw.floodfill(outside, corner, (255, 250, 150))
    return outside


def on_canvas(image: Image.Image) -> Image.Image:
    canvas = Image.new("RGB", (150, 120), "white")
    canvas.paste(image, (40, 10))
    return canvas


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "as it is": Image.Image.copy,
    "re-encoded": jpeg,
    "half as large": lambda image: scaled(image, 0.5),
    "larger": lambda image: scaled(image, 1.7),
    "cropped": lambda image: cropped(image, 0.04, 0.02, 0.0, 0.03),
    "mirrored": ImageOps.mirror,
    "all of it": lambda image: jpeg(scaled(cropped(ImageOps.mirror(image), 0.02, 0.0, 0.02, 0.02), 0.6)),
}
COPIES_OF_DRAWINGS = {**COPIES, "on yellow": on_ground, "on a larger canvas": on_canvas}
