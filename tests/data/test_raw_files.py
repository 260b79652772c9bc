"""Raw files of cameras: their largest preview, upright, within the limits, and once beside the camera's own JPEG.

Most of these tests need LibRaw (``pip install '.[raw]'``) and are left out without it.
"""

from __future__ import annotations

import importlib.util
import io
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from support.image_copies import photograph
from support.image_files import encoded
from support.prepare_examples import index_of, names_of, prepared, write_files
from support.raw_files import dng, small_and_large
from underpaint.core import ImageInput
from underpaint.data.decode import raw
from underpaint.data.decode.image import decode, preview, preview_with_alpha
from underpaint.data.decode.limits import BadImage
from underpaint.data.decode.raw import as_picture, is_raw
from underpaint.data.loader import read_files
from underpaint.data.near_duplicates.fingerprints import fingerprint
from underpaint.inference import find_images
from underpaint.preparation.folder_survey import survey
from underpaint.preparation.image_header import examine

EIGHT = (0.0, 255.0)
STORED = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
"""EXIF orientation to Pillow's transposition that stores an upright image so."""
PLAIN = ImageInput(size=(32, 32), channels=3, value_range=EIGHT, mean=(0.0,) * 3, std=(1.0,) * 3)
XMP = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:subject><rdf:Bag><rdf:li>heron</rdf:li></rdf:Bag>
</dc:subject></rdf:Description></rdf:RDF></x:xmpmeta>"""

with_libraw = pytest.mark.skipif(importlib.util.find_spec("rawpy") is None, reason="rawpy is not installed")


def stored(orientation: int) -> Image.Image:
    """A photograph as a camera held in this way stores it."""
    turn = STORED[orientation]
    return photograph(3) if turn is None else photograph(3).transpose(Image.Transpose(turn))


def pixels(data: bytes) -> np.ndarray:
    return decode(data, channels=3, value_range=EIGHT).permute(1, 2, 0).numpy().astype(int)


def differs_by(data: bytes, upright: Image.Image) -> float:
    """Mean absolute difference of a decoded file from a picture of the same size."""
    shown = pixels(data)
    assert shown.shape == (upright.height, upright.width, 3)
    return float(np.abs(shown - np.asarray(upright, dtype=int)).mean())


@with_libraw
@pytest.mark.parametrize("orientation", STORED)
def test_the_largest_preview_is_shown_upright(orientation: int) -> None:
    data = dng(small_and_large(stored(orientation)), orientation=orientation)
    assert differs_by(data, photograph(3)) < 4
    header = examine(data)
    assert (header.width, header.height) == stored(orientation).size
    assert header.extension == "jpg"
    assert header.flags == (("rotated",) if orientation > 1 else ())
    assert preview(data).shape == preview_with_alpha(data)[..., :3].shape
    assert fingerprint([data]).problems == ("",)
    if orientation == 1:
        large = small_and_large(photograph(3))[1]
        assert np.array_equal(pixels(data), np.asarray(Image.open(io.BytesIO(large)), dtype=int))


@with_libraw
def test_a_preview_s_own_orientation_counts() -> None:
    """A camera that writes a whole Exif into the preview has said there how it was held."""
    exif = Image.Exif()
    exif[0x0112] = 6
    own = encoded(stored(6), "JPEG", quality=95, exif=exif)
    for of_file in (1, 6, 8):
        assert differs_by(dng([own], orientation=of_file), photograph(3)) < 4


@with_libraw
def test_the_picture_has_the_same_bytes_in_every_time_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    data, pictures = dng(small_and_large(photograph(3)), orientation=6), set[bytes]()
    for zone in ("UTC", "Asia/Tokyo"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        pictures.add(as_picture(data))
    monkeypatch.undo()
    time.tzset()
    (one,) = pictures
    assert Image.open(io.BytesIO(one)).getexif() == {0x0112: 6}


@with_libraw
def test_what_cannot_be_shown_is_named() -> None:
    large = small_and_large(photograph(3))[1]
    frame = large.index(b"\xff\xc0") + 5
    whole = dng([large])
    bomb, larger = (large[:frame] + side * 2 + large[frame + 4 :] for side in (b"\xea\x60", b"\x30\x00"))
    for data, message in (
        (dng([]), "the raw file has no preview that can be read: convert it to JPEG"),
        (whole.replace(large, bomb), "it has more pixels than the limit of 100000000"),
        (whole.replace(large, larger), "12288 x 12288 pixels are outside the limit"),
        (whole.replace(large, b"\xff\xd8" + bytes(len(large) - 2)), "preview|cannot be"),
        (b"FUJIFILMCCD-RAW 0201" + bytes(400), "the raw file cannot be decoded: Unsupported file format"),
        (whole[:8], "cannot be decoded|not an image"),
    ):
        with pytest.raises(BadImage, match=message):
            pixels(data)
        with pytest.raises(BadImage, match=message):
            examine(data)


@with_libraw
def test_a_folder_of_a_photographer_is_prepared(tmp_path: Path) -> None:
    """One photograph in raw alone with keywords, one with the camera's JPEG beside it, and one damaged."""
    jpeg, both = encoded(photograph(5), "JPEG", quality=95), dng(small_and_large(photograph(5)))
    files = {"a.dng": dng(small_and_large(stored(6)), orientation=6, xmp=XMP), "b.dng": both, "b.jpg": jpeg}
    photos = write_files(tmp_path / "photos", files | {"cut.nef": both[:2000], "b.txt": b"owl"})
    found = survey(photos)
    assert (found.images, dict(found.kinds), found.usable) == (3, {".dng": 1, ".jpg": 1, ".nef": 1}, 2)
    assert found.skipped == "skipped 1 file: 1 .dng (the image of the same name beside each is read)"
    assert dict(found.tags.most) == {"heron": 1, "owl": 1}
    assert found.bytes == len(files["a.dng"]) + len(jpeg)
    assert [path.name for path in find_images(photos)] == ["a.dng", "b.jpg", "cut.nef"]
    problems = read_files(find_images(photos), format=PLAIN)[1]
    assert [bool(problem) for problem in problems] == [False, False, True]
    out = prepared(tmp_path / "set", photos)
    assert sorted(names_of(out).values(), key=sorted) == [{"heron"}, {"owl"}]
    sizes = {row["key"]: row["size"] for row in index_of(out)}
    (shard,) = (out / "shards").glob("*.tar")
    with tarfile.open(shard) as tar:
        members = {name: tar.extractfile(name) for name in tar.getnames() if name.endswith(".jpg")}
        contents = {name: file.read() for name, file in members.items() if file}
    assert contents.keys() == {"a.jpg", "b.jpg"}
    assert sizes == {name.removesuffix(".jpg"): len(data) for name, data in contents.items()}
    assert contents["b.jpg"] == jpeg
    assert differs_by(contents["a.jpg"], photograph(3)) < 4


