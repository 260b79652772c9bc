"""The time that a run is told to take before it starts, beside the time that it then takes.

    python benchmarks/time_told.py [--minutes 3] [--folder DIR] [--only TEXT]

Five cases with images to read: MAE fitted to images of 500 x 375 pixels, MAE fitted to photographs of 3,000 x 2,000
pixels, WSP fitted to the names of their folders, the study ``transfer`` of the first two encoders, and the study
``stages`` at size tiny, which is `make demo`. Told is what `train` says before the first step ("expected to take") and
what `study --plan` says; taken is the time of the command from then on, or of the study's command as a whole. Images
are drawn by seed: each class has a hue, all have fine grain. The machine should have nothing else to do.
"""

from __future__ import annotations

import argparse
import colorsys
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = 12
UNITS = {"days": 86_400.0, "h": 3_600.0, "min": 60.0, "s": 1.0}
DURATION = r"((?:[\d.,]+ (?:days|h|min|s)\b ?)+)"
COMMAND = [sys.executable, "-m", "underpaint"]


def write_images(folder: Path, *, count: int, size: tuple[int, int]) -> Path:
    """JPEGs in a folder for each class, and beside them a table with their class as tag."""
    rng, rows = np.random.default_rng(0), ["path,tags"]
    for number in range(count):
        hue = number % CLASSES
        colour = 255 * np.array(colorsys.hsv_to_rgb(hue / CLASSES, 0.6, 0.8))
        coarse = rng.integers(0, 256, size=(size[1] // 20, size[0] // 20, 3)) * 0.5 + colour * 0.5
        large = Image.fromarray(coarse.astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
        grain = rng.integers(-8, 9, size=(size[1], size[0], 3))
        pixels = (np.asarray(large).astype(np.int16) + grain).clip(0, 255).astype(np.uint8)
        place = folder / f"hue{hue:02d}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place / f"{number:05d}.jpg", quality=90)
        rows.append(f"{place.name}/{number:05d}.jpg,{place.name}")
    folder.with_suffix(".csv").write_text("\n".join(rows) + "\n")
    return folder


def seconds(text: str) -> float:
    """Seconds of a duration as it is printed, such as ``3 min 05 s``."""
    return sum(float(number.replace(",", "")) * UNITS[unit] for number, unit in re.findall(r"([\d.,]+) (\w+)", text))


def training(arguments: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Seconds told by `train` before its first step, and those from then to its end."""
    process = subprocess.Popen(
        [*COMMAND, "train", *arguments], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    told, since, lines = 0.0, 0.0, list[str]()
    for line in process.stderr:
        lines.append(line)
        if not since and (found := re.search(f"expected to take {DURATION}", line)):
            told, since = seconds(found[1]), time.perf_counter()
    if process.wait() or not since:
        raise SystemExit("".join(lines[-20:]))
    return told, time.perf_counter() - since


def study(arguments: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Seconds told by `study --plan`, side by side where that is the default, and those of the study itself."""
    command = [*COMMAND, "study", *arguments]
    planned = subprocess.run([*command, "--plan"], env=environment, capture_output=True, text=True, check=False)
    printed = planned.stdout + planned.stderr
    found = re.search(f"about {DURATION}instead of", printed) or re.search(f"about {DURATION}on this machine", printed)
    if planned.returncode or found is None:
        raise SystemExit(printed[-3000:])
    since = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    return seconds(found[1]), time.perf_counter() - since


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=3.0, help="of each fitted run")
    parser.add_argument("--folder", type=Path, help="where images and runs lie; a temporary folder unless given")
    parser.add_argument("--only", default="", help="cases whose names contain this")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        environment = {**os.environ, "UNDERPAINT_CACHE": str(folder / "cache")}
        print("| case | told | taken | taken / told |\n|---|---|---|---|", flush=True)
        for name, arguments in cases(folder, options.minutes).items():
            if options.only in name:
                told, taken = (study if arguments[0] in ("transfer", "stages") else training)(arguments, environment)
                print(f"| {name} | {told:.0f} s | {taken:.0f} s | {taken / told:.2f} |", flush=True)


def cases(folder: Path, minutes: float) -> dict[str, list[str]]:
    """Arguments of each case; images are written where they are not there yet."""
    data = {"small": (3_000, (500, 375)), "large": (200, (3_000, 2_000))}
    for name, (count, size) in data.items():
        if not (folder / name).is_dir():
            write_images(folder / name, count=count, size=size)
    small, large, runs = str(folder / "small"), str(folder / "large"), folder / "runs"
    fitted = ["--minutes", str(minutes), "--out"]
    trained = [str(runs / "mae"), str(runs / "wsp")]
    return {
        "MAE, 500 x 375": ["mae", "--data", small, *fitted, trained[0]],
        "MAE, 3,000 x 2,000": ["mae", "--data", large, *fitted, str(runs / "mae_large")],
        "WSP, 500 x 375": ["wsp", f"data.tags={small}.csv", "--data", small, *fitted, trained[1]],
        "transfer, tiny": ["transfer", "--from", *trained, "--data", small, "--out", str(runs / "transfer")],
        "stages, tiny": ["stages", "--size", "tiny", "--out", str(runs / "stages")],
    }


if __name__ == "__main__":
    main()
