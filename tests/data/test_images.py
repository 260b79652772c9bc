"""Decoding: every kind of file against what Pillow or numpy says of it, and everything that is refused."""

from __future__ import annotations

import io
import random
import time
import warnings
import zlib
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from support.image_files import encoded, png_chunk
from underpaint.data.decode.formats import FORMATS
from underpaint.data.decode.image import decode
from underpaint.data.decode.limits import MAX_PIXELS, BadImage

EIGHT = (0.0, 255.0)
SIXTEEN = (0.0, 65535.0)


def noise(*shape: int, high: int = 256, seed: int = 0) -> np.ndarray:
    kind = np.uint8 if high <= 256 else np.uint16
    return np.random.default_rng(seed).integers(0, high, shape).astype(kind)


def tiff(array: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, array, **options)
    return file.getvalue()


def planes(image: Image.Image) -> torch.Tensor:
    array = np.array(image)
    return torch.from_numpy(array[None] if array.ndim == 2 else array.transpose(2, 0, 1))


@pytest.mark.parametrize("kind", FORMATS)
def test_reads_each_format_as_pillow_does(kind: str) -> None:
    data = encoded(Image.fromarray(noise(13, 17, 3)), kind)
    found = decode(data, channels=3, value_range=EIGHT)
    assert found.dtype == torch.uint8
    assert torch.equal(found, planes(Image.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "LAB"])
def test_converts_each_mode_to_rgb_and_to_grey(mode: str) -> None:
    image = Image.fromarray(noise(9, 11, 3)).convert("RGB")
    if mode == "LAB":
        image = Image.merge("LAB", image.split())
    data = encoded(image.convert(mode) if mode != "LAB" else image, "JPEG" if mode in ("CMYK", "YCbCr") else "TIFF")
    reference = Image.open(io.BytesIO(data))
    assert torch.equal(decode(data, channels=3, value_range=EIGHT), planes(reference.convert("RGB")))
    grey = reference.convert("L") if mode in ("1", "L") else reference.convert("RGB").convert("L")
    assert torch.equal(decode(data, channels=1, value_range=EIGHT), planes(grey))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_transparency_lies_on_white(mode: str, kind: str) -> None:
    if (mode, kind) == ("LA", "WEBP"):
        pytest.skip("WebP has no grey")
    pixels = noise(8, 8, 4 if mode == "RGBA" else 2)
    data = encoded(Image.fromarray(pixels, mode), kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {}))
    colour, alpha = pixels[..., :-1].astype(float), pixels[..., -1:].astype(float) / 255
    expected = np.broadcast_to(colour * alpha + 255 * (1 - alpha), (8, 8, 3)).transpose(2, 0, 1)
    found = decode(data, channels=3, value_range=EIGHT).numpy().astype(float)
    assert np.abs(found - expected).max() <= 1


