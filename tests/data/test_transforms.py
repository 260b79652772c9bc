"""The two views of an image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import RandomResizedCrop
from torchvision.transforms.v2 import functional as reference

from underpaint.data.decode.transforms import eval_view, random_crop, train_view

IMAGE = torch.randint(0, 256, (3, 50, 70), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_the_evaluation_view_is_the_whole_image_as_pillow_resizes_it() -> None:
    found = eval_view(IMAGE, size=(24, 32))
    pixels = Image.fromarray(IMAGE.permute(1, 2, 0).numpy()).resize((32, 24), Image.Resampling.BICUBIC)
    assert np.abs(found.permute(1, 2, 0).numpy() - np.array(pixels) / 255).max() < 2 / 255


@pytest.mark.parametrize("size", [(20, 20), (50, 70), (90, 100)])
def test_views_stay_inside_the_unit_interval_and_leave_the_image_alone(size: tuple[int, int]) -> None:
    edges = torch.zeros(1, 50, 70)
    edges[:, :, 35:] = 1
    before = edges.clone()
    for view in (eval_view(edges, size=size), train_view(edges, size=size, scale=(0.9, 1.0), flip=True, seed=1)):
        assert view.min() >= 0
        assert view.max() <= 1
    assert torch.equal(edges, before)
    assert torch.equal(eval_view(IMAGE, size=(50, 70)), IMAGE / 255)


def test_the_training_view_is_the_drawn_crop_resized_and_sometimes_mirrored() -> None:
    mirrored = 0
    for seed in range(200):
        crop = random_crop(50, 70, scale=(0.2, 1.0), seed=seed)
        expected = reference.resized_crop(
            IMAGE / 255, *crop, size=[16, 24], interpolation=InterpolationMode.BICUBIC, antialias=True
        ).clamp(0, 1)
        found = train_view(IMAGE, size=(16, 24), scale=(0.2, 1.0), flip=True, seed=seed)
        if not torch.allclose(found, expected, atol=1e-5):
            mirrored += 1
            assert torch.allclose(found.flip(-1), expected, atol=1e-5)
        plain = train_view(IMAGE, size=(16, 24), scale=(0.2, 1.0), flip=False, seed=seed)
        assert torch.allclose(plain, expected, atol=1e-5)
    assert 70 < mirrored < 130


@pytest.mark.slow
@pytest.mark.parametrize(("height", "width"), [(72, 72), (48, 200), (200, 20)])
def test_crops_are_distributed_as_torchvision_draws_them(height: int, width: int) -> None:
    torch.manual_seed(0)
    cropper = RandomResizedCrop((8, 8), scale=(0.2, 1.0))
    image = torch.zeros(1, height, width)
    drawn = [cropper.make_params([image]) for _ in range(3000)]
    theirs = torch.tensor([[p["top"], p["left"], p["height"], p["width"]] for p in drawn], dtype=torch.float64)
    mine = torch.tensor(
        [random_crop(height, width, scale=(0.2, 1.0), seed=seed * 7919) for seed in range(3000)], dtype=torch.float64
    )
    for quantile in (0.1, 0.5, 0.9):
        difference = theirs.quantile(quantile, dim=0) - mine.quantile(quantile, dim=0)
        assert (difference.abs() <= 1.5 + 0.05 * torch.tensor([height, width, height, width])).all()
    assert torch.allclose(theirs.mean(0), mine.mean(0), atol=0.03 * max(height, width))
    top, left, tall, wide = mine.unbind(1)
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + tall <= height).all()
    assert (left + wide <= width).all()


def test_a_view_depends_on_its_seed_only() -> None:
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first = train_view(IMAGE, size=(16, 16), scale=(0.2, 1.0), flip=True, seed=5)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(10)
    assert torch.equal(train_view(IMAGE, size=(16, 16), scale=(0.2, 1.0), flip=True, seed=5), first)
    assert not torch.equal(train_view(IMAGE, size=(16, 16), scale=(0.2, 1.0), flip=True, seed=6), first)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (3000, 1)])
def test_extreme_shapes_have_views_too(shape: tuple[int, int]) -> None:
    image = torch.zeros(3, *shape, dtype=torch.uint8)
    assert train_view(image, size=(8, 8), scale=(0.2, 1.0), flip=True, seed=0).shape == (3, 8, 8)
    assert eval_view(image, size=(8, 8)).shape == (3, 8, 8)
