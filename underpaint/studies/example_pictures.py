"""Pictures for the report of a study: tagged training images, and nearest neighbours under each arm's encoder."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch.nn import functional as F

from underpaint import files, keyed_random
from underpaint.core import ImageInput
from underpaint.data.decode.image import preview
from underpaint.data.decode.transforms import eval_view
from underpaint.data.loader import read_images
from underpaint.data.near_duplicates.removal import sheet
from underpaint.data.source import Source
from underpaint.evals.engine import Engine
from underpaint.evals.features import extract
from underpaint.models.weights import load_encoder
from underpaint.run.outputs import write_sheet
from underpaint.studies.pretraining_images import StudyImages
from underpaint.training.devices import choose_device

TAGGED = 12
QUERIES = 6
NEIGHBOURS = 6
GALLERY = 2_000
"""Neighbours are searched among at most so many images."""
SIDE = 96
"""Largest side of a picture in pixels."""


def draw_pictures(
    folder: Path, images: StudyImages, *, task: Source, arms: Mapping[str, str], seed: int
) -> dict[str, int]:
    """Write ``pictures/*.png`` and ``pictures/pictures.json``; what was drawn.

    ``arms`` says in which run folder each arm's encoder is. Tagged images are of those that were trained on; neighbours
    are searched among the test images of ``task``.
    """
    source = images.source
    with files.new_folder(folder / "pictures") as target:
        pictures, task_pictures = _Pictures(target, source), _Pictures(target, task)
        gallery = _drawn(task.rows("test") or task.rows("pretrain"), seed, "gallery")[:GALLERY]
        queries = _different_labels(task, gallery)
        drawn = [row for row in _drawn(source.rows("pretrain"), seed, "tagged") if source.tags[row]]
        tagged = _readable(source, drawn[: 2 * TAGGED])[:TAGGED]
        counts = Counter(tag for row in source.rows("pretrain") for tag in set(source.tags[row]))
        content = {
            "format": 1,
            "neighbours": {
                arm: _neighbours(folder / run, task, gallery, queries, task_pictures) for arm, run in arms.items()
            },
            "tagged": [{"image": pictures.save(row), "tags": list(source.tags[row])} for row in tagged],
            "frequent_tags": [{"tag": tag, "count": count} for tag, count in counts.most_common(40)],
        }
        if images.leakage.pairs:
            content["leakage"] = "leakage.png"
            write_sheet(target / "leakage.png", sheet(images.leakage.pairs, source, _tests(images)))
        files.write_json(target / "pictures.json", content)
    return {"queries": len(queries), "gallery": len(gallery), "tagged": len(tagged)}


def _tests(images: StudyImages) -> list[Source]:
    """Every source whose test images were compared."""
    known = {task.name: task for task in (*images.tasks, images.source)}
    return [known[test.name] for test in images.leakage.tests]


def _drawn(rows: Sequence[int], seed: int, purpose: str) -> list[int]:
    return sorted(rows, key=lambda row: keyed_random.mix(keyed_random.key(seed, purpose), row))


def _readable(source: Source, rows: Sequence[int]) -> list[int]:
    """The rows whose image can be decoded."""
    plain = ImageInput(size=(8, 8), channels=3, value_range=(0, 255), mean=(0.0,) * 3, std=(1.0,) * 3)
    _, weight = read_images(source, rows, format=plain)
    return [row for row, readable in zip(rows, weight.tolist(), strict=True) if readable]


def _different_labels(source: Source, gallery: Sequence[int]) -> list[int]:
    """Queries of as many different classes as there are."""
    seen: Counter[str] = Counter()
    ranked = []
    for row in gallery:
        ranked.append((seen[source.label[row]], row))
        seen[source.label[row]] += 1
    return [row for _, row in sorted(ranked, key=lambda item: item[0])][:QUERIES]


def _neighbours(
    run: Path, source: Source, gallery: Sequence[int], queries: Sequence[int], pictures: _Pictures
) -> list[dict[str, object]]:
    """For each query the nearest gallery images by the cosine of the cls feature, itself and its family left out."""
    device = choose_device("any")
    encoder = load_encoder(run).to(device)
    format, engine = encoder.config.image_input, Engine(device=device)
    features = extract(encoder, source, gallery, format=format, pooling="cls", batch_size=64, engine=engine)
    kept = [row for row, readable in zip(gallery, features.kept.tolist(), strict=True) if readable]
    x = F.normalize(features.x - features.x.mean(dim=0), dim=1)
    shown = []
    for query in queries:
        if query not in kept:
            continue
        order = (x @ x[kept.index(query)]).argsort(descending=True, stable=True).tolist()
        strangers = [kept[i] for i in order if source.family[kept[i]] != source.family[query]]
        near = [{"image": pictures.save(row), "label": source.label[row]} for row in strangers[:NEIGHBOURS]]
        shown.append({"query": pictures.save(query), "query_label": source.label[query], "neighbours": near})
    return shown


class _Pictures:
    """Small PNGs of source images, each drawn once, under names of our own making."""

    def __init__(self, folder: Path, source: Source) -> None:
        self.folder, self.source = folder, source

    def save(self, row: int) -> str:
        path = f"{self.source.name}/{self.source.path[row]}"
        name = hashlib.blake2b(path.encode(), digest_size=8).hexdigest() + ".png"
        if not (self.folder / name).exists():
            image = torch.from_numpy(preview(self.source.files.read(self.source.path[row]))).permute(2, 0, 1)
            _, height, width = image.shape
            shrink = max(1.0, max(height, width) / SIDE)
            small = eval_view(image, size=(max(1, round(height / shrink)), max(1, round(width / shrink))))
            write_sheet(self.folder / name, small[None, None])
        return name
