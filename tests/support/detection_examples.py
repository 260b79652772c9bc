"""Coloured boxes on noise with their annotations in COCO's format, and a small run that learns them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from underpaint.data.detection.dataset import DetectionData
from underpaint.models.detector.config import DetectorConfig
from underpaint.models.vit import ViTConfig
from underpaint.objectives.detect import DetectConfig
from underpaint.run import Budget, Cadence, Run
from underpaint.training.optim import OptimConfig

COLOURS = {"red": (220, 40, 30), "blue": (40, 60, 220)}
ENCODER = ViTConfig(size=(64, 64), patch=8, width=32, depth=2, heads=2, final_norm=False)
DETECTOR = DetectorConfig(
    window=4,
    global_blocks=(1,),
    channels=16,
    hidden=32,
    convolutions=1,
    anchor_sides=(8.0, 16.0, 24.0, 32.0, 48.0),
    sampled_anchors=64,
    proposals_per_level=(100, 60),
    proposals=60,
    cascade=(0.5, 0.6),
    sampled_regions=32,
)
BATCH = 4


def make_objects(folder: Path, count: int = 24) -> Path:
    """``objects.json`` and its images: up to three rectangles or ellipses each, ids with holes, one image empty."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for index in range(count):
        name, number = f"{index:03d}.png", 3 * index + 7
        picture = Image.fromarray(rng.integers(180, 256, size=(60, 72, 3), dtype=np.uint8))
        draw = ImageDraw.Draw(picture)
        for place in range(0 if index == 5 else 1 + index % 3):
            width, height = (int(side) for side in rng.integers(12, 22, 2))
            x, y = 24 * place + int(rng.integers(0, 24 - min(width, 23))), int(rng.integers(0, 60 - height))
            colour = int(rng.integers(0, 2))
            draw.rectangle((x, y, x + width - 1, y + height - 1), fill=list(COLOURS.values())[colour])
            corners = [x, y, x + width, y, x + width, y + height, x, y + height]
            annotations.append(
                {
                    "id": 2 * len(annotations) + 11,
                    "image_id": number,
                    "category_id": (4, 9)[colour],
                    "bbox": [x, y, width, height],
                    "area": width * height,
                    "iscrowd": 0,
                    "segmentation": [corners],
                }
            )
        picture.save(folder / name)
        images.append({"id": number, "file_name": name, "height": 60, "width": 72})
    categories = [{"id": number, "name": name} for number, name in zip((4, 9), COLOURS, strict=True)]
    path = folder / "objects.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def detect_run(annotations: Path, *, steps: int = 6) -> Run:
    return Run(
        name="detect_test",
        objective=DetectConfig(encoder=ENCODER, detector=DETECTOR, drop_path=0.1, objects=8),
        data=DetectionData(annotations=str(annotations), scale=(0.8, 1.25)),
        budget=Budget(samples=steps * BATCH, batch_size=BATCH, microbatch=BATCH // 2),
        optim=OptimConfig(base_lr=0.1, betas=(0.9, 0.999), layer_decay=0.8, decay_tokens=False, clip=1.0),
        cadence=Cadence(log=BATCH, save=2 * BATCH, keep=10**6, evaluate=3 * BATCH),
        threads=1,
        device="cpu",
    )
