"""Videos of camera motions: pairs of time, the same bytes every time, held-out images, and what is refused."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from underpaint import files
from underpaint.cli.main import main
from underpaint.data.video.decoding import open_video
from underpaint.data.video.lists import read_video_list
from underpaint.preparation.motions import FRAMES, MOTIONS, make_motions, motion_frames

PAIRS = (("pan_left", "pan_right"), ("tilt_up", "tilt_down"), ("zoom_in", "zoom_out"), ("turn_left", "turn_right"))
RNG = np.random.default_rng(0)
PICTURE = np.asarray(Image.fromarray(RNG.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize((160, 120)))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve images, of which a table leaves six out of pretraining."""
    folder = tmp_path_factory.mktemp("images")
    rows = [("path", "class", "split")]
    for number in range(12):
        texture = RNG.integers(0, 256, size=(6, 8, 3), dtype=np.uint8)
        Image.fromarray(texture).resize((80, 60), Image.Resampling.BICUBIC).save(folder / f"{number:02d}.png")
        if number < 6:
            rows.append((f"{number:02d}.png", "ab"[number % 2], "test"))
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder


def test_motions_are_nine_and_all_but_one_have_a_reverse() -> None:
    assert set(MOTIONS) == {"still", *(name for pair in PAIRS for name in pair)}
    for one, other in PAIRS:
        forward, backward = (motion_frames(PICTURE, name, seed=5) for name in (one, other))
        for mine, theirs in zip(forward, reversed(backward), strict=True):
            assert np.abs(mine.astype(int) - theirs.astype(int)).max() <= 1
        assert np.abs(forward[0].astype(int) - forward[-1].astype(int)).mean() > 5
    still = motion_frames(PICTURE, "still", seed=5)
    assert len(still) == FRAMES
    assert all(np.array_equal(frame, still[0]) for frame in still)


@pytest.mark.parametrize(("motion", "axis", "sign"), [("pan_right", 1, -1), ("pan_left", 1, 1), ("tilt_down", 0, -1)])
def test_names_say_how_the_camera_moves(motion: str, axis: int, sign: int) -> None:
    """The bright spot in the middle of the image moves against the camera."""
    image = np.zeros((128, 128, 3), dtype=np.uint8)
    image[60:68, 60:68] = 255
    centres = []
    for frame in motion_frames(image, motion, seed=3):
        weight = frame[..., 0].astype(float)
        centres.append((weight.sum(axis=1 - axis) * np.arange(64)).sum() / weight.sum())
    steps = np.diff(centres)
    assert (sign * steps > 0).all()


@pytest.mark.slow
def test_videos_are_made_of_images_left_out_of_pretraining(images: Path, tmp_path: Path) -> None:
    source, labels = f"{images}/", str(images / "labels.csv")
    record = make_motions(source, tmp_path / "a", videos=4, labels=labels)
    assert record["videos"] == {"train": 36, "val": 9}
    assert files.read_json(tmp_path / "a" / "motions.json") == record
    for split, count in (("train", 4), ("val", 1)):
        rows = read_video_list(tmp_path / "a" / f"{split}.csv").rows
        assert sorted(row.label for row in rows) == sorted([*MOTIONS] * count)
        for row in rows:
            with open_video(tmp_path / "a" / row.path) as video:
                assert (video.frames, video.rate) == (16, 8.0)
    again = tmp_path / "b"
    make_motions(source, again, videos=4, labels=labels)
    for path in sorted(again.rglob("*.*")):
        assert path.read_bytes() == (tmp_path / "a" / path.relative_to(again)).read_bytes(), path


def test_what_cannot_be_made_is_refused(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refusal(*arguments: str) -> str:
        assert main(["prepare", *arguments]) == 2
        return capsys.readouterr().err

    out = str(tmp_path / "out")
    assert "--motions takes one source" in refusal(str(images), str(images), "--motions", "3", "--out", out)
    assert "--tags is not for videos of motions" in refusal(
        str(images), "--motions", "3", "--out", out, "--tags", "x.csv"
    )
    assert "must be 1 or more" in refusal(str(images), "--motions", "0", "--out", out)
    assert "is there already" in refusal(str(images), "--motions", "1", "--out", str(images))
