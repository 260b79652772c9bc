"""Images of other than 8 bits: every layout against the array that tifffile, Pillow or we wrote, and every refusal."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import tifffile
from PIL import Image, ImageOps

from support.image_files import encoded, png_chunk
from underpaint.core import ImageInput
from underpaint.data import images
from underpaint.data.decode import limits
from underpaint.data.decode.image import decode, preview
from underpaint.data.decode.limits import BadImage
from underpaint.data.loader import read_files
from underpaint.data.near_duplicates.fingerprints import fingerprint
from underpaint.preparation.image_header import examine

EIGHT = (0.0, 255.0)
KINDS = ["int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "float32", "float64"]
TRANSPOSED = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
"""EXIF orientation to Pillow's transposition that brings the image upright."""


def tiff(array: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, array, **options)
    return file.getvalue()


def values(kind: str, *shape: int) -> tuple[np.ndarray, tuple[float, float]]:
    """Values over a part of what the kind can hold, and a range inside of them."""
    chance = np.random.default_rng(len(kind))
    if kind.startswith("float"):
        return chance.normal(0, 2, shape).astype(kind), (-3.0, 2.5)
    low, high = np.iinfo(kind).min, np.iinfo(kind).max
    array = chance.integers(low, high, shape, dtype=kind, endpoint=True)
    return array, (float(low // 2), float(high // 4 * 3))


def expected(planes: np.ndarray, value_range: tuple[float, float]) -> np.ndarray:
    """The definition, in longer numbers."""
    low, high = (np.longdouble(end) for end in value_range)
    return np.clip((planes.astype(np.longdouble) - low) / (high - low), 0, 1).astype(np.float64)


def turned(planes: np.ndarray, orientation: int) -> np.ndarray:
    """Upright, by Pillow, plane by plane: the numbers of the pixels are moved."""
    if orientation not in TRANSPOSED:
        return planes
    places = Image.fromarray(np.arange(planes[0].size, dtype=np.int32).reshape(planes[0].shape))
    moved = np.array(places.transpose(Image.Transpose(TRANSPOSED[orientation])))
    return np.stack([plane.ravel()[moved] for plane in planes])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", ["grey", "contig", "separate"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("storage", [{}, {"compression": "zlib"}, {"tile": (16, 16)}, {"bigtiff": True}])
def test_every_kind_of_values_in_every_layout(kind: str, layout: str, byteorder: Any, storage: dict[str, Any]) -> None:
    orientation = 6
    shape = {"grey": (1, 7, 19), "contig": (3, 7, 19), "separate": (3, 7, 19)}[layout]
    planes, value_range = values(kind, *shape)
    stored = {"grey": planes[0], "contig": np.ascontiguousarray(planes.transpose(1, 2, 0)), "separate": planes}[layout]
    options = {} if layout == "grey" else {"photometric": "rgb", "planarconfig": layout}
    tags = [(274, "H", 1, orientation, True)]
    data = tiff(stored, byteorder=byteorder, extratags=tags, **options, **storage)
    result = decode(data, channels=shape[0], value_range=value_range)
    assert np.abs(result.numpy() - expected(turned(planes, orientation), value_range)).max() < 1e-6
    with pytest.raises(BadImage, match=r"value_range is \(0, 255\); declare"):
        decode(data, channels=shape[0], value_range=EIGHT)
    assert preview(data).shape == (19, 7, 3)


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("kind", ["uint16", "float32", "uint8 of 5 channels", "uint16 PNG", "RGB PNG"])
def test_every_orientation_tag(orientation: int, kind: str) -> None:
    channels = 5 if "5" in kind else 3 if "RGB" in kind else 1
    planes, value_range = values(kind.split()[0].replace("RGB", "uint16"), channels, 5, 8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    if "PNG" in kind:
        data = png(planes, png_chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")))
    else:
        data = tiff(
            planes if channels > 1 else planes[0],
            photometric="minisblack",
            extratags=[(274, "H", 1, orientation, True)],
        )
    result = decode(data, channels=channels, value_range=value_range)
    assert np.abs(result.numpy() - expected(turned(planes, orientation), value_range)).max() < 1e-6
    assert ("rotated" in examine(data).flags) == (2 <= orientation <= 8)


def test_the_oracle_of_orientations_agrees_with_pillow_on_eight_bits() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (5, 8)).astype(np.uint8)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        upright = ImageOps.exif_transpose(Image.open(io.BytesIO(encoded(Image.fromarray(picture), "PNG", exif=exif))))
        assert np.array_equal(np.array(upright), turned(picture[None], orientation)[0])


def png(planes: np.ndarray, *chunks: bytes) -> bytes:
    """A PNG of 16 bits a channel, without a filter."""
    color_type = {1: 0, 2: 4, 3: 2, 4: 6}[len(planes)]
    header = struct.pack(">IIBBBBB", planes.shape[2], planes.shape[1], 16, color_type, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in planes.transpose(1, 2, 0).astype(">u2"))
    content = png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + b"".join(chunks) + content


def test_sixteen_bit_colour_in_png() -> None:
    planes, value_range = values("uint16", 3, 6, 9)
    result = decode(png(planes), channels=3, value_range=value_range)
    assert np.abs(result.numpy() - expected(planes, value_range)).max() < 1e-6
    luma = np.tensordot([0.299, 0.587, 0.114], planes.astype(np.float64), axes=1)[None]
    result = decode(png(planes), channels=1, value_range=value_range)
    assert np.abs(result.numpy() - expected(luma, value_range)).max() < 1e-5
    on_screen = decode(png(planes), channels=3, value_range=EIGHT).numpy().astype(int)
    assert np.abs(on_screen - planes / 257).max() <= 1
    assert examine(png(planes)).flags == ("deep",)


@pytest.mark.parametrize("channels", [2, 4])
def test_transparency_of_sixteen_bits_lies_on_white_unless_it_is_declared(channels: int) -> None:
    planes, _ = values("uint16", channels, 6, 9)
    whole = (0.0, 65535.0)
    result = decode(png(planes), channels=channels, value_range=whole)
    assert np.abs(result.numpy() - planes / 65535).max() < 1e-6
    opacity = planes[-1:] / 65535
    blended = np.broadcast_to(planes[:-1] / 65535 * opacity + 1 - opacity, (3, 6, 9))
    result = decode(png(planes), channels=3, value_range=whole)
    assert np.abs(result.numpy() - blended).max() < 1e-6


def test_the_transparent_colour_of_sixteen_bits_lies_on_white() -> None:
    planes, _ = values("uint16", 3, 4, 4)
    transparent = png_chunk(b"tRNS", planes[:, 1, 2].astype(">u2").tobytes())
    result = decode(png(planes, transparent), channels=3, value_range=(0.0, 65535.0)).numpy()
    assert result[:, 1, 2].tolist() == [1, 1, 1]
    assert np.abs(result[:, 0] - planes[:, 0] / 65535).max() < 1e-6
    grey = png_chunk(b"tRNS", planes[:1, 1, 2].astype(">u2").tobytes())
    result = decode(png(planes[:1], grey), channels=1, value_range=(0.0, 65535.0)).numpy()
    assert result[0, 1, 2] == 1
    assert np.abs(result[0, 0] - planes[0, 0] / 65535).max() < 1e-6


@pytest.mark.parametrize("maximum", [1000, 4095, 65535])
def test_the_values_of_a_pgm_are_the_stored_ones(maximum: int) -> None:
    stored = np.random.default_rng(0).integers(0, maximum, (5, 7), endpoint=True)
    data = b"P5 7 5 %d\n" % maximum + stored.astype(">u2").tobytes()
    result = decode(data, channels=1, value_range=(0.0, float(maximum)))
    assert np.abs(result[0].numpy() - stored / maximum).max() < 1e-6
    colour = b"P6 7 5 %d\n" % maximum + np.stack([stored] * 3, axis=2).astype(">u2").tobytes()
    assert decode(colour, channels=3, value_range=EIGHT).shape == (3, 5, 7)
    with pytest.raises(BadImage, match="PPM are read with 8 bits only"):
        decode(colour, channels=3, value_range=(0.0, float(maximum)))


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("kind", ["uint8", "uint16", "uint32"])
@pytest.mark.parametrize("channels", [1, 5])
def test_white_is_zero(kind: str, channels: int, compression: str | None) -> None:
    highest = np.iinfo(kind).max
    planes = np.random.default_rng(1).integers(0, highest, (channels, 6, 9), dtype=kind, endpoint=True)
    stored = planes[0] if channels == 1 else planes
    data = tiff(stored, photometric="miniswhite", compression=compression)
    whole = (0.0, float(highest)) if kind != "uint8" else (0.0, 255.5)
    result = decode(data, channels=channels, value_range=whole)
    assert np.abs(result.numpy() - expected(highest - planes, whole)).max() < 1e-6


def test_white_is_zero_with_an_orientation_and_compression_of_pillow() -> None:
    planes, value_range = values("uint16", 1, 6, 9)
    for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate"):
        info = {262: 0, 274: 6}
        data = encoded(Image.fromarray(planes[0]), "TIFF", compression=compression, tiffinfo=info)
        assert tifffile.TiffFile(io.BytesIO(data)).pages.first.photometric == 0
        result = decode(data, channels=1, value_range=value_range)
        assert np.abs(result.numpy() - expected(turned(65535 - planes, 6), value_range)).max() < 1e-6


def twelve_bits(planes: np.ndarray, **header: int) -> bytes:
    """An uncompressed TIFF whose rows are packed with 12 bits a value, by the specification."""
    rows = planes.transpose(1, 2, 0).reshape(planes.shape[1], -1)
    bits = ((rows[..., None] >> np.arange(11, -1, -1)) & 1).reshape(len(rows), -1).astype(np.uint8)
    content = b"".join(np.packbits(row).tobytes() for row in bits)
    tags = {
        256: planes.shape[2],
        257: planes.shape[1],
        258: 12,
        259: 1,
        262: 1,
        273: 0,
        277: len(planes),
        278: len(rows),
    }
    tags |= {279: len(content)} | {int(code.removeprefix("tag")): value for code, value in header.items()}
    tags[273] = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(struct.pack("<HHII", code, 4, 1, tags[code]) for code in sorted(tags))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4) + content


def test_twelve_packed_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    planes = np.random.default_rng(2).integers(0, 4096, (1, 5, 7))
    for orientation in (1, 8):
        data = twelve_bits(planes, tag274=orientation)
        result = decode(data, channels=1, value_range=(0.0, 4095.0))
        assert np.abs(result.numpy() - turned(planes, orientation) / 4095).max() < 1e-6
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    white = twelve_bits(planes, tag262=0)
    colour = twelve_bits(np.concatenate([planes] * 3), tag262=2)
    for data, channels in ((white, 1), (colour, 3)):
        with pytest.raises(BadImage, match=r"12 bits.*needs `pip install imagecodecs`"):
            decode(data, channels=channels, value_range=(0.0, 4095.0))
        assert "imagecodecs" in fingerprint([data]).problems[0]


def lzw(**options: Any) -> bytes:
    """Deep colour that needs a decoder we may not have: what deflate wrote, told to be something else."""
    data = bytearray(tiff(np.zeros((4, 4, 3), np.float32), photometric="rgb", compression="zlib", **options))
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as file:
        place = file.pages.first.tags[259].valueoffset
    data[place : place + 2] = (5).to_bytes(2, "little")
    return bytes(data)


def test_a_missing_decoder_is_one_bad_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    (tmp_path / "a.tif").write_bytes(lzw())
    (tmp_path / "b.tif").write_bytes(tiff(np.zeros((4, 4), np.float32)))
    plain = ImageInput(size=(4, 4), channels=3, value_range=(0.0, 1.0), mean=(0.0,) * 3, std=(1.0,) * 3)
    _, problems = read_files([tmp_path / "a.tif", tmp_path / "b.tif"], format=plain)
    assert problems == ["a TIFF with LZW compression and 3 deep channels needs `pip install imagecodecs`", ""]


def refused(array: np.ndarray, **options: Any) -> str:
    with pytest.raises(BadImage) as caught:
        decode(tiff(array, **options), channels=1, value_range=(0.0, 1.0))
    return str(caught.value)


def test_what_cannot_be_right_is_refused_with_the_true_reason() -> None:
    assert "complex64 are not read" in refused(np.zeros((4, 4), np.complex64))
    assert "0 is white" in refused(np.zeros((4, 4), np.int16), photometric="miniswhite")
    assert "0 is white" in refused(np.zeros((4, 4), np.float32), photometric="miniswhite")
    assert "CIELAB" in refused(np.zeros((4, 4, 3), np.uint16), photometric="cielab")
    assert "NaN" in refused(np.full((4, 4), np.nan, np.float32))
    assert "NaN or infinite" in refused(np.full((4, 4), np.inf, np.float64))
    assert "4 channels, 1 are declared" in refused(np.zeros((4, 4, 4), np.uint16), photometric="rgb")


def test_large_integers_keep_what_a_narrow_range_shows() -> None:
    stored = (np.arange(12, dtype=np.uint32) + 2**31).reshape(1, 3, 4)
    result = decode(tiff(stored[0]), channels=1, value_range=(2.0**31, 2.0**31 + 11))
    assert np.abs(result.numpy() - np.arange(12).reshape(1, 3, 4) / 11).max() < 1e-6


def test_deep_values_are_bounded_before_they_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_BYTES", 1000)
    fine, large = tiff(np.zeros((10, 12), np.float64)), tiff(np.zeros((10, 13), np.float64))
    assert decode(fine, channels=1, value_range=(0.0, 1.0)).shape == (1, 10, 12)
    with pytest.raises(BadImage, match="1040 bytes; at most 1000"):
        decode(large, channels=1, value_range=(0.0, 1.0))


@pytest.mark.parametrize("compression", ["zlib", "lzma"])
def test_a_strip_that_unpacks_to_more_than_its_pixels_is_refused(compression: str) -> None:
    """Few pixels by the header, gigabytes in the strip: unpacked as far as pixels go, and no further."""
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(np.zeros((3000, 3000), np.uint16).astype(np.float32), compression=compression, rowsperstrip=3000)
    data = bytearray(file.getvalue())
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as opened:
        tag = opened.pages.first.tags[257]
        rows = opened.pages.first.tags[278]
    for each in (tag, rows):
        data[each.valueoffset : each.valueoffset + 2] = (3).to_bytes(2, "little")
    with pytest.raises(BadImage, match="unpacks to more"):
        decode(bytes(data), channels=1, value_range=(0.0, 1.0))


@pytest.mark.parametrize("kind", KINDS)
def test_looks_of_deep_images_find_the_eight_bit_copy(kind: str) -> None:
    """Prepared like others: the hash of a stretched image is near that of the picture it shows."""
    from support.image_copies import photograph

    picture = photograph(3).convert("L")
    grey = np.asarray(picture, dtype=np.float64) / 255
    low, high = (0, 1) if kind.startswith("float") else (np.iinfo(kind).min / 2, np.iinfo(kind).max / 2)
    first, second = fingerprint([tiff((low + grey * (high - low)).astype(kind)), encoded(picture)]).hashes()
    assert first is not None
    assert second is not None
    assert (first ^ second).bit_count() <= 2


def test_many_channels_are_looked_at_and_named_in_training() -> None:
    planes = np.random.default_rng(0).integers(0, 256, (7, 40, 40)).astype(np.uint8)
    data = tiff(planes, photometric="minisblack")
    assert examine(data).flags == ("many_channels",)
    assert fingerprint([data]).problems == ("",)
    with pytest.raises(BadImage, match="7 channels, 3 are declared"):
        decode(data, channels=3, value_range=EIGHT)
    mean = planes.mean(axis=0)
    shown = (mean - mean.min()) / (mean.max() - mean.min()) * 255
    assert np.abs(preview(data)[..., 0] - shown).max() <= 0.51


def test_the_public_module_reads_as_training_does() -> None:
    assert images.decode is decode
    assert images.BadImage is BadImage


@pytest.mark.slow
def test_a_folder_of_deep_images_is_prepared_and_what_is_not_read_is_named(tmp_path: Path) -> None:
    from underpaint.cli.main import main

    photos = tmp_path / "photos"
    photos.mkdir()
    for kind in KINDS:
        (photos / f"{kind}.tif").write_bytes(tiff(values(kind, 40, 40, 3)[0], photometric="rgb"))
    whole = tiff(values("uint16", 40, 40)[0])
    bad = {
        "cut.tif": (whole[:2000], "truncated"),
        "complex.tif": (tiff(np.zeros((40, 40), np.complex64)), "complex64 are not read"),
        "nan.tif": (tiff(np.full((40, 40), np.nan, np.float32)), "NaN"),
    }
    for name, (data, _) in bad.items():
        (photos / name).write_bytes(data)
    assert main(["prepare", str(photos), "--out", str(tmp_path / "set")]) == 0
    rows = pq.read_table(tmp_path / "set" / "index.parquet").to_pylist()
    assert len(rows) == len(KINDS)
    assert all("deep" in row["flags"] for row in rows)
    dropped = {row["key"]: row["reason"] for row in pq.read_table(tmp_path / "set" / "dropped.parquet").to_pylist()}
    assert dropped.keys() == bad.keys()
    assert all(reason in dropped[name] for name, (_, reason) in bad.items())


def test_training_on_deep_images_at_the_usual_range_says_why_it_ends(tmp_path: Path, capsys: Any) -> None:
    from underpaint.cli.main import main

    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(40):
        stored = np.random.default_rng(number).integers(0, 65536, (8, 8, 3)).astype(np.uint16)
        (photos / f"{number}.tif").write_bytes(tiff(stored, photometric="rgb"))
    few = ["budget.samples=64", "budget.warmup=32", "budget.batch_size=32", "threads=1"]
    given = ["train", "mae_smoke", f"data.source={photos}/", *few, "--out"]
    assert main([*given, str(tmp_path / "refused")]) == 2
    assert "held-out images can be read; the first, " in (said := capsys.readouterr().err)
    assert "(uint16 values), but value_range is (0, 255); declare" in said
    assert main([*given, str(tmp_path / "read"), "objective.encoder.value_range=0,65535"]) == 0
