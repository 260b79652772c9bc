"""A small prepared set made by hand: the files that ``underpaint prepare`` leaves."""

from __future__ import annotations

import tarfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from support.prepared_example import write_tar
from underpaint.data.shards.index import IndexWriter, index_schema
from underpaint.files import write_json
from underpaint.tags.canonical import TagRules
from underpaint.tags.labels import Labeller, build_label_space

Post = tuple[str, bytes, tuple[str, ...]]
"""Key, image file, tags."""


def make_set(folder: Path, posts: Sequence[Post], *, shard_size: int = 20, **rules: Any) -> Path:
    """Write the set; licences, languages, splits and repeats follow from the place of an image."""
    folder.mkdir(parents=True)
    counts = Counter(tag for _, _, tags in posts for tag in tags)
    vocabulary = build_label_space(
        pa.table({"tag": list(counts), "count": pa.array(counts.values(), pa.int64())}), TagRules(**rules)
    )
    pq.write_table(vocabulary.table, folder / "vocabulary.parquet")
    pq.write_table(vocabulary.audit, folder / "tags_audit.parquet")
    labels = Labeller(vocabulary).labels(pa.array([tags for _, _, tags in posts], pa.list_(pa.string())))
    frequency = vocabulary.table["count"].to_pylist()
    with IndexWriter(folder) as writer:
        for start in range(0, len(posts), shard_size):
            rows = [
                _row(number, posts[number], labels[number].as_py(), frequency)
                for number in range(start, min(start + shard_size, len(posts)))
            ]
            name = f"{start // shard_size:05d}.tar"
            for row, offset in zip(rows, _write_tar(folder / name, posts[start : start + shard_size]), strict=True):
                row |= {"shard": name, "offset": offset}
            writer.add(pa.Table.from_pylist(rows, index_schema()))
        writer.finish(name=folder.name, licence="mixed", attribution="")
    return folder


def _row(number: int, post: Post, labels: list[int], frequency: list[int]) -> dict[str, Any]:
    key, image, _ = post
    rarest = min((frequency[label] for label in labels), default=1000)
    return {
        "key": key,
        "source": "drawings" if number % 3 else "photos",
        "size": len(image),
        "width": None,
        "height": None,
        "labels": labels,
        "repeat": max(1.0, float(np.sqrt(60 / rarest))),
        "caption": None,
        "language": ("en", "de", None)[number % 3],
        "split": ("heldout", "pretrain", "pretrain", "pretrain", "")[number % 5],
        "content_hash": xxhash.xxh3_128_digest(image),
        "perceptual_hash": None,
        "licence": ("CC0-1.0", "CC-BY-4.0")[number % 2],
        "flags": ["rotated"] if number % 7 == 0 else [],
    }


def _write_tar(file: Path, posts: Sequence[Post]) -> list[int]:
    write_tar(file, [(f"{key}.png", image) for key, image, _ in posts])
    with tarfile.open(file) as tar:
        return [member.offset_data for member in tar]


def add_losses(folder: Path) -> None:
    """What was left out: damaged images, near duplicates of two evaluation sets, keywords that were not read."""
    reasons = ["the file is empty"] * 3 + [f"{n} x 1 pixels are outside the limit of 2 to 100000000" for n in (7, 8)]
    rows = [{"key": f"lost/{number}.jpg", "source": "photos", "reason": text} for number, text in enumerate(reasons)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "dropped.parquet")
    sets = [("imagenet-val", 50_000, 12, 5, 7), ("my test set", 120, 0, 0, 0)]
    names = ("name", "images", "unreadable_or_flat", "duplicated", "removed")
    record = {
        "format": 1,
        "digest": "0123456789abcdef",
        "settings": {
            "underpaint": "0.1.0",
            "sources": [{"name": "pictures", "path": "pictures", "kind": "folder", "table": ""}],
            "tags": "",
            "tags_hash": "",
            "exclude": [],
            "rules": {},
            "resample": "sqrt",
            "resample_ratio": 5 / 3,
            "shard_images": 1000,
        },
        "counts": {"partitions": 2, "images": 150, "labels": 7, "dropped": len(rows), "reasons": {}},
        "excluded": [dict(zip(names, counts, strict=True)) for counts in sets],
        "refused": {"XMP with a document type or entities": 2},
    }
    write_json(folder / "prepare.json", record)
