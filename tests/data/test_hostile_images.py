"""Images that somebody else made, broken or meant to harm: each is read as it should be or refused with a reason.

Each goes through ``decode``, as in training, through ``look_at``, as in preparing, and through ``embedded_tags``; the
three must agree on what is an image, in little time and memory.
"""

from __future__ import annotations

import random
import struct
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from support.image_copies import photograph
from support.image_files import encoded, png_chunk
from underpaint.core import ImageInput
from underpaint.data.decode.embedded_tags import embedded_tags
from underpaint.data.decode.image import decode
from underpaint.data.decode.limits import MAX_PIXELS, MAX_SIDE, BadImage
from underpaint.data.folders.folder import open_folder
from underpaint.data.loader import read_images
from underpaint.data.near_duplicates.fingerprints import fingerprint

EIGHT = (0.0, 255.0)
EMBEDDED = Path(__file__).parent / "embedded"


def png_header(width: int, height: int, *chunks: bytes) -> bytes:
    """A grey PNG that promises so many pixels and holds a few."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    end = png_chunk(b"IDAT", zlib.compress(bytes(100))) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + b"".join(chunks) + end


def gif_header(width: int, height: int) -> bytes:
    data = bytearray(encoded(Image.new("P", (4, 4)), "GIF"))
    place = data.index(b",\0\0\0\0") + 5
    data[6:10] = data[place : place + 4] = struct.pack("<HH", width, height)
    return bytes(data)


def jpeg_header(width: int, height: int) -> bytes:
    data = bytearray(encoded(Image.new("RGB", (4, 4)), "JPEG"))
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def webp_header(width: int, height: int) -> bytes:
    """Animated: the canvas is of the size that the file says, whatever that of its frames."""
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime")]
    data = bytearray(encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:]))
    data[24:30] = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return bytes(data)


def bmp_header(width: int, height: int) -> bytes:
    data = bytearray(encoded(Image.new("RGB", (4, 4)), "BMP"))
    data[18:26] = struct.pack("<ii", width, height)
    return bytes(data)


def tiff_header(width: int, height: int) -> bytes:
    data = bytearray(encoded(Image.new("L", (4, 4)), "TIFF"))
    for code, value in ((256, width), (257, height)):
        place = data.index(
            struct.pack("<HH", code, 4) if struct.pack("<HH", code, 4) in data else struct.pack("<HH", code, 3)
        )
        data[place + 2 : place + 12] = struct.pack("<HII", 4, 1, value)
    return bytes(data)


REFUSED: dict[str, tuple[bytes, str]] = {
    "PNG bomb": (png_header(20_000, 20_000), "limit"),
    "GIF bomb": (gif_header(65_535, 65_535), "limit"),
    "JPEG bomb": (jpeg_header(65_500, 65_500), "limit"),
    "WebP bomb": (webp_header(16_383, 10_000), "limit"),
    "larger WebP bomb": (webp_header(16_383, 16_383), ""),
    "BMP bomb": (bmp_header(30_000, 30_000), "limit"),
    "TIFF bomb": (tiff_header(400_000, 400_000), "limit"),
    "PPM bomb": (b"P6 30000 30000 255\n", "limit"),
    "negative size": (bmp_header(-40_000, 40_000), ""),
    "1 x 100,000": (png_header(1, 100_000), "longer than"),
    "100,000 x 1": (encoded(Image.new("1", (100_000, 1)), "PNG"), "longer than"),
    "1 x 1": (encoded(Image.new("RGB", (1, 1)), "GIF"), "limit"),
    "zero bytes": (b"", "empty"),
    "half a HEIC": ((EMBEDDED / "phone.heic").read_bytes()[:300], ""),
    "AVIF without a picture": (b"\0\0\0 ftypavif\0\0\0\0avifmif1miaf", ""),
    "SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "known format"),
    "PDF": (b"%PDF-1.7\n", "known format"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n", "known format"),
    "Windows icon": (encoded(Image.new("RGB", (16, 16)), "ICO"), "known format"),
    "web page": (b"<!doctype html><title>403</title>", "known format"),
    "packed text bomb": (png_header(8, 8, png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(100_000_000)))), ""),
}


@pytest.mark.parametrize("name", REFUSED)
def test_is_refused_in_little_time_and_memory(name: str) -> None:
    data, reason = REFUSED[name]
    assert len(data) < 200_000
    start = time.process_time()
    with little_memory(), pytest.raises(BadImage, match=reason or None):
        decode(data, channels=3, value_range=EIGHT)
    assert time.process_time() - start < 2
    looks = fingerprint([data])
    assert looks.problems[0]
    assert looks.hashes() == [None]
    assert embedded_tags(data).tags == ()


@contextmanager
def little_memory() -> Iterator[None]:
    """The most memory that is held inside the block, by the kernel's count, is hardly more than before."""
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak
    before = peak()
    yield
    assert peak() - before < 64


