"""Frames of a video by number, decoded by FFmpeg through PyAV, within bounds of work and of memory.

Frame k of a video with the mean rate r is the one on the screen at the time (k + 1/2) / r: at a constant rate the k-th
frame of the file. Distant frames are reached by seeking, so the cost of a clip does not grow with the video. FFmpeg is
kept from other files and from the network, which playlists name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from underpaint.data.decode.limits import BadImage

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg"
"""Formats of files that hold videos; playlists, scripts and devices are not among them."""
MAX_FRAME_PIXELS = 40_000_000
"""Largest product of a frame's height and width, somewhat above 8K: a decoder keeps up to 17 frames."""
MAX_ASPECT = 16
"""Largest ratio of a frame's sides."""
MAX_DECODED_PIXELS = 20_000_000_000
"""Pixels that may be decoded to reach the frames of one clip: 9,600 frames of 1920 x 1080, 600 of 8K."""
SEEK_AHEAD = 10.0
"""Seconds to the next wanted frame from which the decoder seeks instead of decoding on."""
RETREATS = (0.0, 1.0, 10.0)
"""Seconds before the wanted time to seek to, tried until a frame before it comes; then decoding starts at the front."""
MISSING_SECONDS, MISSING_SHARE = 1.0, 0.1
"""A video that ends so much earlier than its header says shows its last frame on; with more missing it is bad."""


class Video:
    """An open video; made by ``open_video``."""

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        from av.video.reformatter import VideoReformatter

        self.container = container
        self.stream = stream
        self.reformatter = VideoReformatter()
        """One for all frames: that of ``VideoFrame.reformat`` is made for each, with threads of its own."""
        require_frame_size(stream.codec_context.width, stream.codec_context.height)
        self.rate = _mean_rate(stream)
        self.start = stream.start_time or 0
        """Time of the first frame in units of the stream."""
        assert stream.time_base is not None
        self.unit: Fraction = stream.time_base
        self.seconds = self._duration()
        self.frames = max(1, round(self.seconds * self.rate))
        """Number of frames at the mean rate."""

    def read(self, numbers: Sequence[int], *, short_side: int) -> UInt8[Tensor, "t c h w"]:
        """The frames of these ascending numbers in RGB, shrunk to ``short_side`` where theirs is longer.

        Raises:
            BadImage: if one cannot be decoded, or too much would have to be decoded for it.
        """
        assert all(0 <= number < self.frames for number in numbers), (numbers, self.frames)
        assert list(numbers) == sorted(numbers), numbers
        cursor = _Cursor(self)
        wanted: list[UInt8[Tensor, "c h w"]] = []
        for place, number in enumerate(numbers):
            if place and number == numbers[place - 1]:
                wanted.append(wanted[-1])
            else:
                wanted.append(self._in_rgb(cursor.at((number + 0.5) / self.rate), short_side))
        if any(frame.shape != wanted[0].shape for frame in wanted):
            raise BadImage("its frames change their size")
        return torch.stack(wanted)

    def _in_rgb(self, frame: VideoFrame, short_side: int) -> UInt8[Tensor, "c h w"]:
        """The frame as it is shown, turned by the rotation that a phone wrote beside it."""
        factor = max(1.0, min(frame.width, frame.height) / short_side)
        size = {"width": max(1, round(frame.width / factor)), "height": max(1, round(frame.height / factor))}
        rgb = self.reformatter.reformat(frame, **size, format="rgb24", interpolation="AREA", threads=1)
        turns = round(frame.rotation / 90) % 4  # counter-clockwise
        return torch.from_numpy(np.ascontiguousarray(np.rot90(rgb.to_ndarray(), turns))).permute(2, 0, 1)

    def _duration(self) -> float:
        """Seconds of the video as its header says, or as its packets do where it says nothing."""
        if self.stream.duration:
            return float(self.stream.duration * self.unit)
        if self.container.duration:
            return self.container.duration / 1_000_000
        last = 0
        for packet in self.container.demux(self.stream):
            last = max(last, (packet.pts or 0) + (packet.duration or 0) - self.start)
        if not last:
            raise BadImage("it has no frames")
        return float(last * self.unit)


