"""A first look at a folder: what was planted in it is counted, and the commands start as they are printed."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest
from PIL import Image

import underpaint
from support.image_copies import jpeg, photograph
from support.image_files import encoded
from support.prepare_examples import picture, write_files
from underpaint import first_look
from underpaint.cli.main import main
from underpaint.data.folders import folder as folders
from underpaint.data.folders.listing import list_folder
from underpaint.first_look import look
from underpaint.fitted_recipes import NETWORKS, Fitted
from underpaint.preparation.first_lines import first_lines
from underpaint.preparation.folder_survey import survey
from underpaint.preparation.inputs import describe

FITTED = Fitted(recipe="mae_laptop", fields=(), network=NETWORKS[0], device="cpu", seconds=1.0)
PACKET = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:subject><rdf:Bag>{}</rdf:Bag></dc:subject>
</rdf:Description></rdf:RDF></x:xmpmeta>"""


def keywords(*words: str) -> bytes:
    """An XMP packet with these words."""
    return PACKET.format("".join(f"<rdf:li>{word}</rdf:li>" for word in words)).encode()


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve photographs and what lies beside such: two copies, XMP files, thumbnails, a raw file, a broken one."""
    shots = {f"{'birds' if n % 2 else 'cats'}/{n}.jpg": encoded(photograph(n), "JPEG", quality=95) for n in range(12)}
    files = {
        **shots,
        "birds/1_again.jpg": encoded(jpeg(photograph(1)), "JPEG", quality=90),
        "phone/copy.jpg": shots["cats/2.jpg"],
        "cats/4.jpg": encoded(photograph(4), "JPEG", xmp=keywords("dog", "snow")),
        "cats/6.jpg": encoded(photograph(6), "JPEG", xmp=keywords("dog")),
        "cats/6.xmp": keywords("owl"),
        "birds/3.jpg.xmp": keywords("hund", "owl"),
        "birds/5.txt": b"owl, tree",
        "birds/cut.jpg": b"\xff\xd8\xff\xe0 cut",
        "birds/@eaDir/1.jpg": picture(1, "jpg"),
        "birds/raw.crw": b"raw",
    }
    folder = write_files(tmp_path_factory.mktemp("look") / "photos", files)
    for path in folder.rglob("*.jpg"):
        os.utime(path, (1e9, 1e9))
    return folder


def test_what_was_planted_is_counted(photos: Path) -> None:
    found = survey(photos)
    assert (found.images, dict(found.kinds), sum(found.left_out.values())) == (15, {".jpg": 15}, 1)
    assert found.short_side == (96, 96, 96)
    assert ".crw" in found.skipped
    assert "1 in folders that programs keep for themselves (@eaDir)" in found.skipped
    assert (found.copies.exact, found.copies.near, found.copies.same_folder) == (1, 1, 1)
    assert found.tags.origins == {"folder": 10, "inside": 1, "xmp": 2, "text": 1}
    assert (found.tags.images, found.tags.newer_sidecars) == (14, 2)
    assert dict(found.tags.most)["owl"] == 3
    assert dict(found.classes) == {"birds": 8, "cats": 6, "phone": 1}
    told = "\n".join(found.lines())
    for line in ("15 images (15 .jpg)", "14 of 14 images have tags, from names of folders alone 10", "1 exact copies"):
        assert line in told
    assert "most tags say in which folder an image lies" in told


def test_images_that_were_cut_off_are_told_as_prepare_tells_them(tmp_path: Path) -> None:
    """Their header is whole; an image that shows nothing is none of them."""
    whole, plain = encoded(photograph(1), "JPEG"), encoded(Image.new("RGB", (40, 40)), "PNG")
    half = whole[: len(whole) // 2]
    files = {"a/1.jpg": whole, "a/cut.jpg": half, "b/again.jpg": half, "b/black.png": plain}
    photos = write_files(tmp_path / "photos", files)
    found = survey(photos)
    record = underpaint.prepare(photos, tmp_path / "set")
    assert (found.usable, record["counts"]["images"]) == (2, 2)
    assert dict(found.left_out) == record["counts"]["reasons"] == {"cannot be decoded: the file is truncated": 2}
    assert (found.copies.exact, found.tags.images) == (0, 2)


def test_a_folder_is_listed_once(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[Path] = []
    monkeypatch.setattr(folders, "list_folder", lambda root: calls.append(root) or list_folder(root))
    monkeypatch.setattr(first_look, "fit", lambda *_, **__: FITTED)
    looked = look(photos)
    assert calls == [photos]
    assert str(looked).count("skipped") == 1
    assert "skipped" not in capsys.readouterr().err, "the survey says it"


def test_prepare_begins_with_a_look_at_some_images(photos: Path) -> None:
    (source,) = describe([str(photos)])
    first, skipped, origins, broken = first_lines(source, list_folder(photos), folder_tags="last", has_table=False)
    assert (first, skipped) == ("  photos: 15 images (15 .jpg)", f"  {list_folder(photos).skipped()}")
    assert origins.startswith("  of 15 images looked at, 14 have tags, from names of folders alone 10; ")
    assert {"XMP files beside images 2", "keywords inside images 1"} < set(origins.split("; "))
    assert broken.startswith("  1 of them cannot be used: ")
    lines = first_lines(source, list_folder(photos), folder_tags="none", has_table=True)
    assert lines[2].startswith("  of 15 images looked at, 4 have tags, from XMP files beside images 2")
    assert lines[2].endswith(" beside a table's")


def test_a_folder_s_own_table_counts(tmp_path: Path) -> None:
    folder = write_files(tmp_path / "drawings", {f"{number}.png": picture(number) for number in range(4)})
    (folder / "tags.csv").write_text("path,tags\n0.png,cat;tree\n1.png,cat\n9.png,owl\n")
    found = survey(folder)
    assert found.tags.origins == {"table": 2}
    assert "2 images have a row in tags.csv" in found.tables[0]
    assert found.classes == {}
    assert "no classes to transfer to" in "\n".join(found.lines())


def test_only_what_can_be_trained_is_shown(tmp_path: Path) -> None:
    few = write_files(tmp_path / "few", {"a.png": picture(0), "b.png": picture(1)})
    (line,) = (command.line for command in look(few).commands)
    assert line == f"underpaint prepare {few} --out sets/few"
    with pytest.raises(ValueError, match="--minutes -1"):
        look(few, minutes=-1)


@pytest.mark.slow
def test_every_command_starts_as_it_is_printed(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["look", str(photos), "--minutes", "0.01"]) == 0
    lines = [line.partition("#")[0].strip() for line in capsys.readouterr().out.splitlines()]
    commands = [shlex.split(line) for line in lines if line.startswith("underpaint ")]
    assert [command[1] for command in commands] == ["prepare", "train", "train", "predict", "eval", "embed"]
    for command in commands:
        assert main(command[1:]) == 0, shlex.join(command)
