"""A tiny transfer task of noisy colours, and a ViT that fits it."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

from underpaint.data.source import Record, Source, make_source
from underpaint.models.init import initialise_encoder
from underpaint.models.vit import ViT, ViTConfig

COLOURS = {"blue": (30, 40, 220), "green": (30, 220, 40), "red": (220, 30, 40)}
BROKEN = ("green/green_11.png", "green/green_03.png")
"""A test image and a training image that cannot be read."""


def colour_source(folder: Path) -> Source:
    """Eight training and four test images of each of three colours; one of either half is broken."""
    records = []
    for number, (name, colour) in enumerate(COLOURS.items()):
        (folder / name).mkdir()
        for i in range(12):
            noise = torch.randint(-25, 26, (8, 8, 3), generator=torch.Generator().manual_seed(100 * number + i))
            pixels = (torch.tensor(colour) + noise).clamp(0, 255).to(torch.uint8).numpy()
            path = f"{name}/{name}_{i:02d}.png"
            Image.fromarray(pixels).save(folder / path)
            split = "train" if i < 8 else "test"
            records.append(Record(path=path, tags=(), label=name, family=path, splits=(split,), flip=True))
    for bad in BROKEN:
        (folder / bad).write_bytes(b"no image")
    return make_source("colours", folder, records=records, problems=(), licence="", attribution="")


def small_vit() -> ViT:
    """Random weights, 8 x 8 pixels, four patches, two blocks of width 16."""
    vit = ViT(ViTConfig(size=(8, 8), patch=4, width=16, depth=2, heads=2))
    initialise_encoder(vit, scheme="mae", seed=0)
    return vit