class _Cursor:
    """The frame on the screen at ascending times; counts what is decoded."""

    def __init__(self, video: Video) -> None:
        self.video = video
        self.decoded = 0
        """Pixels so far."""
        self.shown: VideoFrame | None = None
        self.next: VideoFrame | None = None
        self.coming: Iterator[VideoFrame] = iter(())

    def at(self, seconds: float) -> VideoFrame:
        if self.shown is None or seconds - self._time(self.shown) > SEEK_AHEAD:
            self._seek(seconds)
        while self.next is not None and self._time(self.next) <= seconds:
            self._advance()
        assert self.shown is not None
        if self.next is None:
            end = self._time(self.shown) + 1 / self.video.rate
            if seconds - end > max(MISSING_SECONDS, MISSING_SHARE * self.video.seconds):
                raise BadImage(f"it ends after {end:.1f} of {self.video.seconds:.1f} seconds")
        return self.shown

    def _seek(self, seconds: float) -> None:
        """Stand at a frame at or before the time."""
        if seconds > SEEK_AHEAD:
            for retreat in RETREATS:
                self._stand_at(max(0.0, seconds - retreat))
                if self.shown is not None and self._time(self.shown) <= seconds:
                    return
        self._stand_at(0.0)
        if self.shown is None:
            raise BadImage("none of its frames can be decoded")

    def _stand_at(self, seconds: float) -> None:
        video = self.video
        video.container.seek(video.start + int(seconds / video.unit), stream=video.stream, backward=True)
        self.coming = video.container.decode(video.stream)
        self.next = None
        self._advance()
        self._advance()

    def _advance(self) -> None:
        self.shown, self.next = self.next, next(self.coming, None)
        if self.next is None:
            return
        require_frame_size(self.next.width, self.next.height)
        self.decoded += self.next.width * self.next.height
        if self.decoded > MAX_DECODED_PIXELS:
            raise BadImage("its key frames lie so far apart that more than 20,000 million pixels would be decoded")

    def _time(self, frame: VideoFrame) -> float:
        """Seconds since the first frame."""
        if frame.pts is None:
            raise BadImage("its frames have no times")
        return float((frame.pts - self.video.start) * self.video.unit)


@contextmanager
def open_video(path: Path) -> Iterator[Video]:
    """The video in a file, of which nothing is decoded yet; what goes wrong with it inside is a BadImage.

    Raises:
        BadImage: if it is not a video, or larger than the limits.
        ValueError: if PyAV is not installed.
    """
    try:
        import av
        from av.error import FFmpegError
    except ImportError as error:
        raise ValueError("videos are read by PyAV: pip install '.[video]'") from error
    options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}
    try:
        with av.open(f"file:{path.resolve()}", options=options) as container:
            yield Video(container, _picture_stream(container))
    except (FFmpegError, OSError, EOFError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BadImage(f"cannot be decoded: {reason}") from error


def _picture_stream(container: InputContainer) -> VideoStream:
    """The first stream of frames that is not the picture of a song's cover."""
    from av.stream import Disposition

    streams = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not streams:
        raise BadImage("it has no video")
    context = streams[0].codec_context
    if context is None:
        raise BadImage("its codec is not known")
    context.thread_count = 1  # processes decode side by side, and each thread would keep frames of its own
    context.options = {"max_pixels": str(MAX_FRAME_PIXELS)}
    return streams[0]


def _mean_rate(stream: VideoStream) -> float:
    rate = stream.average_rate or stream.guessed_rate
    if not rate or not 0.01 <= rate <= 1000:
        raise BadImage(f"its rate of {rate or 0} frames a second lies outside of 0.01 to 1,000")
    return float(rate)


def require_frame_size(width: int, height: int) -> None:
    """Raise BadImage for frames outside of the limits; called before they are decoded."""
    if not 1 <= width * height <= MAX_FRAME_PIXELS:
        raise BadImage(f"{width} x {height} pixels a frame are outside the limit of 1 to {MAX_FRAME_PIXELS}")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise BadImage(f"{width} x {height} pixels a frame: one side is more than {MAX_ASPECT} times the other")
