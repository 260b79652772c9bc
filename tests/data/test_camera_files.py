"""What cameras and phones write: JPEGs with further pictures in them, HEIC and AVIF, in every orientation."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from support.image_copies import photograph
from support.image_files import encoded
from underpaint.cli.main import main
from underpaint.core import ImageInput
from underpaint.data.decode import formats
from underpaint.data.decode.image import decode, preview
from underpaint.data.decode.limits import BadImage
from underpaint.data.decode.scaled import scaled_views
from underpaint.data.loader import read_files
from underpaint.data.near_duplicates.fingerprints import fingerprint
from underpaint.inference import find_images
from underpaint.preparation.image_header import examine

EIGHT = (0.0, 255.0)
STORED = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
"""EXIF orientation to Pillow's transposition that stores an upright image so."""
PLAIN = ImageInput(size=(32, 32), channels=3, value_range=EIGHT, mean=(0.0,) * 3, std=(1.0,) * 3)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDERPAINT_CACHE", str(tmp_path_factory.mktemp("cache")))


def several(orientation: int = 1) -> bytes:
    """A JPEG with a small second picture behind it, as cameras keep their previews."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    first, second = photograph(1), photograph(2).resize((40, 30))
    data = encoded(first, "MPO", save_all=True, append_images=[second], exif=exif, quality=95)
    assert Image.open(io.BytesIO(data)).format == "MPO"
    return data


def heic(image: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    pillow_heif.from_pillow(image).save(file, quality=95, chroma=444, **options)
    return file.getvalue()


def test_of_several_pictures_in_a_jpeg_the_first_counts() -> None:
    data = several()
    whole = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert np.array_equal(decode(data, channels=3, value_range=EIGHT).permute(1, 2, 0).numpy(), whole)
    header = examine(data)
    assert (header.extension, header.flags) == ("jpg", ())
    assert (header.width, header.height) == photograph(1).size
    assert fingerprint([data]).problems == ("",)
    views = scaled_views(data, channels=3, size=(8, 8), scale=(0.9, 1.0), flip=False, seeds=[1])
    assert views is not None
    assert views[0].shape == (3, 8, 8)
    small = preview(data, least=32)
    assert small.shape[0] < whole.shape[0]
    assert examine(several(6)).flags == ("rotated",)
    assert decode(several(6), channels=3, value_range=EIGHT).shape == (3, whole.shape[1], whole.shape[0])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["HEIC", "AVIF"])
def test_photographs_of_phones_stand_upright(kind: str, orientation: int) -> None:
    upright = photograph(3)
    stored = upright.transpose(Image.Transpose(STORED[orientation])) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    if kind == "HEIC":
        data = heic(stored, exif=exif.tobytes())
    else:
        data = encoded(stored, "AVIF", quality=95, subsampling="4:4:4", exif=exif)
    shown = decode(data, channels=3, value_range=EIGHT).permute(1, 2, 0).numpy().astype(int)
    assert shown.shape == (upright.height, upright.width, 3)
    assert np.abs(shown - np.asarray(upright, dtype=int)).mean() < 4
    first, second = fingerprint([data, encoded(upright)]).hashes()
    assert first is not None
    assert second is not None
    assert (first ^ second).bit_count() <= 4
    assert examine(data).extension == kind.lower()


def test_ten_bit_photographs_are_read_for_screens_alone() -> None:
    deep = (np.asarray(photograph(3).convert("RGB")).astype(np.uint16) * 257).tobytes()
    file = io.BytesIO()
    image = pillow_heif.from_bytes("RGB;16", photograph(3).size, deep)
    image.save(file, quality=95, chroma=444, save_hdr_to_12_bit=False)
    shown = decode(file.getvalue(), channels=3, value_range=EIGHT).permute(1, 2, 0).numpy().astype(int)
    assert np.abs(shown - np.asarray(photograph(3), dtype=int)).mean() < 4
    with pytest.raises(BadImage, match="HEIF are read with 8 bits only"):
        decode(file.getvalue(), channels=3, value_range=(0.0, 1023.0))


def test_without_its_decoder_a_photograph_is_one_bad_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.heic").write_bytes(heic(photograph(3)))
    (tmp_path / "b.avif").write_bytes(encoded(photograph(3), "AVIF"))
    (tmp_path / "c.jpg").write_bytes(encoded(photograph(3), "JPEG"))
    files = [tmp_path / name for name in ("a.heic", "b.avif", "c.jpg")]
    assert read_files(files, format=PLAIN)[1] == ["", "", ""]
    monkeypatch.setattr(formats, "reads_heif", lambda: False)
    monkeypatch.setattr(formats, "reads_avif", lambda: False)
    image, problems = read_files(files, format=PLAIN)
    assert problems == [
        "HEIC is not read here: pip install 'underpaint[heif]', or convert it to JPEG",
        "AVIF is not read here: install a Pillow that has AVIF, or convert it to JPEG",
        "",
    ]
    assert torch.count_nonzero(image[2]) > 0
    assert fingerprint([file.read_bytes() for file in files]).problems == tuple(problems)


def test_a_heic_whose_first_brand_is_general_is_told_from_avif() -> None:
    """``mif1`` says that it is an image; which one stands among the compatible brands."""
    for data, wanted in ((heic(photograph(3)), "HEIF"), (encoded(photograph(3), "AVIF"), "AVIF")):
        general = data[:8] + b"mif1" + data[12:]
        assert formats.formats_of(general) == (wanted,)
        assert decode(general, channels=3, value_range=EIGHT).shape[0] == 3


def test_they_are_found_and_prepared_under_every_name(tmp_path: Path) -> None:
    names = {"a.JFIF": several(), "b.jpe": several(6), "c.MPO": several(), "d.HIF": heic(photograph(4))}
    names |= {"e.heic": heic(photograph(5)), "f.AVIF": encoded(photograph(6), "AVIF"), "g.jpg": heic(photograph(7))}
    photos = tmp_path / "photos"
    photos.mkdir()
    for name, data in names.items():
        (photos / name).write_bytes(data)
    assert find_images([photos]) == [photos / name for name in sorted(names)]
    assert read_files(find_images([photos]), format=PLAIN)[1] == [""] * len(names)
    assert main(["prepare", str(photos), "--out", str(tmp_path / "set")]) == 0
    assert pq.read_table(tmp_path / "set" / "index.parquet").num_rows == len(names)
    assert pq.read_table(tmp_path / "set" / "dropped.parquet").num_rows == 0
