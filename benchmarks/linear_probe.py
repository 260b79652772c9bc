"""Peak memory and time of ``eval linear_sgd`` on features as many as ImageNet-1k's, in a memory-mapped file.

    python benchmarks/linear_probe.py
    python benchmarks/linear_probe.py --preset swag --epochs 1 --folder /scratch

The features are noise around the centre of their class, float16, written to a temporary file that is deleted at the
end. `peak` is the largest resident size of the process (VmHWM), pages of the file among it; `held` the largest without
those (RssAnon), sampled once a second: what the machine must have. `epochs` is a part of the preset's; time is given
for one and, multiplied, for all.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import torch

from underpaint.evals.features import LabelledFeatures, TaskFeatures
from underpaint.evals.linear_sgd import RECIPES, LinearSGD

GIB = 2**30
PIECE = 8192


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    held = Held()
    held.start()
    with tempfile.TemporaryDirectory(prefix="underpaint-features-", dir=options.folder or None) as folder:
        started = time.perf_counter()
        halves = [half(Path(folder), name, images, options) for name, images in
                  (("train", options.images), ("test", options.test))]  # fmt: skip
        written = time.perf_counter()
        classes = tuple(f"{number:04d}" for number in range(options.classes))
        task = TaskFeatures(dataset="synthetic", classes=classes, train=halves[0], test=halves[1])
        probe = LinearSGD(dataset="synthetic", preset=options.preset, base_lr=(options.lr,), epochs=options.epochs)
        (score,) = probe.score(task, seed=0)
        seconds = time.perf_counter() - written
    held.done = True
    published = RECIPES[options.preset].epochs
    print(
        json.dumps(
            {
                "images": options.images,
                "width": options.width,
                "classes": options.classes,
                "preset": options.preset,
                "threads": options.threads,
                "epochs": options.epochs,
                "top1": score.value,
                "written_s": round(written - started, 1),
                "seconds": round(seconds, 1),
                "seconds_per_epoch": round(seconds / options.epochs, 1),
                "hours_for_published": round(seconds / options.epochs * published / 3600, 2),
                "peak_gib": round(status("VmHWM") / GIB, 2),
                "held_gib": round(held.largest / GIB, 2),
            }
        )
    )


def half(folder: Path, name: str, images: int, options: argparse.Namespace) -> LabelledFeatures:
    """Noise around the centres of the classes, written in pieces; images of a class lie together, as in folders."""
    rng = np.random.default_rng(len(name))
    centres = np.random.default_rng(0).standard_normal((options.classes, options.width), dtype=np.float32)
    y = np.arange(images) * options.classes // images
    shape = (images, options.width)
    x = np.memmap(folder / name, dtype=np.float16, mode="w+", shape=shape)
    for start in range(0, images, PIECE):
        of_piece = y[start : start + PIECE]
        noise = rng.standard_normal((len(of_piece), options.width), dtype=np.float32)
        x[start : start + PIECE] = 0.2 * centres[of_piece] + noise
    x.flush()
    names = tuple(f"{name}/{number}" for number in range(images))
    return LabelledFeatures(x=torch.from_numpy(x), y=torch.from_numpy(y), image=names, family=names)


def status(name: str) -> int:
    """A size of this process in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) * 1024


class Held(threading.Thread):
    """The largest size of the memory that belongs to no file."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.largest, self.done = 0, False

    def run(self) -> None:
        while not self.done:
            self.largest = max(self.largest, status("RssAnon"))
            time.sleep(1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1_281_167)
    parser.add_argument("--test", type=int, default=50_000)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--preset", choices=sorted(RECIPES), default="mae")
    parser.add_argument("--lr", type=float, default=0.1, help="base rate per 256 images")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", default="", help="for the temporary file of features (2 GB)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
