"""Scenes for detection: masks equal to what is seen, splits that share nothing, the same bytes for the same seed."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from support.image_copies import photograph
from underpaint.__main__ import main
from underpaint.data.decode.limits import BadImage
from underpaint.data.detection.annotations import read_annotations
from underpaint.data.detection.dataset import DetectionData
from underpaint.preparation.scenes.composing import compose
from underpaint.preparation.scenes.cutouts import cut_out
from underpaint.preparation.scenes.scene_sets import SceneOptions, prepare_scenes, run_lengths

COLOURS = ((255, 0, 0), (0, 0, 255))
SIDE = 64


def disc(colour: tuple[int, int, int], *, size: int = 40, transparent: bool) -> Image.Image:
    """A disc on white or on nothing."""
    picture = Image.new("RGBA", (size, size), (0, 0, 0, 0) if transparent else (255, 255, 255, 255))
    ImageDraw.Draw(picture).ellipse((4, 4, size - 5, size - 5), fill=(*colour, 255))
    return picture if transparent else picture.convert("RGB")


def encoded(picture: Image.Image) -> bytes:
    content = io.BytesIO()
    picture.save(content, "PNG")
    return content.getvalue()


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Discs of two classes, on white or transparent, an opaque picture among them; photographs, one of them twice."""
    root = tmp_path_factory.mktemp("sources")
    for name, colour in zip(("red", "blue"), COLOURS, strict=True):
        (root / "objects" / name).mkdir(parents=True)
        for number in range(8):
            picture = disc(colour, size=40 + number, transparent=number % 2 == 0)
            picture.save(root / "objects" / name / f"{number}.png")
    photograph(99).save(root / "objects" / "red" / "opaque.png")
    (root / "photos").mkdir()
    for number in range(20):
        photograph(number).save(root / "photos" / f"{number:02d}.png")
    (root / "photos" / "copy.png").write_bytes((root / "photos" / "03.png").read_bytes())
    (root / "photos" / "broken.png").write_bytes(b"broken")
    return root / "objects", root / "photos"


