"""Images in memory: the features and labels of the commands, timm's transform, and messages for wrong layouts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import torch
from PIL import Image
from timm.data.transforms_factory import create_transform
from torch.utils.data import Dataset
from torchvision.datasets import ImageFolder

import underpaint
from support.small_runs import mae_run, make_images, wsp_run
from underpaint.data.images import decode
from underpaint.data.pictures import stored
from underpaint.run import execute

FORMAT: dict[str, Any] = {"channels": 3, "value_range": (0.0, 255.0)}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_images(tmp_path_factory.mktemp("data") / "images", count=24)


@pytest.fixture(scope="module")
def runs(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    execute(mae_run(images, steps=2), folder / "mae")
    execute(wsp_run(images, steps=2), folder / "wsp")
    return folder


def test_the_command_the_encoder_and_timm_s_transform_agree(images: Path, runs: Path, tmp_path: Path) -> None:
    underpaint.embed(runs / "mae", images, tmp_path / "x.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "x.parquet").to_pylist()
    paths, written = [row["path"] for row in table], torch.tensor([row["embedding"] for row in table])
    encoder = underpaint.load_encoder(runs / "mae")
    config = encoder.config
    transform: Any = create_transform(
        (3, *config.size), interpolation="bicubic", crop_pct=0.875, mean=config.mean, std=config.std
    )
    views = torch.stack([transform(Image.open(path).convert("RGB")) for path in paths])
    with torch.no_grad():
        expected = encoder(views)[:, 0]
    torch.testing.assert_close(written, expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(encoder.embed(paths, batch_size=5), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(torch.stack([encoder.transform(path) for path in paths]), views, atol=1e-6, rtol=0)
    assert (encoder.embed(paths, view="stretch") - expected).abs().max() > 1e-3, "another view is another feature"


def forms(path: Path) -> dict[str, Any]:
    """An image in every form that ``encoder.embed`` takes; floats are those of torchvision's ToTensor."""
    pixels = np.asarray(Image.open(path).convert("RGB"))
    planes = torch.from_numpy(pixels.copy()).permute(2, 0, 1)
    return {
        "text": str(path),
        "path": path,
        "pillow": Image.open(path),
        "array": pixels,
        "with opacity": np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)]),
        "tensor": planes,
        "batch of arrays": pixels[None],
        "batch of tensors": planes[None],
        "list": [planes],
        "tuples": [(planes, 3)],
    }


def test_every_form_of_an_image_gives_the_same(images: Path, runs: Path) -> None:
    encoder = underpaint.load_encoder(runs / "mae")
    path = sorted(images.rglob("*.png"))[3]
    for name, given in forms(path).items():
        assert torch.equal(encoder.embed(given), encoder.embed(path)), name
    shares = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1) / 255
    torch.testing.assert_close(encoder.embed(shares), encoder.embed(path), atol=0.1, rtol=0)
    assert encoder.embed([]).shape == (0, 16)
    with pytest.raises(ValueError, match="images is of type dict; give one image, or a list"):
        encoder.embed({0: path})
    assert torch.equal(encoder.embed(path.parent.glob(path.name)), encoder.embed(path))


