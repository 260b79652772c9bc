"""The evaluation view that an encoder's config asks for, against Pillow; and fields that older records lack."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import v2 as torchvision_transforms

from underpaint import config
from underpaint.data.decode.transforms import eval_view
from underpaint.data.loader import read_images
from underpaint.data.open_source import open_source
from underpaint.models.vit import ViT, ViTConfig

SHAPES = [(60, 90), (90, 60), (70, 70), (33, 200), (201, 34), (20, 24)]
PILLOW = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)


def pillow_resize(image: np.ndarray, size: tuple[int, int], resample: Image.Resampling) -> np.ndarray:
    """Pillow on 32-bit channels, which does not round between its two passes; values in [0, 1], (c, h, w)."""
    channels = [Image.fromarray(image[..., c].astype(np.float32)) for c in range(3)]
    resized = [np.asarray(channel.resize(size[::-1], resample)) for channel in channels]
    return np.stack(resized).clip(0, 255) / 255


def tensor(image: np.ndarray) -> Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_square_resize_of_finetuned_maws_is_pillows(shape: tuple[int, int]) -> None:
    image = picture(*shape)
    found = eval_view(tensor(image), size=(48, 48), view="stretch").numpy()
    assert np.abs(found - pillow_resize(image, (48, 48), PILLOW["bicubic"])).max() < 1e-5


@pytest.mark.parametrize("shape", SHAPES)
def test_the_square_resize_is_pillows_in_eight_bits_up_to_its_rounding(shape: tuple[int, int]) -> None:
    coarse = Image.fromarray(
        picture(6, 8)
    )  # smooth: in noise the overshoot that Pillow clips between its passes counts
    image = np.asarray(coarse.resize(shape[::-1], PILLOW["bilinear"]))
    expected = np.asarray(Image.fromarray(image).resize((48, 48), PILLOW["bicubic"])) / 255
    found = eval_view(tensor(image.copy()), size=(48, 48)).permute(1, 2, 0).numpy()
    assert np.abs(found - expected).max() < 2 / 255


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("share", [1.0, 0.875, 0.9])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_centre_crop_is_pillows(shape: tuple[int, int], share: float, interpolation) -> None:
    image = picture(*shape)
    found = eval_view(tensor(image), size=(32, 32), view="crop", crop_share=share, interpolation=interpolation)
    short = int(32 / share)
    size = tuple(short if side == min(shape) else int(short * side / min(shape)) for side in shape)
    top, left = (round((side - 32) / 2) for side in size)
    expected = pillow_resize(image, (size[0], size[1]), PILLOW[interpolation])[:, top : top + 32, left : left + 32]
    assert np.abs(found.numpy() - expected).max() < 1e-5


@pytest.mark.parametrize("shape", SHAPES)
def test_the_centre_crop_is_torchvisions(shape: tuple[int, int]) -> None:
    """The transform of MAE's evaluation and of torchvision's weights: resize the short side to 256, cut 224."""
    image = tensor(picture(*shape))
    theirs = torchvision_transforms.Compose(
        [
            torchvision_transforms.Resize(256, interpolation=InterpolationMode.BICUBIC, antialias=True),
            torchvision_transforms.CenterCrop(224),
        ]
    )
    found = eval_view(image, size=(224, 224), view="crop", crop_share=0.875)
    torch.testing.assert_close(found, theirs(image / 255).clamp(0, 1), rtol=0, atol=1e-5)


def test_a_crop_that_is_not_square_covers_both_sides() -> None:
    for shape in SHAPES:
        assert eval_view(tensor(picture(*shape)), size=(24, 40), view="crop", crop_share=0.9).shape == (3, 24, 40)


def test_evaluation_reads_images_as_the_encoders_config_says(tmp_path: Path) -> None:
    image = picture(60, 90)
    Image.fromarray(image).save(tmp_path / "a.png")
    source = open_source(str(tmp_path))
    encoder = ViTConfig(size=(32, 32), patch=8, width=32, heads=2, view="crop", crop_share=0.875)
    cropped, _ = read_images(source, [0], format=encoder.image_input)
    stretched, _ = read_images(source, [0], format=replace(encoder, view="stretch").image_input)
    plain = {"mean": encoder.mean, "std": encoder.std}
    expected = eval_view(tensor(image), size=(32, 32), view="crop", crop_share=0.875)
    back = cropped[0] * torch.tensor(plain["std"])[:, None, None] + torch.tensor(plain["mean"])[:, None, None]
    torch.testing.assert_close(back, expected, rtol=0, atol=1e-6)
    assert not torch.equal(cropped, stretched)


def test_a_record_of_an_older_release_means_the_defaults_and_writes_the_same_again() -> None:
    older = config.record(ViTConfig())
    assert not {"view", "crop_share", "interpolation", "norm_eps"} & older.keys()
    assert config.from_record(ViTConfig, older, where="x") == ViTConfig()
    other = ViTConfig(view="crop", crop_share=0.875, norm_eps=1e-12)
    recorded = json.loads(json.dumps(config.record(other)))
    assert recorded["view"] == "crop"
    assert "interpolation" not in recorded
    assert config.from_record(ViTConfig, recorded, where="x") == other


@pytest.mark.parametrize(
    ("change", "message"),
    [({"crop_share": 0.0}, "crop_share=0.0"), ({"crop_share": 1.5}, "crop_share=1.5"), ({"norm_eps": 0.0}, "norm_eps")],
)
def test_impossible_values_are_refused(change: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(ViTConfig(), **change)


def test_every_layer_norm_has_the_epsilon_of_the_config() -> None:
    vit = ViT(ViTConfig(size=(16, 16), patch=8, width=16, depth=2, heads=2, norm_eps=1e-12))
    norms = [module for module in vit.modules() if isinstance(module, torch.nn.LayerNorm)]
    assert len(norms) == 5
    assert {norm.eps for norm in norms} == {1e-12}