def test_transparent_colour_of_palettes_and_of_rgb_lies_on_white() -> None:
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([255, 0, 0, 0, 0, 255] + [0] * 762)
    palette.putpixel((0, 0), 0)
    for transparent in (1, bytes([255, 0])):  # a colour, or one alpha for each colour
        found = decode(encoded(palette, "PNG", transparency=transparent), channels=3, value_range=EIGHT)
        assert found[:, 0, 0].tolist() == [255, 0, 0]
        assert found[:, 1, 1].tolist() == [255, 255, 255]
    blue = Image.new("RGB", (2, 1), (0, 0, 255))
    blue.putpixel((0, 0), (255, 0, 0))
    found = decode(encoded(blue, "PNG", transparency=(0, 0, 255)), channels=3, value_range=EIGHT)
    assert found.permute(1, 2, 0).tolist() == [[[255, 0, 0], [255, 255, 255]]]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_the_image_upright(orientation: int) -> None:
    stored = noise(6, 10, 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = decode(encoded(Image.fromarray(stored), "PNG", exif=exif), channels=3, value_range=EIGHT)
    upright = {  # by the EXIF standard, where row 0 and column 0 of the stored image lie
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.transpose(1, 0, 2),
        6: np.rot90(stored, -1),
        7: stored[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(stored, 1),
    }[orientation]
    assert np.array_equal(found.permute(1, 2, 0).numpy(), upright)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_of_several(kind: str) -> None:
    frames = [Image.new("RGB", (5, 5), colour) for colour in ("red", "lime", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert decode(data, channels=3, value_range=EIGHT)[:, 2, 2].tolist() == [255, 0, 0]


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bit_grey_is_scaled_by_the_declared_range(kind: str) -> None:
    stored = noise(7, 9, high=65536)
    data = encoded(Image.fromarray(stored), kind)
    found = decode(data, channels=1, value_range=(1000.0, 30000.0))
    assert found.dtype == torch.float32
    assert np.allclose(found[0].numpy(), np.clip((stored - 1000.0) / 29000, 0, 1), atol=1e-6)
    assert decode(data, channels=3, value_range=SIXTEEN).shape == (3, 7, 9)
    with pytest.raises(BadImage, match="value_range"):
        decode(data, channels=1, value_range=EIGHT)


def test_eight_bits_obey_another_range_too() -> None:
    stored = noise(4, 4)
    found = decode(encoded(Image.fromarray(stored), "PNG"), channels=1, value_range=(0.0, 100.0))
    assert np.allclose(found[0].numpy(), np.clip(stored / 100, 0, 1))


@pytest.mark.parametrize("layout", ["samples last", "samples first", "pages"])
@pytest.mark.parametrize("high", [256, 65536])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_five_channels(layout: str, high: int, compression: str | None) -> None:
    stored = noise(5, 8, 6, high=high)
    options: dict[str, Any] = {"photometric": "minisblack", "compression": compression}
    if layout == "samples last":
        data = tiff(np.ascontiguousarray(stored.transpose(1, 2, 0)), planarconfig="contig", **options)
    elif layout == "samples first":
        data = tiff(stored, planarconfig="separate", **options)
    else:
        data = tiff(stored, **options)
    found = decode(data, channels=5, value_range=(0.0, high - 1.0))
    values = found.float() / 255 if found.dtype == torch.uint8 else found
    assert np.allclose(values.numpy(), stored / (high - 1), atol=1e-6)
    with pytest.raises(BadImage, match=r"5 channels, 3 are declared"):
        decode(data, channels=3, value_range=SIXTEEN)


def test_sixteen_bit_colour_and_floats_come_from_tiff() -> None:
    colour = noise(6, 5, 3, high=65536)
    found = decode(tiff(colour, photometric="rgb"), channels=3, value_range=SIXTEEN)
    assert np.allclose(found.numpy(), colour.transpose(2, 0, 1) / 65535, atol=1e-6)
    floats = np.random.default_rng(0).random((6, 5)).astype(np.float32)
    assert np.allclose(decode(tiff(floats), channels=1, value_range=(0.0, 1.0))[0].numpy(), floats)
    floats[0, 0] = np.nan
    with pytest.raises(BadImage, match="NaN"):
        decode(tiff(floats), channels=1, value_range=(0.0, 1.0))


def test_four_channels_are_data_where_four_are_declared() -> None:
    stored = noise(5, 5, 4)
    found = decode(encoded(Image.fromarray(stored, "RGBA"), "PNG"), channels=4, value_range=EIGHT)
    assert np.array_equal(found.permute(1, 2, 0).numpy(), stored)


def test_other_numbers_of_channels_are_named() -> None:
    data = encoded(Image.fromarray(noise(4, 4, 3)), "PNG")
    with pytest.raises(BadImage, match=r"3 channels, 5 are declared"):
        decode(data, channels=5, value_range=EIGHT)
    with pytest.raises(BadImage, match=r"1 channels, 4 are declared"):
        decode(encoded(Image.fromarray(noise(4, 4)), "PNG"), channels=4, value_range=EIGHT)


def png_bomb(width: int, height: int) -> bytes:
    """A black PNG with one bit per pixel."""
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([1, 0, 0, 0, 0])
    row = bytes(1 + (width + 7) // 8)
    packer = zlib.compressobj(9)
    content = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", content) + png_chunk(b"IEND", b"")


@pytest.mark.parametrize(("width", "height"), [(20_000, 20_000), (10_001, 10_000), (MAX_PIXELS + 1, 1)])
def test_a_bomb_is_refused_before_it_is_decoded(width: int, height: int) -> None:
    data = png_bomb(width, height)
    assert len(data) < 100_000
    start = time.perf_counter()
    with pytest.raises(BadImage, match="pixels"):
        decode(data, channels=3, value_range=EIGHT)
    assert time.perf_counter() - start < 0.1


def test_a_tiff_bomb_is_refused() -> None:
    data = bytearray(tiff(noise(4, 4, 5), photometric="minisblack", planarconfig="contig"))
    file = tifffile.TiffFile(io.BytesIO(bytes(data)))
    tag = file.pages.first.tags["ImageLength"]
    size = 2 if tag.dtype == tifffile.DATATYPE.SHORT else 4
    data[tag.valueoffset : tag.valueoffset + size] = (65535 if size == 2 else 400_000_000).to_bytes(size, "little")
    with pytest.raises(BadImage):
        decode(bytes(data), channels=5, value_range=SIXTEEN)


@pytest.mark.parametrize(
    "data",
    [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"II*\0", b"MM\0*\0\0\0\1", b"no image", b"<svg/>", b"%!PS-Adobe-3.0"],
)
def test_no_image_is_a_bad_image(data: bytes) -> None:
    with pytest.raises(BadImage):
        decode(data, channels=3, value_range=EIGHT)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "PPM"])
def test_half_a_file_is_a_bad_image(kind: str) -> None:
    data = encoded(Image.fromarray(noise(40, 40, 3)), kind)
    with pytest.raises(BadImage):
        decode(data[: len(data) // 2], channels=3, value_range=EIGHT)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("layout", ["contig", "separate", None])
def test_half_a_deep_tiff_is_a_bad_image(layout: str | None, compression: str | None) -> None:
    shape = (40, 40, 5) if layout == "contig" else (5, 40, 40)
    array = noise(*shape, high=65536)
    whole = tiff(array, photometric="minisblack", planarconfig=layout, compression=compression)
    assert decode(whole, channels=5, value_range=SIXTEEN).shape == (5, 40, 40)
    with pytest.raises(BadImage):
        decode(whole[: len(whole) // 2], channels=5, value_range=SIXTEEN)


@pytest.mark.parametrize("kind", [*FORMATS, "deep TIFF", "paged TIFF"])
def test_damaged_bytes_give_an_image_or_a_bad_image(kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    if kind in FORMATS:
        exif = Image.Exif()
        exif[0x0112] = 6
        options = {} if kind in ("GIF", "BMP", "PPM") else {"exif": exif}
        whole = encoded(Image.fromarray(noise(16, 16, 3)), kind, **options)
    else:
        array = noise(3, 16, 16, high=65536)
        whole = tiff(array, photometric="minisblack", planarconfig=None if kind == "paged TIFF" else "separate")
    chance = random.Random(f"{kind}")
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 6)):
            data[chance.randrange(min(len(data), chance.choice((64, 512, len(data)))))] = chance.randrange(256)
        try:
            found = decode(bytes(data), channels=3, value_range=SIXTEEN if "TIFF" in kind and kind != "TIFF" else EIGHT)
        except BadImage:
            continue
        assert found.shape[0] == 3
    assert capfd.readouterr() == ("", "")


def test_no_warning_of_the_decoder_comes_through() -> None:
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([255, 0, 0, 0, 0, 255] + [0] * 762)
    large = encoded(Image.new("1", (9500, 9500)), "PNG")  # between Pillow's warning and our limit
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        decode(encoded(palette, "PNG", transparency=bytes([0, 128])), channels=3, value_range=EIGHT)
        decode(large, channels=1, value_range=EIGHT)
    assert not seen