@pytest.fixture(scope="module")
def scenes(sources: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "scenes"
    words = ["prepare", str(sources[0]), "--backgrounds", str(sources[1]), "--scenes", "20", "--side", str(SIDE)]
    assert main([*words, "--out", str(out)]) == 0
    return out


def test_masks_are_the_pixels_that_are_seen() -> None:
    """On a green ground the pixels of each colour are those of the masks of its class, wherever objects overlap."""
    ground = np.full((90, 120, 3), (0, 255, 0), dtype=np.uint8)
    cutouts = [cut_out(encoded(disc(colour, transparent=True)), side=SIDE) for colour in COLOURS]
    hidden = 0
    for seed in range(30):
        scene = compose(ground, lambda draw: (int(draw * 2), cutouts[int(draw * 2)], True), side=SIDE, seed=seed)
        seen = np.zeros((SIDE, SIDE), dtype=bool)
        for label, colour in enumerate(COLOURS):
            masks = [each.mask for each in scene.objects if each.label == label]
            union = np.any(masks, axis=0) if masks else np.zeros((SIDE, SIDE), dtype=bool)
            painted = (scene.image != (0, 255, 0)).any(axis=2)  # edges are blends, of the upper colour for the most
            stronger = scene.image[..., (0, 2)[label]] > scene.image[..., (2, 0)[label]]
            assert (union == (painted & stronger)).all(), colour
            assert sum(int(mask.sum()) for mask in masks) == union.sum()
            hidden += len(masks) - int(union.any())
            seen |= union
        assert (scene.image[~seen] == (0, 255, 0)).all()
        assert 1 <= len(scene.objects) <= 5
    assert hidden > 10


def test_a_cut_out_keeps_what_the_ground_does_not_reach() -> None:
    picture = disc(COLOURS[0], transparent=False)
    ImageDraw.Draw(picture).ellipse((15, 15, 24, 24), fill=(255, 255, 255))
    cutout = cut_out(encoded(picture), side=SIDE)
    assert cutout.shape == (32, 32, 4)
    assert cutout[16, 16].tolist() == [255, 255, 255, 255]
    assert cutout[0, 0, 3] == 0
    with pytest.raises(BadImage, match="transparent parts or a white ground"):
        cut_out(encoded(photograph(1)), side=SIDE)
    assert max(cut_out(encoded(disc(COLOURS[0], size=200, transparent=True)), side=SIDE).shape[:2]) == SIDE


def test_run_lengths_are_those_of_pycocotools() -> None:
    from pycocotools import mask as coco_mask

    rng = np.random.default_rng(0)
    for share in (0.0, 0.3, 1.0):
        mask = rng.random((7, 5)) < share
        packed: Any = coco_mask.frPyObjects({"size": [7, 5], "counts": run_lengths(mask)}, 7, 5)  # pyright: ignore
        theirs: Any = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        assert packed["counts"] == theirs["counts"]


def test_annotations_are_those_of_the_pictures(scenes: Path) -> None:
    from pycocotools.coco import COCO

    record = json.loads((scenes / "scenes.json").read_text())
    assert record["scenes"] == {"train": 20, "val": 4}
    assert record["left_out"] == 2
    assert record["classes"] == ["blue", "red"]
    for name in ("train", "val"):
        table = read_annotations(scenes / f"{name}.json")
        assert not table.bad
        assert len(table.boxes) == record["annotations"][name]
        with contextlib.redirect_stdout(io.StringIO()):
            truth: Any = COCO(str(scenes / f"{name}.json"))
        for each in truth.anns.values():
            x, y, width, height = each["bbox"]
            assert 0 <= x < x + width <= SIDE
            assert 0 <= y < y + height <= SIDE
            assert 0 < each["area"] <= width * height
        with Image.open(scenes / name / "000000.png") as picture:
            assert picture.size == (SIDE, SIDE)
    data = DetectionData(annotations=str(scenes / "train.json"), images=str(scenes / "train")).open()
    assert data.vocabulary.labels == ("blue", "red")


def test_the_same_seed_gives_the_same_files(sources: tuple[Path, Path], scenes: Path, tmp_path: Path) -> None:
    options = SceneOptions(objects=str(sources[0]), backgrounds=str(sources[1]), scenes=20, side=SIDE)
    prepare_scenes(options, tmp_path / "again")
    names = sorted(path.relative_to(scenes) for path in scenes.rglob("*") if path.is_file())
    assert len(names) == 24 + 3
    for name in names:
        assert (tmp_path / "again" / name).read_bytes() == (scenes / name).read_bytes(), name
    with pytest.raises(ValueError, match="exists already"):
        prepare_scenes(options, tmp_path / "again")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--scenes", "3"], "--backgrounds DIR"),
        (["--backgrounds", "{photos}"], "add --scenes N"),
        (["--scenes", "3", "--backgrounds", "{photos}", "--dedupe"], "--dedupe is not for scenes"),
        (["--scenes", "0", "--backgrounds", "{photos}"], "scenes=0 must lie between"),
        (["--scenes", "3", "--backgrounds", "{photos}", "--side", "8"], "side=8 must lie between"),
        (["--scenes", "3", "--backgrounds", "{objects}/blue/0.png"], "0.png"),
    ],
)
def test_wrong_words_are_refused(
    sources: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], reason: str
) -> None:
    words = [word.format(objects=sources[0], photos=sources[1]) for word in words]
    assert main(["prepare", str(sources[0]), *words, "--out", str(tmp_path / "out")]) == 2
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_photographs_cannot_be_objects(
    sources: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(6):
        (tmp_path / "photos" / str(number % 2)).mkdir(parents=True, exist_ok=True)
        photograph(number).save(tmp_path / "photos" / str(number % 2) / f"{number}.png")
    words = ["prepare", str(tmp_path / "photos"), "--scenes", "3", "--backgrounds", str(sources[1])]
    assert main([*words, "--out", str(tmp_path / "out")]) == 2
    assert "no class with pictures to train and to test on that can be cut out" in capsys.readouterr().err