def test_pillow_images_are_read_as_their_files_are(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (9, 14, 3), dtype=np.uint8)
    picture, turned = Image.fromarray(pixels), Image.Exif()
    turned[0x0112] = 6
    picture.save(tmp_path / "turned.jpg", exif=turned)
    picture.convert("L").save(tmp_path / "grey.png")
    picture.convert("P").save(tmp_path / "palette.gif")
    picture.convert("CMYK").save(tmp_path / "inks.tif")
    Image.fromarray(np.dstack([pixels, pixels[..., 0]])).save(tmp_path / "opacity.png")
    Image.fromarray(np.dstack([pixels[..., 1], pixels[..., 0]])).save(tmp_path / "grey_opacity.png")
    for path in sorted(tmp_path.iterdir()):
        with Image.open(path) as opened:
            size, expected = opened.size, decode(path.read_bytes(), **FORMAT)
            assert torch.equal(stored(opened, **FORMAT), expected), path.name
            assert torch.equal(stored(opened, **FORMAT), expected), "a second time"
            assert opened.size == size, "the user's image stays as it is"
    deep = rng.integers(0, 4096, (9, 14), dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    declared = {"channels": 1, "value_range": (0.0, 4095.0)}
    expected = decode((tmp_path / "deep.png").read_bytes(), **declared)
    for given in (Image.open(tmp_path / "deep.png"), deep, deep[..., None], torch.from_numpy(deep.astype(np.int32))):
        assert torch.equal(stored(given, **declared), expected)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((3, 20, 24), np.uint8), r"\(3, 20, 24\) is not \(h, w, c\); use image.transpose\(1, 2, 0\)"),
        (torch.zeros(20, 24, 3), r"\(20, 24, 3\) is not \(c, h, w\); use image.permute\(2, 0, 1\)"),
        (torch.full((3, 8, 8), 200.0), "floats from 200 to 200 are not values in .0, 1.; divide pixels by 255"),
        (torch.randn(3, 8, 8), "give images before they are normalised"),
        (np.zeros((2, 3, 8, 8, 3), np.uint8), "is not one image"),
        (np.zeros((8, 8), bool), "of bool is not an image; give uint8 pixels"),
        (torch.full((3, 8, 8), torch.nan), "NaN or infinite"),
        (np.zeros((8, 8), np.uint16), "more than 8 bits"),
        ([torch.zeros(3, 8, 8), "absent.png"], r"images\[1\]: absent.png cannot be read: No such file"),
        ([{"image": 1}], r"images\[0\]: an item of type dict is not an image"),
    ],
)
def test_what_cannot_be_meant_is_said(runs: Path, given: Any, message: str) -> None:
    encoder = underpaint.load_encoder(runs / "mae")
    with pytest.raises(ValueError, match=message):
        encoder.embed(given)


@pytest.mark.parametrize(
    ("batch", "fix"),
    [
        (lambda: torch.zeros(1, 16, 16, 3), r"use image.permute\(0, 3, 1, 2\)"),
        (lambda: torch.zeros(1, 3, 16, 20), "transform"),
    ],
)
def test_a_network_called_on_another_layout_says_the_fix(
    runs: Path, batch: Callable[[], torch.Tensor], fix: str
) -> None:
    with pytest.raises(ValueError, match=fix):
        underpaint.load_encoder(runs / "mae")(batch())


class Own(Dataset[tuple[Any, int]]):
    """A dataset of one's own, as torch's tutorials write it."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return Image.open(self.paths[index]), index % 2


def test_a_dataset_of_torch_goes_in(images: Path, runs: Path) -> None:
    paths = sorted(images.rglob("*.png"))
    encoder = underpaint.load_encoder(runs / "mae")
    assert torch.equal(encoder.embed(Own(paths)), encoder.embed(paths))
    (images.parent / "classes").mkdir()
    (images.parent / "classes" / "all").symlink_to(images / "a")
    with_transform = ImageFolder(str(images.parent / "classes"), transform=encoder.transform)
    views = torch.stack([view for view, _ in with_transform])
    with torch.no_grad():
        tokens = encoder(views)
    torch.testing.assert_close(tokens[:, 0], encoder.embed([path for path, _ in with_transform.samples]))


def test_predictions_in_memory_are_those_of_the_files(images: Path, runs: Path) -> None:
    paths = sorted(images.rglob("*.png"))
    model = underpaint.load_model(runs / "wsp")
    expected = list(underpaint.predict(runs / "wsp", images, top=3))
    assert [row.path for row in expected] == paths
    opened = [Image.open(path) for path in paths]
    for given in (paths, iter(paths), opened, Own(paths), [np.asarray(picture) for picture in opened]):
        found = list(underpaint.predict(model, given, top=3))
        assert [[name for name, _ in row.labels] for row in found] == [[n for n, _ in row.labels] for row in expected]
        for row, same in zip(found, expected, strict=True):
            assert [value for _, value in row.labels] == pytest.approx([v for _, v in same.labels], abs=1e-6)
    (one,) = underpaint.predict(model, opened[0])
    assert one.path is None
    assert one.labels[0][0] == expected[0].labels[0][0]


def test_a_bad_image_in_memory_is_a_problem_of_its_own(images: Path, runs: Path) -> None:
    model = underpaint.load_model(runs / "wsp")
    good, bad = Image.open(sorted(images.rglob("*.png"))[0]), np.zeros((3, 20, 24), np.uint8)
    first, second = underpaint.predict(model, [bad, good])
    assert first.labels == ()
    assert "transpose" in first.problem
    assert (second.problem, len(second.labels)) == ("", 5)
    with pytest.raises(ValueError, match="none of 1 images gave anything; the first: an array of shape"):
        list(underpaint.predict(model, [bad]))
    with pytest.raises(ValueError, match="gives no labels"):
        underpaint.predict(underpaint.load_model(runs / "mae"), [good])
