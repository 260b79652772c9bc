"""Videos of camera motions over still images: nine classes, of which eight are four pairs that time reversed exchanges.

The middle frame tells nothing of the class: the pose of the camera there is drawn alike, and every image is seen in all
nine. Frames in another order tell the kind of a motion (a pan, a zoom), but not its direction.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from underpaint import files, keyed_random
from underpaint.data.decode.image import EIGHT_BIT, decode
from underpaint.data.decode.limits import BadImage
from underpaint.data.open_source import open_source
from underpaint.data.source import Source
from underpaint.progress import Progress

FORMAT = 1
RECORD = "motions.json"
FRAMES, RATE = 16, 8
"""Frames of a video, and frames a second."""
SIDE = 64
"""Pixels of a frame's side."""
CANVAS = 128
"""Pixels of a side of the square that an image is resized to; beyond its border it is mirrored."""
TEST_SHARE = 0.3
"""Share of the families of images that the test videos are made of."""
SHIFT, ZOOM, TURN = 0.3, math.log(1.5), math.radians(30)
"""Largest motion from the middle of a video to its end: in widths of a frame, as logarithm of a factor, as an angle."""
SPEED = (0.5, 1.0)
"""Range of a motion's share of that."""


class Pose(NamedTuple):
    """View of the camera: the centre in widths of a frame, the logarithm of its zoom and its angle."""

    x: float
    y: float
    zoom: float
    angle: float

    def moved(self, direction: Pose, amount: float) -> Pose:
        return Pose(*(here + amount * step for here, step in zip(self, direction, strict=True)))


MOTIONS = {
    "still": Pose(0, 0, 0, 0),
    "pan_left": Pose(-SHIFT, 0, 0, 0),
    "pan_right": Pose(SHIFT, 0, 0, 0),
    "tilt_up": Pose(0, -SHIFT, 0, 0),
    "tilt_down": Pose(0, SHIFT, 0, 0),
    "zoom_in": Pose(0, 0, ZOOM, 0),
    "zoom_out": Pose(0, 0, -ZOOM, 0),
    "turn_left": Pose(0, 0, 0, -TURN),
    "turn_right": Pose(0, 0, 0, TURN),
}
"""The motion of the camera of each class, from the middle of the video to its end."""


def make_motions(images: str, out: str | Path, *, videos: int, labels: str = "") -> dict[str, object]:
    """Encode so many training videos of each class, and three tenths as many test videos, into a new folder.

    ``images`` is a collection or a folder, whose classes and splits may lie in the table ``labels``. Only those are
    used that no pretraining sees, and no family of them is in both lists. The folder has ``train.csv`` and ``val.csv``
    with ``path,class``, and ``motions.json``, whose content is returned.

    Raises:
        ValueError: if the images cannot be opened, fewer than two families are left out of pretraining, one image
            cannot be read, the folder is there already, or PyAV is not installed.
    """
    if videos < 1:
        raise ValueError(f"--motions {videos} must be 1 or more videos of each motion")
    out = Path(out)
    if out.exists():
        raise ValueError(f"{out} is there already; give a new folder, or delete it")
    source = open_source(images, labels=labels)
    train, test = _divided(source)
    counts = {"train": videos, "val": max(1, round(TEST_SHARE * videos))}
    with files.new_folder(out) as part, Progress("Videos", total=9 * sum(counts.values()), unit="videos") as shown:
        for split, rows in (("train", train), ("val", test)):
            lines = []
            for path, label in _encode(source, rows, part, split=split, count=counts[split]):
                lines.append(f"{path},{label}\n")
                shown.update(len(lines) + (9 * videos if split == "val" else 0))
            files.write_bytes(part / f"{split}.csv", "".join(lines).encode())
        record: dict[str, object] = {
            "format": FORMAT,
            "source": source.name,
            "content_hash": source.content_hash,
            "licence": source.licence,
            "attribution": source.attribution,
            "classes": list(MOTIONS),
            "videos": {split: 9 * count for split, count in counts.items()},
            "images": {"train": min(len(train), videos), "val": min(len(test), counts["val"])},
        }
        files.write_json(part / RECORD, record)
    return record