def test_raw_files_are_known_by_their_bytes() -> None:
    plain, values = io.BytesIO(), np.zeros((4, 5), dtype=np.uint16)
    with tifffile.TiffWriter(plain) as writer:
        writer.write(values, subifds=1)
        writer.write(values)
    for data, expected in (
        (dng([]), True),
        (dng(small_and_large(photograph(3))), True),
        (b"\0\0\0\x18ftypcrx \0\0\0\1", True),
        (b"IIRO\x08\0\0\0", True),
        (b"IIU\0\x08\0\0\0", True),
        (b"FUJIFILMCCD-RAW 0201", True),
        (plain.getvalue(), False),
        (encoded(photograph(3), "TIFF"), False),
        (encoded(photograph(3), "JPEG"), False),
        (b"II*\0", False),
        (b"", False),
    ):
        assert is_raw(data) == expected, data[:16]


def test_without_libraw_a_raw_file_is_one_bad_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw, "reads_raw", lambda: False)
    data = dng(small_and_large(photograph(3)))
    write_files(tmp_path, {"a.tif": data, "b.jpg": encoded(photograph(3), "JPEG")})
    first, second = read_files([tmp_path / "a.tif", tmp_path / "b.jpg"], format=PLAIN)[1]
    assert first.startswith("a camera's raw file is not read here: pip install 'underpaint[raw]' for its preview")
    assert second == ""
    with pytest.raises(BadImage, match="is not read here"):
        examine(data)
