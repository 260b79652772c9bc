"""Small videos made by PyAV: counters whose pixels say the number of each frame, and squares that move."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from torch import Tensor

from underpaint.data.video.dataset import VideoData
from underpaint.models.video import ClipConfig
from underpaint.models.vit import ViTConfig
from underpaint.objectives.classify_clips import ClassifyClipsConfig
from underpaint.run import Budget, Cadence, Run
from underpaint.training.optim import OptimConfig

BITS = 12
CELL = 16
"""Side in pixels of the cell that shows one bit of a frame's number."""
COUNTER = (32, BITS * CELL)
"""Height and width."""


def write_video(
    path: Path,
    frames: Iterable[np.ndarray],
    *,
    rate: int = 10,
    times: Sequence[int] | None = None,
    gop: int = 12,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    rotation: int = 0,
) -> Path:
    """Encode RGB frames; ``times`` are those of each in units of 1 / rate, for a variable rate."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options or {"crf": "18"})
        assert isinstance(stream, VideoStream)
        for number, pixels in enumerate(frames):
            if number == 0:
                stream.height, stream.width = pixels.shape[:2]
                stream.pix_fmt = "yuv420p"
                stream.gop_size = gop
                if rotation:
                    stream.set_display_rotation(rotation)
            frame = VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts = times[number] if times is not None else number
            frame.time_base = Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def counter_frame(number: int) -> np.ndarray:
    """A frame whose cells are the bits of its number, black or white, the lowest on the left."""
    bits = [255 * (number >> bit & 1) for bit in range(BITS)]
    return np.kron(np.array(bits, dtype=np.uint8), np.ones((COUNTER[0], CELL), dtype=np.uint8))[..., None].repeat(3, 2)


def read_counters(frames: Tensor) -> list[int]:
    """The numbers that frames (t, c, h, w) of the size COUNTER show."""
    assert tuple(frames.shape[2:]) == COUNTER, frames.shape
    cells = frames.float().mean(dim=1).unflatten(2, (BITS, CELL)).mean(dim=(1, 3)) > 127
    return (cells.long() << torch.arange(BITS)).sum(dim=1).tolist()


def counter_video(path: Path, count: int, **how: object) -> Path:
    return write_video(path, map(counter_frame, range(count)), **how)  # pyright: ignore[reportArgumentType]


SIDE = 32
STEPS = {"left": -2, "right": 2}
ENCODER = ViTConfig(size=(16, 16), patch=8, width=16, depth=2, heads=2, positions="sincos_trained")
BATCH = 4


def moving_square(rng: np.random.Generator, step: int, count: int = 8) -> list[np.ndarray]:
    """A square on noise that moves by so many pixels a frame."""
    ground = rng.integers(0, 80, size=(SIDE, SIDE, 3), dtype=np.uint8)
    frames = []
    left, top = (2 if step > 0 else SIDE - 12), int(rng.integers(4, 18))
    for number in range(count):
        frame = ground.copy()
        frame[top : top + 10, left + step * number : left + step * number + 10] = 230
        frames.append(frame)
    return frames


def make_videos(folder: Path, count: int = 12) -> Path:
    """``train.csv`` and ``val.csv`` (path,label) of squares that move to the left and to the right."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for name, number in (("train", count), ("val", 4)):
        lines = []
        for index in range(number):
            label = list(STEPS)[index % 2]
            file = f"{name}_{index}.mp4"
            write_video(folder / file, moving_square(rng, STEPS[label]), gop=4)
            lines.append(f"{file},{label}")
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    return folder


def video_run(folder: Path, *, steps: int = 6) -> Run:
    return Run(
        name="video_test",
        objective=ClassifyClipsConfig(
            encoder=replace(ENCODER, final_norm=False),
            clip=ClipConfig(frames=4, stride=2),
            stage="finetune",
            pooling="mean",
            drop_path=0.1,
            dropout=0.2,
            label_smoothing=0.1,
            head_init_std=0.02,
            init="mae",
        ),
        data=VideoData(
            annotations=str(folder / "train.csv"),
            heldout_annotations=str(folder / "val.csv"),
            scale=(0.5, 1.0),
            flip=False,
        ),
        budget=Budget(samples=steps * BATCH, batch_size=BATCH, microbatch=BATCH // 2),
        optim=OptimConfig(base_lr=0.1, betas=(0.9, 0.999), layer_decay=0.8, decay_tokens=False, clip=1.0),
        cadence=Cadence(log=BATCH, save=2 * BATCH, keep=10**6, evaluate=3 * BATCH),
        threads=1,
        device="cpu",
    )