def motion_frames(
    image: UInt8[np.ndarray, "h w 3"], motion: str, *, seed: int
) -> list[UInt8[np.ndarray, "side side 3"]]:
    """The frames of one video; those of a motion and of its reverse with one seed are the same in reverse order."""
    u = [keyed_random.mix(seed, number) / 2**64 for number in range(5)]
    middle = Pose(*((2 * u[axis] - 1) * most for axis, most in enumerate((0.2, 0.2, ZOOM / 2, TURN))))
    speed = SPEED[0] + (SPEED[1] - SPEED[0]) * u[4]
    canvas = _canvas(image)
    times = [2 * number / (FRAMES - 1) - 1 for number in range(FRAMES)]
    return [_seen(canvas, middle.moved(MOTIONS[motion], speed * time)) for time in times]


def write_video(path: Path, frames: Sequence[UInt8[np.ndarray, "h w 3"]]) -> None:
    """Encode frames as H.264 in an mp4 file, by one thread: the bytes depend on FFmpeg's version alone."""
    try:
        import av
    except ImportError as error:
        raise ValueError("videos are written by PyAV: pip install '.[video]'") from error
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": "18", "threads": "1"})
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _divided(source: Source) -> tuple[list[int], list[int]]:
    """Rows for the training and for the test videos, each in an order of its own."""
    left_out = [row for row in range(len(source.path)) if source.splits[row] and "pretrain" not in source.splits[row]]
    families = sorted({source.family[row] for row in left_out}, key=lambda name: keyed_random.key("motions", name))
    if len(families) < 2:
        raise ValueError(
            f"'{source.name}' has {len(families)} families of images that are left out of pretraining, and --motions "
            f"needs two: give more images"
        )
    tested = set(families[: max(1, round(TEST_SHARE * len(families)))])
    place = {name: number for number, name in enumerate(families)}
    ordered = sorted(left_out, key=lambda row: (place[source.family[row]], source.path[row]))
    train = [row for row in ordered if source.family[row] not in tested]
    return train, [row for row in ordered if source.family[row] in tested]


def _encode(source: Source, rows: Sequence[int], folder: Path, *, split: str, count: int) -> Iterator[tuple[str, str]]:
    """Path and class of each video as it is written; the k-th of each class shows the k-th image."""
    (folder / split).mkdir()
    for number in range(count):
        path = source.path[rows[number % len(rows)]]
        try:
            decoded = decode(source.files.read(path), channels=3, value_range=EIGHT_BIT)
        except (BadImage, OSError) as error:
            raise ValueError(f"{path} of '{source.name}' cannot be read: {error}; remove it") from error
        image = decoded.permute(1, 2, 0).numpy()
        for motion in MOTIONS:
            name = f"{split}/{motion}_{number:04d}.mp4"
            seed = keyed_random.sample_seed(keyed_random.key("motions", split, motion), number)
            write_video(folder / name, motion_frames(image, motion, seed=seed))
            yield name, motion


def _canvas(image: UInt8[np.ndarray, "h w 3"]) -> Image.Image:
    """The middle square of the image, mirrored at its border as far as a camera sees."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = Image.fromarray(np.ascontiguousarray(image[top : top + side, left : left + side]))
    pixels = np.asarray(square.resize((CANVAS, CANVAS), Image.Resampling.BICUBIC))
    return Image.fromarray(np.pad(pixels, ((CANVAS // 2,) * 2, (CANVAS // 2,) * 2, (0, 0)), mode="symmetric"))


def _seen(canvas: Image.Image, pose: Pose) -> UInt8[np.ndarray, "side side 3"]:
    """The frame that a camera in this pose takes; it sees half of the canvas at no zoom."""
    scale = CANVAS / 2 / SIDE / math.exp(pose.zoom)
    cosine, sine = scale * math.cos(pose.angle), scale * math.sin(pose.angle)
    centre = [canvas.width / 2 + offset * CANVAS / 2 for offset in (pose.x, pose.y)]
    half = SIDE / 2
    matrix = (
        *(cosine, -sine, centre[0] - half * (cosine - sine)),
        *(sine, cosine, centre[1] - half * (sine + cosine)),
    )
    frame = canvas.transform((SIDE, SIDE), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)
    return np.array(frame)
