"""How many images an evaluation encodes per second with decoding workers and without.

    python benchmarks/eval_workers.py [--images 512] [--repeats 3] [--workers 2]

Images are JPEGs of photo size (3,000 x 2,000 pixels, quality 90, smooth noise drawn by seed) and of 500 x 375 pixels,
as ImageNet's. The encoders are a ViT of width 128 at 64 pixels and a ViT-S at 224 pixels with random weights, and no
encoder at all, which is the limit that decoding sets. Each number is the whole of ``Engine.features`` without a cache,
the start of the worker processes included: the median of alternating repeats.

No worker is started where it would save less time than its start takes, as with few small images. With workers
decoding runs beside the encoder. They cannot help an encoder that keeps all cores busy itself, and on a machine with
other work the ratios say little.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from underpaint.core import ImageInput
from underpaint.data.feature_store import Staff
from underpaint.data.open_source import open_source
from underpaint.data.source import Source
from underpaint.data.view_batches import view_batches
from underpaint.evals.engine import Engine
from underpaint.models.vit import ViT, ViTConfig

SIZES = {"3000 x 2000": (3000, 2000), "500 x 375": (500, 375)}
ENCODERS = {
    "none (decoding alone)": None,
    "width 128, 64 px": ViTConfig(size=(64, 64), patch=8, width=128, depth=12, heads=4),
    "ViT-S/16, 224 px": ViTConfig(size=(224, 224), patch=16, width=384, depth=12, heads=6),
}
PIXELS = 224
DISTINCT = 16


def make_images(folder: Path, count: int, size: tuple[int, int]) -> Source:
    """JPEGs of smooth noise; some thousand of them decode as fast as so many photographs of their size in bytes."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for number in range(DISTINCT):
        coarse = rng.integers(0, 256, size=(size[1] // 20, size[0] // 20, 3), dtype=np.uint8)
        image = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)).astype(np.int16)
        grain = rng.integers(-8, 9, size=image.shape)
        file = folder / f"{number:05d}.jpg"
        Image.fromarray((image + grain).clip(0, 255).astype(np.uint8)).save(file, quality=90)
    for number in range(DISTINCT, count):
        os.link(folder / f"{number % DISTINCT:05d}.jpg", folder / f"{number:05d}.jpg")
    return open_source(str(folder))


def seconds(source: Source, encoder: ViT | None, workers: int, batch: int = 32) -> float:
    """Time of all images through the engine."""
    rows, started = list(range(len(source.path))), time.perf_counter()
    if encoder is None:
        plain = ImageInput(size=(PIXELS, PIXELS), channels=3, value_range=(0, 255), mean=(0.5,) * 3, std=(0.25,) * 3)
        reads = [_Read(source, row) for row in rows]
        for _ in view_batches(reads, format=plain, batch_size=batch, workers=workers):
            pass
    else:
        engine = Engine(device=torch.device("cpu"), staff=Staff(workers=workers))
        format = encoder.config.image_input
        engine.features(encoder, source, rows, format=format, pooling="cls", batch_size=batch)
    return time.perf_counter() - started


class _Read:
    """The bytes of an image."""

    def __init__(self, source: Source, row: int) -> None:
        self.files, self.path = source.files, source.path[row]

    def __call__(self) -> bytes:
        return self.files.read(self.path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", default="", help="rows whose images and encoder contain this")
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(f"| images | encoder | images/s, 0 workers | images/s, {options.workers} workers | ratio |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for title, size in SIZES.items():
            source = make_images(Path(folder) / title.replace(" ", ""), options.images, size)
            for name, config in ENCODERS.items():
                if options.only not in f"{title} {name}":
                    continue
                encoder = None if config is None else ViT(config)
                times: dict[int, list[float]] = {0: [], options.workers: []}
                for _ in range(options.repeats):
                    for workers, measured in times.items():
                        measured.append(seconds(source, encoder, workers))
                slow, fast = (options.images / statistics.median(measured) for measured in times.values())
                ratios = [alone / beside for alone, beside in zip(*times.values(), strict=True)]
                spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
                print(f"| {title} | {name} | {slow:.1f} | {fast:.1f} | {spread} |", flush=True)


if __name__ == "__main__":
    main()
