"""Cost of opening a folder of very many images the first time and again.

    python benchmarks/open_folder.py [--images 1000000] [--folder DIR]

The folder has hard links to 100 small JPEGs, a thousand in each sub-folder, and no tags. Each opening is a process of
its own with a cache of its own; processor seconds and memory are those of opening, imports apart.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DISTINCT, SIDE, TOGETHER = 100, 32, 1000


def make_images(folder: Path, originals: Path, images: int) -> None:
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    originals.mkdir()
    for number in range(DISTINCT):
        pixels = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(originals / f"{number}.jpg")
    for number in range(images):
        inner = folder / f"{number // TOGETHER:05d}"
        if number % TOGETHER == 0:
            inner.mkdir(parents=True)
        os.link(originals / f"{number % DISTINCT}.jpg", f"{inner}/{number:08d}.jpg")


def opened(folder: Path) -> dict[str, float]:
    """Seconds and memory of opening the folder in this process."""
    from underpaint.data.folders.folder import open_folder

    processor, wall = time.process_time(), time.perf_counter()
    source = open_folder(folder, tags="", labels="")
    return {
        "images": len(source.path),
        "processor": time.process_time() - processor,
        "wall": time.perf_counter() - wall,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, default=None, help="where images are made (default: temporary)")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(opened(options.child)))
        return 0
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        root = Path(temporary)
        make_images(root / "images", root / "originals", options.images)
        environment = {**os.environ, "UNDERPAINT_CACHE": str(root / "cache")}
        for name in ("first", "again"):
            command = [sys.executable, __file__, "--child", str(root / "images")]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
            found = json.loads(done.stdout.splitlines()[-1])
            print(
                f"{name}: {found['images']:,}, processor {found['processor']:.1f} s, wall {found['wall']:.1f} s, "
                f"peak memory {found['memory'] / 2**20:,.0f} MiB"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
