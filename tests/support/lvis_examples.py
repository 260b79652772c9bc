"""Annotations in LVIS's form and detections in them, made up by a seed: classes of all frequencies in few images."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from underpaint.evals.detection.average_precision import Detection

FREQUENCIES = "rrrcccffff"
"""Of each class; the number of images that it is in grows with it."""
IMAGES = {"r": 3, "c": 8, "f": 16}
SIZE = (240, 320)


def make_lvis(path: Path) -> list[Detection]:
    """Write annotations of 24 images to ``path``, and return detections in them.

    In an image each class is annotated whole, in part (``not_exhaustive_category_ids``), known to be missing
    (``neg_category_ids``), or not looked for. Detections are shifted copies, some of another class, and boxes
    elsewhere.
    """
    chance = random.Random(5)
    images: list[dict[str, Any]] = [
        {
            "id": 7 * number + 3,
            "height": SIZE[0],
            "width": SIZE[1],
            "file_name": f"{number}.jpg",
            "neg_category_ids": [],
            "not_exhaustive_category_ids": [],
        }
        for number in range(24)
    ]
    annotations: list[dict[str, Any]] = []
    for category, frequency in enumerate(FREQUENCIES, start=1):
        shuffled = chance.sample(images, len(images))
        shown, unlisted = shuffled[: IMAGES[frequency]], shuffled[IMAGES[frequency] :]
        for image in unlisted[:4]:
            image["neg_category_ids"].append(category)
        for image in shown[::3]:
            image["not_exhaustive_category_ids"].append(category)
        for image in shown:
            annotations += [_object(chance, image["id"], category) for _ in range(chance.randint(1, 3))]
    for number, each in enumerate(annotations):
        each["id"] = number + 1
    categories = [
        {"id": number, "name": f"class {number}", "frequency": frequency}
        for number, frequency in enumerate(FREQUENCIES, start=1)
    ]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    copies = [_copy(chance, each) for each in annotations for _ in range(chance.randint(0, 2))]
    return copies + [_elsewhere(chance, image["id"]) for image in images for _ in range(6)]


def _object(chance: random.Random, image: int, category: int) -> dict[str, Any]:
    x, y, w, h = _box(chance)
    corners = [x, y, x + w, y, x + w, y + h, x, y + h]
    return {
        "image_id": image,
        "category_id": category,
        "bbox": [x, y, w, h],
        "area": w * h,
        "segmentation": [corners],
    }


def _box(chance: random.Random) -> list[float]:
    w, h = (float(chance.choice((16, 24, 48, 110))) for _ in range(2))
    return [float(chance.randint(0, int(SIZE[1] - w))), float(chance.randint(0, int(SIZE[0] - h))), w, h]


def _copy(chance: random.Random, each: dict[str, Any]) -> Detection:
    x, y, w, h = each["bbox"]
    shift = 0.12 if chance.random() < 0.7 else 0.4
    box = [x + w * chance.uniform(-shift, shift), y + h * chance.uniform(-shift, shift), w, h]
    category = each["category_id"] if chance.random() < 0.8 else chance.randint(1, len(FREQUENCIES))
    return _detection(chance, each["image_id"], category, box)


def _elsewhere(chance: random.Random, image: int) -> Detection:
    return _detection(chance, image, chance.randint(1, len(FREQUENCIES)), _box(chance))


def _detection(chance: random.Random, image: int, category: int, box: list[float]) -> Detection:
    box = [round(max(box[0], 0.0), 3), round(max(box[1], 0.0), 3), box[2], box[3]]
    return {"image_id": image, "category_id": category, "bbox": box, "score": round(chance.random(), 6)}
