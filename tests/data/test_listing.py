"""Which files of a folder are images, and what is said of all others."""

from __future__ import annotations

import itertools
import os
import re
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.image_files import encoded, noise
from underpaint.data.decode.formats import RAW
from underpaint.data.folders import listing
from underpaint.data.folders.listing import LINK, LOOP, list_folder
from underpaint.data.open_source import open_source


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDERPAINT_CACHE", str(tmp_path_factory.mktemp("cache")))


def written(root: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(encoded(Image.fromarray(noise(number)), "JPEG"))
    return root


def keys(problems: tuple[listing.Problem, ...]) -> list[str]:
    return [problem.key for problem in problems]


def test_every_spelling_of_an_extension_is_found(tmp_path: Path) -> None:
    names = "jpg JPG jpeg Jpeg jfif JFIF jpe JPE mpo png PNG tif TIFF webp bmp gif ppm avif AVIF heic HEIC heif hif"
    names = [f"{number}.{suffix}" for number, suffix in enumerate(names.split())]
    found = list_folder(written(tmp_path, *names, ".hidden.jpg", ".trash/a.jpg", "._mac.jpg"))
    assert found.images == tuple(sorted(names))
    assert found.skipped() == ""


def test_what_is_skipped_is_counted_by_kind_with_advice(tmp_path: Path) -> None:
    names = ["a.jpg", "b.CRW", "c.crw", "d.X3F", "e.jxl", "f.mov", "g.tar.gz", "h.jpg_large", "notes.txt", "tags.csv"]
    written(tmp_path, *names, "IMG_0001", "sub/i.erf")
    (tmp_path / "README").write_text("no image")
    (tmp_path / "i.xyz").write_text("no image")
    (tmp_path / "out.jpg").symlink_to(tmp_path.parent / "elsewhere.jpg")
    found = list_folder(tmp_path)
    assert found.images == ("a.jpg",)
    assert keys(found.unread) == ["IMG_0001", "b.CRW", "c.crw", "d.X3F", "e.jxl", "f.mov", "h.jpg_large", "sub/i.erf"]
    assert found.others == ("g.tar.gz", "i.xyz")
    raw = "(a camera's raw format: convert it to TIFF or JPEG)"
    line = found.skipped()
    assert line.startswith(f"skipped 11 files: 2 .crw, 1 .x3f, 1 .erf {raw}, ")
    assert "1 .jpg_large (an image by its content: rename it)" in line
    assert "1 .tar.gz (an archive" in line
    assert "1 nameless (an image without an extension: give it one)" in line
    assert "1 .xyz (no extension of an image)" in line
    assert line.endswith("1 link such as 'out.jpg' (lead out of the folder or nowhere: put the files into it)")
    counts = re.findall(r"(?:^|, )(\d+) ", line.removeprefix("skipped 11 files: "))
    assert sum(map(int, counts)) == 11


def test_many_kinds_stay_one_line(tmp_path: Path) -> None:
    for letter in "abcdefghijkl":
        (tmp_path / f"{letter}.x{letter}").write_text("no image")
    found = list_folder(tmp_path)
    assert found.skipped().endswith("4 of 4 further kinds (no extension of an image)")
    assert "\n" not in found.skipped()


def test_without_the_extras_pictures_of_phones_and_cameras_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = tuple(suffix for suffix in listing.EXTENSIONS if suffix not in (".heic", ".heif", ".hif", *RAW))
    monkeypatch.setattr(listing, "EXTENSIONS", plain)
    written(tmp_path, "a.jpg", *(f"{number}.heic" for number in range(8)), "x.cr2", "y.cr2", "z.NEF", "w.crw")
    assert list_folder(tmp_path).skipped() == (
        "skipped 12 files: 8 .heic (pip install 'underpaint[heif]'), "
        "2 .cr2, 1 .nef (pip install 'underpaint[raw]' for the previews in them), "
        "1 .crw (a camera's raw format: convert it to TIFF or JPEG)"
    )


@pytest.mark.parametrize("is_read", [True, False])
def test_a_raw_file_beside_its_jpeg_is_not_a_second_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_read: bool
) -> None:
    plain = {suffix for suffix in listing.EXTENSIONS if suffix not in RAW}
    monkeypatch.setattr(listing, "EXTENSIONS", (*plain, *RAW) if is_read else tuple(plain))
    written(tmp_path, "a.jpg", "a.cr2", "IMG_1.CR2", "img_1.JPG", "b.tif", "b.nef", "sub/a.nef", "c.jpg.cr2", "c.jpg")
    found = list_folder(tmp_path)
    assert found.paired == ("IMG_1.CR2", "a.cr2", "b.nef")
    alone = ("c.jpg.cr2", "sub/a.nef")
    assert found.images == tuple(sorted(("a.jpg", "b.tif", "c.jpg", "img_1.JPG", *(alone if is_read else ()))))
    assert keys(found.unread) == ([] if is_read else [*alone])
    line = "2 .cr2, 1 .nef (the image of the same name beside each is read)"
    assert line in found.skipped()
    assert found.skipped().startswith(f"skipped {3 if is_read else 5} files: {line}")


