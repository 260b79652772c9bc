"""The published evaluation views, against timm's transforms of the same image, and at sizes of their own."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from timm.data.transforms_factory import create_transform
from torch import Tensor

from support.image_files import noise
from underpaint import verbs
from underpaint.core import ImageInput
from underpaint.data.decode.transforms import eval_view
from underpaint.data.loader import read_encoded
from underpaint.evals.knn import Knn
from underpaint.evals.linear import Linear
from underpaint.evals.view import classifier_input, evaluation_input, view_name
from underpaint.models.vit import ViT, ViTConfig
from underpaint.models.weights import at_size, load_encoder, resize_positions, save_encoder
from underpaint.run.outputs import load_model
from underpaint.weights.importing import import_weights

SHAPES = [(300, 420), (500, 333), (224, 224), (256, 256), (91, 700)]
TIMM: dict[str, Any] = {"patch_size": 16, "embed_dim": 64, "depth": 2, "num_heads": 2, "num_classes": 7}
"""A small ViT for images of 224 pixels."""


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def picture(shape: tuple[int, int]) -> np.ndarray:
    """A smooth picture with noise, as photographs are."""
    small = Image.fromarray(noise(shape[0], (9, 13))).resize((shape[1], shape[0]), Image.Resampling.BICUBIC)
    return (np.asarray(small) * 0.9 + noise(1, shape) * 0.1).astype(np.uint8)


def shown(pixels: np.ndarray, image: ImageInput) -> Tensor:
    views, problems = read_encoded([lambda: png(pixels)], format=image)
    assert problems == [""]
    return views[0]


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A timm ViT with random weights, imported as its users would, and the network itself."""
    folder = tmp_path_factory.mktemp("timm")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: Any = timm.create_model("vit_tiny_patch16_224", **TIMM).eval()
        torch.nn.init.normal_(model.get_parameter("head.weight"))
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, folder / "vit.safetensors")
    settings = {"mean": "0.5,0.5,0.5", "std": "0.5,0.5,0.5", "heads": "2", "licence": "Apache-2.0"}
    (folder / "names.txt").write_text("".join(f"class {number}\n" for number in range(7)))
    assignments = [f"{name}={value}" for name, value in settings.items()] + [f"labels={folder / 'names.txt'}"]
    import_weights(folder / "vit.safetensors", folder / "imported", assignments)
    return folder / "imported", model


@pytest.mark.parametrize("shape", SHAPES)
def test_an_imported_vit_gives_timms_logits(imported: tuple[Path, Any], shape: tuple[int, int]) -> None:
    """Acceptance: through the 224 crop as through timm's transform of the same picture, to 1e-5."""
    folder, theirs = imported
    ours: Any = load_model(folder)
    transform: Any = create_transform(224, interpolation="bicubic", crop_pct=0.875, mean=(0.5,) * 3, std=(0.5,) * 3)
    pixels = picture(shape)
    view = shown(pixels, evaluation_input(ours.image_input, "mae"))
    expected = transform(Image.fromarray(pixels))
    with torch.no_grad():
        torch.testing.assert_close(ours.logits(view[None]), theirs(expected[None]), rtol=0, atol=1e-5)
    assert view_name(evaluation_input(ours.image_input, "mae")) == "crop@224/256"


@pytest.mark.parametrize(
    ("preset", "size", "patch", "mode", "share", "name"),
    [
        ("mae", 224, 16, "center", 0.875, "crop@224/256"),
        ("maws", 512, 16, "squash", 1.0, "stretch@512"),
        ("maws", 518, 14, "squash", 1.0, "stretch@518"),
        ("swag", 224, 16, "center", 1.0, "crop@224/224"),
        ("crop@96/128", 96, 8, "center", 0.75, "crop@96/128"),
        ("stretch@48", 48, 8, "squash", 1.0, "stretch@48"),
    ],
)
def test_each_preset_is_timms_transform(preset: str, size: int, patch: int, mode: str, share: float, name: str) -> None:
    encoder = ViTConfig(size=(patch * 4, patch * 4), patch=patch, width=16, heads=2)
    image = evaluation_input(encoder.image_input, preset, patch=patch)
    assert (image.size, view_name(image)) == ((size, size), name)
    transform: Any = create_transform(
        size, interpolation="bicubic", crop_pct=share, crop_mode=mode, mean=encoder.mean, std=encoder.std
    )
    for shape in SHAPES[:3]:
        expected = transform(Image.fromarray(picture(shape)))
        torch.testing.assert_close(shown(picture(shape), image), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3, 4, 5])