def peak() -> int:
    """MiB."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) // 1024


def test_the_largest_and_the_longest_are_read() -> None:
    largest = encoded(Image.new("1", (10_000, MAX_PIXELS // 10_000)), "PNG")
    assert decode(largest, channels=1, value_range=EIGHT).shape == (1, MAX_PIXELS // 10_000, 10_000)
    for width, height in ((MAX_SIDE, 1), (1, MAX_SIDE), (2, 1)):
        data = encoded(Image.new("1", (width, height), 1), "PNG")
        assert decode(data, channels=3, value_range=EIGHT).shape == (3, height, width)
        assert fingerprint([data]).problems == ("",)


def test_inverted_cmyk_of_photoshop_is_read_as_pillow_does() -> None:
    """Print files: four channels, stored inverted with Adobe's marker; the colours stay near those of the original."""
    original = photograph(0)
    data = encoded(original.convert("CMYK"), "JPEG", quality=95)
    assert b"Adobe" in data
    found = decode(data, channels=3, value_range=EIGHT).permute(1, 2, 0).numpy().astype(int)
    assert np.abs(found - np.asarray(original, dtype=int)).mean() < 3
    assert near(data, encoded(original, "PNG"))


def near(one: bytes, other: bytes) -> bool:
    first, second = fingerprint([one, other]).hashes()
    assert first is not None
    assert second is not None
    return (first ^ second).bit_count() <= 2


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_picture_counts(kind: str) -> None:
    frames = [photograph(seed) for seed in range(3)]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    assert near(data, encoded(frames[0], "PNG"))
    assert not near(data, encoded(frames[1], "PNG"))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photograph_has_the_hash_of_the_upright_one(orientation: int) -> None:
    """Large enough to be decoded at a reduced size, where the orientation has to be kept."""
    turn = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # EXIF to Pillow's transpositions, the inverse ones
    upright = photograph(1).resize((600, 400), Image.Resampling.BICUBIC)
    stored = upright.transpose(Image.Transpose(turn[orientation])) if orientation in turn else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(stored, "JPEG", exif=exif, quality=92)
    assert near(data, encoded(upright, "PNG"))
    looks = fingerprint([data])
    assert looks.views.ratio[0].tolist() == pytest.approx([1.5, 1.5], rel=0.02)


def test_broken_exif_costs_no_image() -> None:
    """As cameras and editors leave it: cut off, of a wrong type, pointing nowhere."""
    exif = Image.Exif()
    exif[0x0112] = 6
    good = encoded(photograph(2), "JPEG", exif=exif)
    place = good.index(b"Exif\0\0") + 6
    chance = random.Random(0)
    for _ in range(100):
        data = bytearray(good)
        for _ in range(3):
            data[place + chance.randrange(24)] = chance.randrange(256)
        assert decode(bytes(data), channels=3, value_range=EIGHT).shape[0] == 3


def test_the_extension_does_not_count(tmp_path: Path) -> None:
    """Read is what the bytes are; a page of the server under the name of an image is one bad record of its folder."""
    picture = photograph(4)
    (tmp_path / "a.jpg").write_bytes(encoded(picture, "PNG"))
    (tmp_path / "b.png").write_bytes(encoded(picture, "WEBP", lossless=True))
    (tmp_path / "c.gif").write_bytes(encoded(picture, "BMP"))
    (tmp_path / "d.jpg").write_bytes(b"<!doctype html><title>403</title>")
    (tmp_path / "e.jpg").write_bytes(encoded(picture, "AVIF", quality=100, subsampling="4:4:4"))
    source = open_folder(tmp_path, tags="", labels="")
    plain = ImageInput(size=(16, 16), channels=3, value_range=EIGHT, mean=(0.0,) * 3, std=(1.0,) * 3)
    image, weight = read_images(source, range(5), format=plain)
    assert weight.tolist() == [1, 1, 1, 0, 1]
    assert torch.equal(image[0], image[1])
    assert torch.equal(image[0], image[2])


def why_refused(data: bytes) -> str:
    try:
        decode(data, channels=3, value_range=EIGHT)
    except BadImage as error:
        return str(error)
    return ""


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF"])
def test_looks_agree_with_decoding_on_damaged_files(kind: str) -> None:
    """A file cut off or changed is an image for both or for neither."""
    whole = encoded(photograph(5), kind)
    chance = random.Random(kind)
    refused = 0
    for _ in range(60):
        data = bytearray(whole[: chance.randint(1, len(whole))])
        data[chance.randrange(len(data))] = chance.randrange(256)
        problem = why_refused(bytes(data))
        assert fingerprint([bytes(data)]).problems == (problem,)
        refused += problem != ""
    assert refused > 20
