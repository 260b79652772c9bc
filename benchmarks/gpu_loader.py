"""Training fed by the real loader against training on noise, and how fast this machine's processor can decode.

JPEGs of about 110 kB (the mean of ImageNet's) are made on the spot: blurred noise with fine grain, 500 by 375 pixels.
"""

from __future__ import annotations

import io
import os
import random
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_steps import Case, batch_of, release, state_of, take_steps

from underpaint.core import on_device
from underpaint.data.dataset import ImageData
from underpaint.data.stream import Batching
from underpaint.training.devices import usable_cpus

WIDTH, HEIGHT, QUALITY, GRAIN = 500, 375, 92, 14.0
DECODED = 512
"""Images of one experiment with decoding on the GPU."""


def make_jpeg(number: int) -> bytes:
    from PIL import Image

    rng = np.random.default_rng(number)
    coarse = Image.fromarray(rng.integers(0, 256, size=(12, 16, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), dtype=np.float32)
    pixels = smooth + rng.normal(scale=GRAIN, size=(HEIGHT, WIDTH, 1)).astype(np.float32)
    file = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def make_images(folder: Path, *, distinct: int, names: int) -> float:
    """So many JPEGs under so many names (hard links); their mean size in bytes."""
    folder.mkdir(parents=True)
    with ProcessPoolExecutor(usable_cpus()) as pool:
        files = list(pool.map(make_jpeg, range(distinct), chunksize=8))
    for number, content in enumerate(files):
        (folder / f"{number:06d}.jpg").write_bytes(content)
    for number in range(distinct, names):
        os.link(folder / f"{number % distinct:06d}.jpg", folder / f"{number:06d}.jpg")
    return sum(map(len, files)) / distinct


def fed(device: str, *, seconds: float, dry: bool) -> dict[str, Any]:
    """MAE ViT-B: images per second of the loader alone, of training on noise, and of training fed by the loader."""
    case = Case(stage="mae", size="vit_smoke8" if dry else "vit_b16", microbatch=4 if dry else 256)
    case = case if dry else replace(case, variant="compiled")
    run, workers = case.run(), 0 if dry else usable_cpus()
    found: dict[str, Any] = {"workers": workers}
    release(device)
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary) / "images"
        found["bytes_per_image"] = make_images(root, distinct=8 if dry else 1024, names=64 if dry else 16_384)
        state = state_of(run, device)
        noise = iter(lambda: batch_of(run, device, case.microbatch), None)
        take_steps(state, noise, run, 2)
        found["noise"] = _rate(lambda steps: take_steps(state, noise, run, steps), run.budget.batch_size, seconds)
        for decoding in ("full", "scaled"):
            data = ImageData(source=str(root), scale=(0.2, 1.0), workers=workers, decoding=decoding)
            stream = data.open().stream(
                {"image": run.objective.inputs["image"]},
                Batching(batch_size=run.budget.batch_size, microbatch=case.microbatch),
                seed=0,
                quarantine=Path(temporary) / f"bad_{decoding}.jsonl",
            )
            batches = (on_device(batch, torch.device(device)) for batch in stream)
            found[f"fed, decoding={decoding}"] = _rate(
                lambda steps, batches=batches: take_steps(state, batches, run, steps), run.budget.batch_size, seconds
            )
            found[f"loader alone, decoding={decoding}"] = _rate(
                lambda steps, stream=batches: [next(stream) for _ in range(steps)], case.microbatch, seconds
            )
            batches.close()
        found["decoding on the GPU"] = gpu_decoding(root, device, dry=dry)
    return found


def _rate(more: Any, images: int, seconds: float) -> float:
    """Images per second of repeated work, after one that starts it; at least one repeat."""
    more(1)
    count, begin = 0, time.perf_counter()
    while not count or time.perf_counter() - begin < seconds:
        more(1)
        count += 1
    return count * images / (time.perf_counter() - begin)


def gpu_decoding(root: Path, device: str, *, dry: bool) -> dict[str, Any] | str:
    """Images per second that torchvision decodes on the GPU (nvJPEG), whole and without crops; or why not."""
    if device != "cuda":
        return "no GPU"
    from torchvision.io import ImageReadMode, decode_jpeg

    files = sorted(root.iterdir())[:DECODED]
    encoded = [torch.from_numpy(np.frombuffer(file.read_bytes(), dtype=np.uint8).copy()) for file in files]
    random.Random(0).shuffle(encoded)
    found: dict[str, Any] = {}
    for batch in (64, 256):
        try:
            decode_jpeg(encoded[:batch], mode=ImageReadMode.RGB, device=device)
            torch.cuda.synchronize()
            begin = time.perf_counter()
            for first in range(0, len(encoded), batch):
                decode_jpeg(encoded[first : first + batch], mode=ImageReadMode.RGB, device=device)
            torch.cuda.synchronize()
            found[f"batch {batch}"] = len(encoded) / (time.perf_counter() - begin)
        except RuntimeError as error:
            found[f"batch {batch}"] = str(error).strip()[:200]
    return found
