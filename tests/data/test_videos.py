"""Frames of videos, by number and from hostile files; the clips that sampling asks for; lists of videos."""

from __future__ import annotations

import json
import wave
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from support.video_examples import COUNTER, counter_frame, counter_video, read_counters, write_video
from underpaint.core import ClipInput, ImageInput
from underpaint.data.decode.limits import BadImage
from underpaint.data.video import decoding
from underpaint.data.video.clips import evaluation_clips
from underpaint.data.video.decoding import open_video
from underpaint.data.video.lists import read_video_list
from underpaint.data.video.sampling import crop_of, evaluation_frames, training_frames

SHORT = min(COUNTER)


def numbers_in(path: Path, numbers: list[int]) -> list[int]:
    with open_video(path) as video:
        return read_counters(video.read(numbers, short_side=SHORT))


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi"])
def test_frames_are_those_of_the_counter(tmp_path: Path, suffix: str) -> None:
    """All frames of a file with frames that depend on later ones, and some of them."""
    path = counter_video(tmp_path / f"counter.{suffix}", 40, codec="mpeg4" if suffix == "avi" else "libx264")
    with open_video(path) as video:
        assert video.frames == 40
    assert numbers_in(path, list(range(40))) == list(range(40))
    assert numbers_in(path, [3, 3, 17, 39, 39]) == [3, 3, 17, 39, 39]


@pytest.mark.parametrize("gop", [7, 1000])
def test_seeking_finds_the_frames_that_decoding_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gop: int
) -> None:
    path = counter_video(tmp_path / "counter.mp4", 300, gop=gop)
    wanted = [0, 1, 60, 99, 100, 101, 200, 299]
    assert numbers_in(path, wanted) == wanted
    monkeypatch.setattr(decoding, "SEEK_AHEAD", 0.5)
    assert numbers_in(path, wanted) == wanted
    assert numbers_in(path, [250]) == [250]


def test_a_seek_decodes_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound on work would refuse a decoder that runs through the whole file."""
    path = counter_video(tmp_path / "counter.mp4", 400, gop=10)
    monkeypatch.setattr(decoding, "SEEK_AHEAD", 2.0)
    monkeypatch.setattr(decoding, "MAX_DECODED_PIXELS", 90 * COUNTER[0] * COUNTER[1])
    assert numbers_in(path, [0, 150, 399]) == [0, 150, 399]
    monkeypatch.setattr(decoding, "SEEK_AHEAD", 1000.0)
    with pytest.raises(BadImage, match="key frames lie so far apart"):
        numbers_in(path, [0, 150, 399])


def test_ten_hours_are_sampled_by_seeking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame a minute; less than half of them are decoded for sixteen of the whole video."""
    path = write_video(
        tmp_path / "long.mp4", map(counter_frame, range(600)), times=[600 * number for number in range(600)], gop=10
    )
    monkeypatch.setattr(decoding, "MAX_DECODED_PIXELS", 280 * COUNTER[0] * COUNTER[1])
    with open_video(path) as video:
        assert video.seconds == pytest.approx(36_000, rel=0.01)
        wanted = evaluation_frames(form(frames=16, sampling="uniform"), video.frames, clip=0, clips=1)
        shown = read_counters(video.read(wanted, short_side=SHORT))
    assert max(abs(mine - theirs) for mine, theirs in zip(shown, wanted, strict=True)) <= 1


