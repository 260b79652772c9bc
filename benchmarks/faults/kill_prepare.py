"""Kill `prepare` with SIGKILL at random moments, again and again, and compare what it leaves with an undisturbed set.

    python benchmarks/faults/kill_prepare.py --kills 20

Every start continues the last one; a set that is finished is compared byte by byte, and the next one begun. The moments
are drawn over the time that an undisturbed start works, from its first line on.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import random
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

WORDS = (
    "bear",
    "BrownBear",
    "ursusarctos",
    "forest",
    "dogs",
    "dog",
    "instagood",
    "oak",
    "trees",
    "fern",
    "lake",
    "été",
)
FIRST_LINE = "Looking for images"


def write_sources(folder: Path, images: int) -> list[Path]:
    """A folder with a table of tags, and tars with a JSON member for each image."""
    generator = np.random.default_rng(0)
    pictures = []
    for _ in range(images):
        coarse = Image.fromarray(generator.integers(0, 256, size=(8, 8, 3), dtype=np.uint8))
        file = io.BytesIO()
        coarse.resize((160, 160), Image.Resampling.BICUBIC).save(file, "JPEG")
        pictures.append((file.getvalue(), list(generator.choice(WORDS, size=3))))
    loose, tars = folder / "loose", folder / "tars"
    loose.mkdir()
    tars.mkdir()
    rows = [("path", "tags")]
    half = images // 2
    for number, (content, tags) in enumerate(pictures[:half]):
        (loose / f"{number:05d}.jpg").write_bytes(content)
        rows.append((f"{number:05d}.jpg", ";".join(tags)))
    with (loose / "tags.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    for start in range(half, images, 50):
        with tarfile.open(tars / f"{start:05d}.tar", "w") as archive:
            for number, (content, tags) in enumerate(pictures[start : start + 50]):
                told = json.dumps({"tags": tags}).encode()
                for name, one in ((f"{start + number:09d}.jpg", content), (f"{start + number:09d}.json", told)):
                    member = tarfile.TarInfo(name)
                    member.size = len(one)
                    archive.addfile(member, io.BytesIO(one))
    return [loose, tars]


def start(out: Path, sources: Sequence[Path]) -> subprocess.Popen[str]:
    """A process that has said its first line."""
    given = [*map(str, sources), "--out", str(out), "--shard-images", "20"]
    command = [sys.executable, "-m", "underpaint", "prepare", *given]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith(FIRST_LINE):
            return process
    raise SystemExit(f"prepare failed by itself, with {process.wait()}")


def finish(out: Path, sources: Sequence[Path]) -> float:
    """Let a start run to its end; the seconds it worked."""
    process = start(out, sources)
    began = time.perf_counter()
    _, told = process.communicate()
    assert process.returncode == 0, told
    return time.perf_counter() - began


def outcome(out: Path) -> dict[str, bytes]:
    """Every file of a set, those that continue it included."""
    files = (path for path in sorted(out.rglob("*")) if path.is_file() and path.name != ".lock")
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files}


def state(out: Path) -> str:
    work = out / "prepare_work"
    rows, labels = len(list(work.glob("rows/*.parquet"))), len(list(work.glob("labels-*/*-*.parquet")))
    whole = "whole" if (out / "prepare.json").is_file() else "not whole"
    return f"{rows} partitions read, {labels} labelled, {whole}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    options = parser.parse_args()
    generator = random.Random(options.seed)
    print(f"seed {options.seed}", flush=True)
    struck, sets, differing = 0, 0, set()
    with tempfile.TemporaryDirectory() as name:
        sources = write_sources(Path(name), options.images)
        seconds = finish(Path(name) / "reference" / "set", sources)
        expected = outcome(Path(name) / "reference" / "set")
        print(f"undisturbed: {seconds:.1f} s of work, {len(expected)} files", flush=True)
        while struck < options.kills:
            out = Path(name) / f"disturbed-{sets}" / "set"
            while struck < options.kills:
                delay = generator.random() * seconds  # one that is over before has its set compared
                process = start(out, sources)
                time.sleep(delay)
                os.kill(process.pid, signal.SIGKILL)
                if process.wait() != -signal.SIGKILL:
                    break
                struck += 1
                print(f"kill {struck}, {delay:.2f} s after the start: {state(out)}", flush=True)
            finish(out, sources)
            got = outcome(out)
            sets += 1
            differing |= {key for key in expected.keys() | got.keys() if expected.get(key) != got.get(key)}
    print(f"{struck} kills, {sets} sets of {len(expected)} files compared, {len(differing)} files differ")
    print("\n".join(sorted(differing)[:10]))
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