def test_links_inside_the_folder_are_followed_and_others_told(tmp_path: Path) -> None:
    root = written(tmp_path / "root", "pool/cat/a.jpg", "pool/dog/b.jpg", "c.jpg")
    outside = written(tmp_path / "outside", "secret.jpg")
    (root / "train").mkdir()
    (root / "train" / "cat").symlink_to("../pool/cat")
    (root / "train" / "dog").symlink_to(root / "pool" / "dog")
    (root / "d.jpg").symlink_to("pool/cat/a.jpg")
    (root / "e.jpg").symlink_to(outside / "secret.jpg")
    (root / "gone.jpg").symlink_to("nowhere.jpg")
    (root / "circle.jpg").symlink_to("circle.jpg")
    (root / "tree").symlink_to(outside)
    (root / "pool" / "up").symlink_to("..")
    (root / "again").symlink_to("pool/cat")
    found = list_folder(root)
    inside = ["c.jpg", "d.jpg", "pool/cat/a.jpg", "pool/dog/b.jpg"]
    assert [path for path in found.images if not path.startswith(("train/", "again/"))] == inside
    assert len(found.images) == 6
    assert [(problem.key, problem.reason) for problem in found.links if problem.reason == LINK] == [
        (key, LINK) for key in ("circle.jpg", "e.jpg", "gone.jpg", "tree")
    ]
    assert [problem.reason for problem in found.links if problem.reason == LOOP] == [LOOP] * 2
    assert "pool/up" in keys(found.links)


def test_folders_full_of_links_take_little_time(tmp_path: Path) -> None:
    """Each leads to all others: 12! paths, were they all followed."""
    names = [f"d{number}" for number in range(12)]
    written(tmp_path, *(f"{name}/a.jpg" for name in names))
    for one, other in itertools.permutations(names, 2):
        (tmp_path / one / other).symlink_to(f"../{other}")
    start = time.perf_counter()
    found = list_folder(tmp_path)
    assert time.perf_counter() - start < 5
    assert {f"{name}/a.jpg" for name in names} <= set(found.images)
    assert len(found.images) <= 2 * len(names)


def test_folders_that_programs_keep_are_passed_over_and_counted(tmp_path: Path) -> None:
    own = ["a/@eaDir/a.jpg", "a/@eaDir/b.jpg", "#recycle/c.jpg", "__MACOSX/a.jpg", "Catalog Previews.lrdata/1/d.jpg"]
    library = "Photos Library.photoslibrary"
    originals = [f"{library}/originals/0/e.jpg", "Masters/f.jpg", "resources/g.jpg", "a/h.jpg"]
    files = list_folder(written(tmp_path, *own, *originals, f"{library}/resources/derivatives/e.jpg"))
    assert files.images == tuple(sorted(originals))
    names = "#recycle, @eaDir, Catalog Previews.lrdata, __MACOSX, resources"
    assert files.skipped() == f"skipped 6 files: 6 in folders that programs keep for themselves ({names})"


def test_a_folder_says_what_it_skips(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path, "a.jpg", "b.jpg", "c.crw")
    open_source(f"{tmp_path}/")
    assert "skipped 1 file: 1 .crw (a camera's raw format" in capsys.readouterr().err
    empty = written(tmp_path / "raw", "a.x3f")
    with pytest.raises(ValueError, match=r"no images.*skipped 1 file: 1 \.x3f"):
        open_source(f"{empty}/")


@pytest.mark.skipif(os.name != "posix", reason="names of bytes")
def test_names_that_are_no_text_are_listed(tmp_path: Path) -> None:
    with open(os.fsencode(tmp_path) + b"/\xff.jpg", "wb") as file:
        file.write(encoded(Image.fromarray(np.zeros((4, 4, 3), np.uint8)), "JPEG"))
    assert len(list_folder(tmp_path).images) == 1
