"""What networks say about a batch of another layout, type or size, instead of torch from somewhere inside."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from underpaint.core import DataInfo
from underpaint.models.detector.backbone import WindowedViT
from underpaint.models.mae_decoder import DecoderConfig
from underpaint.models.video import ClipConfig, VideoViT
from underpaint.models.vit import ViT, ViTConfig
from underpaint.objectives.classify import ClassifyConfig
from underpaint.objectives.mae import MAEConfig

SMALL = ViTConfig(size=(16, 24), patch=8, width=16, depth=1, heads=2)


@pytest.fixture(autouse=True)
def as_users_have_it() -> Iterator[None]:
    """Annotations of the package are checked in tests alone, and would refuse these tensors first."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def variants(x: Tensor, name: str) -> dict[str, tuple[Any, str]]:
    """Batches that are not what a network takes, each with the shape or type and the fix that the message has."""
    last = list(range(1, x.ndim - 1))
    back = ", ".join(map(str, [0, x.ndim - 1, *last]))
    return {
        "uint8": (x.to(torch.uint8), "type uint8"),
        "double": (x.double(), f"type float64.*use {name}.to.torch.float32."),
        "half": (x.half(), f"type float16.*use {name}.to.torch.float32."),
        "channels last": (x.movedim(1, -1), rf"the channels are last: use {name}.permute\({back}\)"),
        "one": (x[0], rf"this is one {name}: {name}\[None\] is a batch of one"),
        "one channel": (x[:, :1], rf"shape \(2, 1, {', '.join(map(str, x.shape[2:]))}\)"),
        "narrow": (x[..., :-1], f"shape .*{x.shape[-1] - 1}.*takes normalised floats"),
        "an axis more": (x[None], r"shape \(1, 2, 3, "),
        "flat": (x.flatten(), "shape "),
        "numpy": (x.numpy(), "of type ndarray"),
        "list": ([x], "of type list"),
    }


def refuses_all(call: Any, x: Tensor, name: str = "image") -> None:
    call(x)
    for given, message in variants(x, name).values():
        with pytest.raises(ValueError, match=f"^{name} .*{message}"):
            call(given)


def objective(kind: str) -> nn.Module:
    decoder = DecoderConfig(width=16, depth=1, heads=2)
    configs: dict[str, Any] = {
        "mae": MAEConfig(encoder=SMALL, decoder=decoder),
        "mae of two masks": MAEConfig(encoder=SMALL, decoder=decoder, masks_per_image=2),
        "wsp": ClassifyConfig(encoder=SMALL, stage="wsp"),
    }
    return configs[kind].build(DataInfo(seed=0, labels=("a", "b"), label_count=(1, 1), images=2))


@pytest.mark.parametrize("kind", ["mae", "mae of two masks", "wsp"])
def test_an_objective_of_images_names_shape_and_fix(kind: str) -> None:
    network = objective(kind).eval()
    rest = {"position": torch.arange(2), "weight": torch.ones(2), "labels": torch.zeros(2, 1, dtype=torch.int64)}
    refuses_all(lambda image: network({**rest, "image": image}), torch.randn(2, 3, 16, 24))


def test_an_encoder_names_shape_and_fix() -> None:
    refuses_all(ViT(SMALL), torch.randn(2, 3, 16, 24))


def test_an_encoder_of_clips_names_shape_and_fix() -> None:
    clip = ClipConfig(frames=4, tubelet=2)
    encoder, x = VideoViT(SMALL, clip), torch.randn(2, 3, 4, 16, 24)
    refuses_all(encoder, x, name="clip")
    with pytest.raises(ValueError, match=r"the channels are axis 2: use clip.permute\(0, 2, 1, 3, 4\)"):
        encoder(x.movedim(1, 2))


def test_the_backbone_of_a_detector_names_shape_and_fix() -> None:
    refuses_all(WindowedViT(SMALL, window=2, global_blocks=(0,)), torch.randn(2, 3, 16, 24))


def test_autocast_takes_halves_and_no_doubles() -> None:
    encoder, x = ViT(SMALL), torch.randn(2, 3, 16, 24)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert encoder(x.bfloat16()).shape == (2, 7, 16)
        with pytest.raises(ValueError, match="float64"):
            encoder(x.double())
    assert encoder.double()(x.double()).dtype == torch.float64
    with pytest.raises(ValueError, match=r"use image.to.torch.float64."):
        encoder(torch.from_numpy(np.zeros((2, 3, 16, 24), np.float32)))
