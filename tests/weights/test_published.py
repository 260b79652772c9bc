"""The released files by their published shapes: recognised at every size, with nothing left to tell.

From the tables of paper.md 1.1, 1.6, 2.2 and 6.1; positions alone have values, all zero.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from support import clip_examples as clips
from support import weights_examples as examples
from underpaint.data.loader import read_files
from underpaint.models.formats import recognise
from underpaint.models.formats.key_patterns import ForeignFile
from underpaint.models.sizes import SIZES
from underpaint.models.text_tower import TextConfig
from underpaint.models.vit import IMAGENET_MEAN, IMAGENET_STD, ViTConfig
from underpaint.models.weights import load_encoder
from underpaint.weights.importing import import_weights

Shapes = dict[str, tuple[int, ...]]

PUBLISHED = {  # width, depth, heads, patch
    "vit_b16": (768, 12, 12, 16),
    "vit_l16": (1024, 24, 16, 16),
    "vit_h14": (1280, 32, 16, 14),
    "vit_2b14": (2560, 24, 32, 14),
    "vit_6.5b14": (4096, 32, 32, 14),
}
CLIP = {  # text width, depth, heads, common width
    "vit_b16": (768, 12, 12, 768),
    "vit_l16": (1024, 24, 16, 1024),
    "vit_h14": (1024, 24, 16, 1024),
    "vit_2b14": (1024, 24, 16, 2048),
}


def encoder_shapes(size: str, pixels: int = 224) -> Shapes:
    width, depth, _, patch = PUBLISHED[size]
    small = examples.maws_tensors(patch=8)
    shapes: Shapes = {}
    for name, value in small.items():
        for block in range(depth) if name.startswith("blocks.0.") else () if name.startswith("blocks.") else (0,):
            factor = width // examples.WIDTH
            shapes[name.replace("blocks.0.", f"blocks.{block}.")] = tuple(
                side * factor if side % examples.WIDTH == 0 else side for side in value.shape
            )
    return shapes | {
        "patch_embed.proj.weight": (width, 3, patch, patch),
        "pos_embed": (1, (pixels // patch) ** 2 + 1, width),
    }


def clip_shapes(size: str, *, older: bool) -> Shapes:
    width, depth, _, joint = CLIP[size]
    shapes: Shapes = {f"vision_encoder.{name}": shape for name, shape in encoder_shapes(size).items()}
    for name, value in clips.clip_tensors(40).items():
        if name.startswith("vision_encoder."):
            continue
        for block in range(depth) if ".layers.0." in name else () if ".layers.layers." in name else (0,):
            new = name.replace("layers.layers.0.", f"layers.layers.{block}.")
            shape = tuple(
                side // clips.TEXT_WIDTH * width if side % clips.TEXT_WIDTH == 0 else side for side in value.shape
            )
            shapes[clips.older_name(new) if older else new] = shape
    return shapes | {
        "vision_projection": (PUBLISHED[size][0], joint),
        "text_projection": (width, joint),
        f"{clips.T}token_embedding.weight": (250_002, width),
        f"{clips.T}positional_embedding.embedding.weight": (514, width),
    }


def foreign(shapes: Shapes, name: str, *, wrapped: bool = False) -> ForeignFile:
    def read(tensor: str) -> Tensor:
        assert tensor.endswith(("pos_embed", "pos_embedding")), f"{tensor} was read"
        return torch.zeros(shapes[tensor])

    return ForeignFile(name=name, shapes=shapes, read=read, wrapped=wrapped)


def expected(size: str, pixels: int = 224) -> ViTConfig:
    width, depth, heads, patch = PUBLISHED[size]
    known = replace(SIZES[size], size=(pixels, pixels), positions="learned")
    assert (known.width, known.depth, known.heads, known.patch) == (width, depth, heads, patch)
    return replace(known, view="crop")


@pytest.mark.parametrize("size", PUBLISHED)
def test_encoders_of_maws_and_mae(size: str) -> None:
    found = recognise(foreign(encoder_shapes(size), f"{size}.pt"))
    assert (found.title, found.encoder) == ("encoder of MAWS or IG-MAE", expected(size))
    assert found.licence == "CC-BY-NC-4.0"
    assert any("those of timm and DINO" in line for line in found.assumed)
    of_mae = recognise(foreign(encoder_shapes(size), "mae_pretrain.pth", wrapped=True))
    assert of_mae.encoder == replace(expected(size), crop_share=0.875)
    by_mae = size in ("vit_b16", "vit_l16", "vit_h14")
    claimed = ("encoder of MAE", "CC-BY-NC-4.0") if by_mae else ("encoder in MAE's layout", "")
    assert (of_mae.title, of_mae.licence) == claimed


@pytest.mark.parametrize("size", PUBLISHED)
def test_finetuned_maws(size: str) -> None:
    pixels = 512 if PUBLISHED[size][3] == 16 else 518
    shapes = encoder_shapes(size, pixels) | {"head.weight": (1000, PUBLISHED[size][0]), "head.bias": (1000,)}
    found = recognise(foreign(shapes, f"{size}_ft_1k.pt"))
    assert (found.title, found.classes, found.pooling) == ("finetuned MAWS", 1000, "cls")
    assert found.encoder == replace(expected(size, pixels), view="stretch")
    assert found.licence == "CC-BY-NC-4.0"


@pytest.mark.parametrize(("size", "pixels"), [("vit_b16", 384), ("vit_l16", 512), ("vit_h14", 518)])
def test_finetuned_swag(size: str, pixels: int) -> None:
    shapes = encoder_shapes(size, pixels)
    names = examples.swag_names(shapes)
    theirs = {names[name]: shape for name, shape in shapes.items()}
    theirs["encoder.pos_embedding"] = tuple(shapes["pos_embed"][axis] for axis in (1, 0, 2))
    found = recognise(foreign(theirs, "vit.torch"))
    assert (found.title, found.encoder) == ("ViT of SWAG", expected(size, pixels))
    assert found.licence == "CC-BY-NC-4.0"


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize("size", CLIP)
def test_maws_clip(size: str, older: bool) -> None:
    found = recognise(foreign(clip_shapes(size, older=older), f"{size}_xlmr.pt"))
    width, depth, heads, joint = CLIP[size]
    assert (found.title, found.encoder) == ("MAWS-CLIP", expected(size))
    assert found.text == TextConfig(width=width, depth=depth, heads=heads)
    assert (found.text.vocabulary, found.text.positions, found.joint_width) == (250_002, 514, joint)
    assert found.licence == "CC-BY-NC-4.0"


def pillow(image: Image.Image, size: tuple[int, int], box: tuple[int, int, int, int]) -> Tensor:
    """Bicubic to (width, height), then the box; on 32-bit channels, which Pillow does not round between its passes."""
    channels = [np.asarray(channel, np.float32) for channel in image.convert("RGB").split()]
    resized = [Image.fromarray(channel).resize(size, Image.Resampling.BICUBIC).crop(box) for channel in channels]
    pixels = np.stack([np.asarray(channel) for channel in resized]).clip(0, 255) / 255
    mean, std = (np.array(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return torch.from_numpy((pixels - mean) / std).float()


@pytest.mark.parametrize("shape", [(640, 480), (300, 900), (90, 61)])
@pytest.mark.parametrize(("pixels", "patch", "classes"), [(512, 16, 1000), (518, 14, 1000), (224, 16, 0), (224, 14, 0)])
def test_images_of_imported_maws_are_pillows(
    tmp_path: Path, pixels: int, patch: int, classes: int, shape: tuple[int, int]
) -> None:
    """Finetuned: straight to the square. For zero-shot and frozen features: short side, then the centre."""
    torch.save(examples.maws_tensors(pixels, patch=patch, classes=classes), tmp_path / "x.pt")
    as_maws = ["view=stretch"] if classes else ["view=crop", "crop_share=1.0"]
    import_weights(tmp_path / "x.pt", tmp_path / "out", [*examples.TOLD, *as_maws])
    noise = np.random.default_rng(0).integers(0, 256, (shape[1], shape[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "image.png")
    image = Image.open(tmp_path / "image.png")
    size, box = (pixels, pixels), (0, 0, pixels, pixels)
    if not classes:
        size = (int(pixels * shape[0] / min(shape)), int(pixels * shape[1] / min(shape)))
        left, top = (round((side - pixels) / 2) for side in size)
        box = (left, top, left + pixels, top + pixels)
    found, problems = read_files([tmp_path / "image.png"], format=load_encoder(tmp_path / "out").config.image_input)
    assert problems == [""]
    difference = (found[0] - pillow(image, size, box)).abs().amax(dim=(1, 2)) * torch.tensor(IMAGENET_STD)
    assert difference.max() < 0.02 / 255  # of a grey level: torch's weights are fp32, Pillow's are double