def test_a_variable_rate_is_read_by_time(tmp_path: Path) -> None:
    """Frame 2 stays for seven tenths of a second: so does it in the numbers at the mean rate."""
    times = [0, 1, 2, 9, 10, 11, 12, 13]
    path = write_video(tmp_path / "pause.mkv", map(counter_frame, range(8)), times=times)
    with open_video(path) as video:
        centres = [(number + 0.5) / video.rate for number in range(video.frames)]
    shown = [max(place for place, time in enumerate(times) if time / 10 <= centre) for centre in centres]
    assert numbers_in(path, list(range(len(centres)))) == shown
    assert shown.count(2) > 1


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_a_rotated_video_is_turned(tmp_path: Path, rotation: int) -> None:
    """The upper left quarter is white in the file; the matrix says how it is to be turned, counter-clockwise."""
    pixels = np.zeros((32, 64, 3), dtype=np.uint8)
    pixels[:16, :32] = 255
    path = write_video(tmp_path / "turned.mp4", [pixels] * 4, rotation=rotation)
    with open_video(path) as video:
        frame = video.read([1], short_side=64)[0].float().mean(dim=0)
    expected = torch.from_numpy(np.rot90(pixels[..., 0], rotation // 90).copy()).float()
    assert frame.shape == expected.shape
    assert (frame - expected).abs().mean() < 10


@pytest.mark.slow
def test_large_frames_are_shrunk(tmp_path: Path) -> None:
    """An 8K video: two frames, kept at 64 pixels."""
    pixels = np.zeros((4320, 7680, 3), dtype=np.uint8)
    pixels[:, 3840:] = 200
    path = write_video(tmp_path / "8k.mp4", [pixels, pixels], options={"preset": "ultrafast", "crf": "40"})
    with open_video(path) as video:
        frames = video.read([0, 1], short_side=64)
    assert frames.shape == (2, 3, 64, 114)
    assert frames[..., :50].float().mean() < 10 < 190 < frames[..., 64:].float().mean()


def hostile(folder: Path) -> dict[str, Path]:
    """Files that are not usable videos, by what is wrong."""
    whole = counter_video(folder / "whole.mp4", 100, options={"crf": "18", "movflags": "faststart"}).read_bytes()
    cut = folder / "cut.mkv"
    cut.write_bytes(counter_video(folder / "whole.mkv", 100).read_bytes()[:3000])
    files = {"empty.mp4": b"", "truncated.mp4": whole[: len(whole) // 2], "text.mp4": b"not a video" * 100}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    with wave.open(str(folder / "sound.wav"), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(8000))
    (folder / "list.m3u8").write_text(f"#EXTM3U\n#EXTINF:10,\nfile://{folder / 'whole.mp4'}\n#EXT-X-ENDLIST\n")
    (folder / "script.mp4").write_text(f"ffconcat version 1.0\nfile {folder / 'whole.mp4'}\n")
    return {
        path.name: path for path in [*map(folder.joinpath, files), cut, *folder.glob("*.wav"), *folder.glob("[ls]*.m*")]
    }


def test_hostile_files_are_bad_and_nothing_else(tmp_path: Path) -> None:
    files = hostile(tmp_path) | {"missing": tmp_path / "missing.mp4"}
    assert len(files) == 8
    for path in files.values():
        with pytest.raises(BadImage, match=r"cannot be decoded|has no video|it ends after|none of its frames"):
            first_and_last(path)


def first_and_last(path: Path) -> None:
    with open_video(path) as video:
        video.read([0, video.frames - 1], short_side=SHORT)


def test_an_audio_file_says_so(tmp_path: Path) -> None:
    path = tmp_path / "audio.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.int16), format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 8000, 0, Fraction(1, 8000)
        container.mux(stream.encode(frame))
    with pytest.raises(BadImage, match="it has no video"), open_video(path):
        pass


def test_a_header_with_impossible_sizes_is_refused(tmp_path: Path) -> None:
    """A few bytes of the header say 65,504 pixels; nothing of that size may be allocated."""
    content = bytearray(counter_video(tmp_path / "a.mkv", 4, codec="mpeg4").read_bytes())
    place = content.index(b"\xb0\x81\xc0")  # the track's width of 192 in Matroska
    content[place : place + 3] = b"\xb0\x82\xff"  # 2 bytes: the height's id is swallowed as well
    (tmp_path / "b.mkv").write_bytes(content)
    with pytest.raises(BadImage), open_video(tmp_path / "b.mkv") as video:
        video.read([0], short_side=SHORT)
    with pytest.raises(BadImage, match="one side is more than 16 times"):
        decoding.require_frame_size(1700, 100)
    with pytest.raises(BadImage, match="outside the limit"):
        decoding.require_frame_size(65_504, 65_504)


def form(frames: int = 4, stride: int = 3, sampling: str = "dense") -> ClipInput:
    image = ImageInput(size=(16, 16), channels=3, value_range=(0.0, 255.0), mean=(0.5,) * 3, std=(0.5,) * 3)
    return ClipInput(image=image, frames=frames, sampling=sampling, stride=stride)  # pyright: ignore[reportArgumentType]


def test_dense_clips_have_a_distance_and_lie_from_the_first_frame_to_the_last() -> None:
    starts = set()
    for seed in range(2000):
        numbers = training_frames(form(), 30, seed=seed)
        assert np.diff(numbers).tolist() == [3, 3, 3]
        starts.add(numbers[0])
    assert starts == set(range(21))  # the last is 20, 23, 26, 29
    first, middle, last = (evaluation_frames(form(), 30, clip=clip, clips=3) for clip in range(3))
    assert (first[0], middle[0], last[-1]) == (0, 10, 29)
    assert evaluation_frames(form(), 30, clip=0, clips=1)[0] == 10
    assert evaluation_frames(form(), 5, clip=0, clips=1) == [0, 3, 4, 4]


def test_uniform_clips_have_a_frame_of_each_part() -> None:
    drawn = np.array([training_frames(form(sampling="uniform"), 40, seed=seed) for seed in range(1000)])
    for part in range(4):
        assert set(drawn[:, part]) == set(range(10 * part, 10 * part + 10))
    assert evaluation_frames(form(sampling="uniform"), 40, clip=0, clips=1) == [5, 15, 25, 35]
    assert evaluation_frames(form(sampling="uniform"), 40, clip=1, clips=2) == [7, 17, 27, 37]
    assert evaluation_frames(form(sampling="uniform"), 2, clip=0, clips=1) == [0, 0, 1, 1]


def test_crops_lie_along_the_longer_side() -> None:
    frames = torch.arange(48, dtype=torch.uint8).mul(5).expand(2, 3, 16, 48)
    left, middle, right = (crop_of(frames, (16, 16), crop=crop, crops=3) for crop in range(3))
    for crop, start in ((left, 0), (middle, 16), (right, 32)):
        torch.testing.assert_close(crop, frames[..., start : start + 16].float() / 255)
    torch.testing.assert_close(crop_of(frames, (16, 16), crop=0, crops=1), middle)
    tall = crop_of(frames.transpose(2, 3), (16, 16), crop=2, crops=3)
    torch.testing.assert_close(tall, right.transpose(2, 3))


def test_views_of_a_video_are_its_clips_and_crops(tmp_path: Path) -> None:
    path = counter_video(tmp_path / "counter.mp4", 40)
    image = replace(form().image, size=COUNTER)
    wide = ClipInput(image=image, frames=3, sampling="dense", stride=2)
    views = evaluation_clips(path, wide, clips=[(0, 2), (1, 2)], crops=1)
    assert [read_counters(crops[0]) for crops in views] == [[0, 2, 4], [35, 37, 39]]


def test_lists_in_the_forms_of_kinetics_and_something(tmp_path: Path) -> None:
    forms = {
        "slowfast.csv": "a/x.mp4 3\nb y.mp4 12\n",
        "names.csv": 'x.mp4,playing, loudly\n"y, z.mp4",dancing\n',
        "k400.csv": "label,youtube_id,time_start,time_end,split\nabseiling,-xyz,12,22,train\n",
        "ssv2.json": json.dumps([{"id": "42", "label": "holding a cup", "template": "Holding [something]"}]),
    }
    rows = {}
    for name, text in forms.items():
        (tmp_path / name).write_text(text)
        rows[name] = [tuple(row) for row in read_video_list(tmp_path / name).rows]
    assert rows["slowfast.csv"] == [("a/x.mp4", "3"), ("b y.mp4", "12")]
    assert rows["names.csv"] == [("x.mp4", "playing, loudly"), ("y, z.mp4", "dancing")]
    assert rows["k400.csv"] == [("-xyz_000012_000022", "abseiling")]
    assert rows["ssv2.json"] == [("42", "Holding something")]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "", "is empty"),
        ("a.json", "[]", "lists no video"),
        ("a.csv", "x.mp4\n", "line 1: 'x.mp4' is not a path and a class"),
        ("a.csv", "x.mp4,a\nx.mp4,b\n", "names x.mp4 twice"),
        ("a.csv", "label,youtube_id,time_start\n", "no column time_end"),
        ("a.csv", "label,youtube_id,time_start,time_end\na,b,nan,3\n", "line 2: .* not whole seconds"),
        ("a.json", "{}", "holds no list"),
        ("a.json", '[{"id": "3"}]', "element 0: '3' is not a path and a class"),
        ("a.json", '[{"template": "x"}]', "element 0: .* has no id"),
    ],
)
def test_bad_lists_are_refused_with_the_place(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_video_list(tmp_path / name)