def test_channels_are_resized_alike_whatever_their_number(channels: int) -> None:
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (90, 70, channels), np.uint8)).permute(2, 0, 1)
    planes = [Image.fromarray(plane.numpy()).resize((48, 32), Image.Resampling.BICUBIC) for plane in image.contiguous()]
    viewed = eval_view(image, size=(32, 48), eight_bit=True)
    np.testing.assert_array_equal(viewed.numpy(), np.stack(planes).astype(np.float32) / np.float32(255))


@pytest.mark.parametrize("size", range(8, 260, 12))
def test_a_view_in_full_names_itself(size: int) -> None:
    encoder = ViTConfig(size=(size, size), patch=4, width=16, heads=2).image_input
    for setting in ("published", "stretch", "crop", "crop_oblong", f"crop@{size}/{size + 7}"):
        name = view_name(evaluation_input(encoder, setting))
        assert view_name(evaluation_input(encoder, name)) == name


def test_a_square_picture_is_cropped_by_default_as_published() -> None:
    encoder = ViTConfig(size=(32, 32), patch=8, width=16, heads=2)
    default = evaluation_input(encoder.image_input, Linear(dataset="d").view)
    assert view_name(default) == "crop@32/36"
    assert default.eight_bit
    assert not torch.equal(shown(picture((64, 64)), default), shown(picture((64, 64)), encoder.image_input))
    own_crop = dataclasses.replace(encoder.image_input, view="crop", crop_share=0.9)
    assert view_name(evaluation_input(own_crop, "published")) == "crop@32/35"


def test_an_encoder_is_shown_a_preset_of_another_size_with_resized_positions(
    imported: tuple[Path, Any],
) -> None:
    encoder = load_encoder(imported[0])
    larger = at_size(encoder, (96, 64))
    expected = resize_positions(encoder.pos_embed, (14, 14), (6, 4))
    torch.testing.assert_close(larger.pos_embed, expected)
    shared, of_encoder = larger.state_dict(), encoder.state_dict()
    assert {name for name in shared if shared[name].data_ptr() != of_encoder[name].data_ptr()} == {"pos_embed"}
    assert larger(torch.zeros(1, 3, 96, 64)).shape == (1, 25, 64)
    with pytest.raises(ValueError, match="not divisible by patch=16"):
        at_size(encoder, (100, 100))


def test_the_rows_of_an_evaluation_name_a_preset_in_full(tmp_path: Path) -> None:
    for number in range(8):
        place = tmp_path / "images" / ("train", "val")[number % 2] / f"class {number // 2 % 2}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(number, (40, 50))).save(place / f"{number}.png")
    run = tmp_path / "run"
    with torch.random.fork_rng():
        save_encoder(run / "encoder", ViT(ViTConfig(size=(32, 32), patch=8, width=16, depth=1, heads=2)))
    dataset = f"{tmp_path / 'images'}"
    (row,) = verbs.evaluate(Knn(dataset=dataset, view="crop@16/20", k=1), run)
    assert row.get("view") == "crop@16/20"


@pytest.mark.parametrize(
    ("view", "message"),
    [
        ("crap", r"view='crap' is not a view; write one of published, encoder, stretch, crop, crop_oblong, mae, maws"),
        ("crop@224/200", r"cuts 224 pixels out of 200"),
        ("stretch@224/256", r"cuts nothing off; leave out /256"),
    ],
)
def test_what_is_not_a_view_is_refused(view: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Linear(dataset="d", view=view)


def test_a_classifier_is_not_shown_images_of_another_size(imported: tuple[Path, Any]) -> None:
    model: Any = load_model(imported[0])
    image = model.image_input
    assert view_name(classifier_input(image, "swag")) == "crop@224/224"
    with pytest.raises(ValueError, match=r"view=maws is stretch@512, and this classifier takes images of 224 x 224"):
        classifier_input(image, "maws")
