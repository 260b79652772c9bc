"""Processor seconds of `underpaint train` until its first step is taken, by part, and of commands that train nothing.

    python benchmarks/start_up.py [--recipe mae_smoke] [--repeats 5]

The images are 150 small PNGs with tags, drawn here; a first start, which is not counted, fills the cache. Processor
seconds are user and system time of all threads, which other work on the machine changes far less than wall time.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType
from typing import Any

IMAGES, SIDE = 150, 48
HEAVY = ("torch._dynamo", "torchvision", "sympy", "tensorboard", "transformers", "underpaint.verbs")
"""Modules that cost much to import, and that a first step does not need."""
TAGS = ("red, circle", "blue, box", "green, circle", "red, tree", "heron", "sailing boat")
PARTS = ("interpreter and torch", "the package", "data", "network and optimizer", "streams and log", "first step")


def make_images(folder: Path) -> None:
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    folder.mkdir()
    lines = ["path,tags"]
    for number in range(IMAGES):
        Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(folder / f"{number:03d}.png")
        lines.append(f'{number:03d}.png,"{TAGS[number % len(TAGS)]}"')
    (folder / "tags.csv").write_text("\n".join(lines) + "\n")


class Marks:
    """Processor and wall seconds since the process began, at the end of each part."""

    def __init__(self) -> None:
        self.taken: list[tuple[float, float]] = []
        self.begun = time.perf_counter()

    def mark(self) -> None:
        self.taken.append((time.process_time(), time.perf_counter() - self.begun))

    def after(self, module: ModuleType, name: str) -> None:
        """Mark the end of every call of a function."""
        work = getattr(module, name)

        def marked(*arguments: Any, **named: Any) -> Any:
            result = work(*arguments, **named)
            self.mark()
            return result

        setattr(module, name, marked)

    def at_steps(self, loop: ModuleType) -> None:
        """Mark the beginning of the first step and of the second, which ends the process."""
        set_rate = loop.set_learning_rate

        def marked(*arguments: Any) -> None:
            self.mark()
            if len(self.taken) == len(PARTS):
                memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
                heavy = [name for name in HEAVY if name in sys.modules]
                print(json.dumps({"marks": self.taken, "memory": memory, "heavy": heavy}), flush=True)
                os._exit(0)
            set_rate(*arguments)

        loop.set_learning_rate = marked  # type: ignore[attr-defined]


def start(recipe: str, images: str, out: str) -> None:
    """Train, in a process of its own, until the first step is taken; print the marks."""
    marks = Marks()
    import torch  # noqa: F401  a part of its own

    marks.mark()
    from underpaint.one_run import train

    marks.mark()
    marks.after(sys.modules["underpaint.run.execute"], "open_data")
    marks.after(sys.modules["underpaint.run.execute"], "build_state")
    marks.at_steps(sys.modules["underpaint.training.loop"])
    train(recipe, f"data={images}", out=out)


def measured(recipe: str, images: Path, out: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, "--recipe", recipe, "--child", str(images), str(out)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def spent(words: list[str]) -> float:
    """Processor seconds of a command of `underpaint`."""
    before = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    subprocess.run([sys.executable, "-m", "underpaint", *words], stdout=subprocess.DEVNULL, check=True)
    return sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) - before


def told(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):6.2f} ({min(seconds):.2f} to {max(seconds):.2f})"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--recipe", default="mae_smoke")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        start(options.recipe, *options.child)
    with tempfile.TemporaryDirectory() as temporary:
        images, root = Path(temporary) / "images", Path(temporary)
        make_images(images)
        runs = [measured(options.recipe, images, root / f"run{number}") for number in range(options.repeats + 1)][1:]
        commands = {" ".join(words): [spent(words) for _ in range(options.repeats)] for words in (["--help"], ["list"])}
    print(f"{options.recipe}: processor seconds, medians of {options.repeats} starts, lowest and highest")
    for place, part in enumerate(PARTS):
        ends = [[cpu for cpu, _ in run["marks"]] for run in runs]
        print(f"{part:24}{told([end[place] - (end[place - 1] if place else 0.0) for end in ends])}")
    print(f"{'until the first step':24}{told([run['marks'][-1][0] for run in runs])}")
    print(f"{'wall time':24}{told([run['marks'][-1][1] for run in runs])}")
    print(
        f"memory {statistics.median(run['memory'] for run in runs) / 2**20:.0f} MiB, heavy modules: {runs[0]['heavy']}"
    )
    for name, seconds in commands.items():
        print(f"{'underpaint ' + name:24}{told(seconds)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
