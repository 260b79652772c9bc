"""Open Clip Art in every form that people have images in: `underpaint prepare` finds the same labels."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from support.collections_at_hand import collection_or_skip
from support.image_files import xmp_png
from support.prepare_examples import index_of, prepared, write_csv, write_files, write_tars
from underpaint.data.collections.catalog import open_collection
from underpaint.tags.canonical import TagRules

IMAGES = 400


def labels_of(out: Path, tars: tuple[str, ...] = ()) -> dict[str, set[str]]:
    """The names of the labels of each image; ``tars`` are the images in the order in which tars number them."""
    name = dict(enumerate(pq.read_table(out / "vocabulary.parquet")["name"].to_pylist()))
    key_of = {f"{number // 100:05d}{number % 100:04d}": one.rpartition(".")[0] for number, one in enumerate(tars)}
    return {key_of.get(row["key"], row["key"]): {name[label] for label in row["labels"]} for row in index_of(out)}


@pytest.mark.slow
def test_files_tars_a_csv_and_embedded_keywords_give_the_same_labels(tmp_path: Path) -> None:
    collection_or_skip("openclipart")
    compare(tmp_path, IMAGES)


def compare(folder: Path, images: int) -> dict[str, set[str]]:
    """Prepare so many drawings in four forms, compare, and give the labels."""
    source = open_collection("openclipart")
    rows = [row for row, tags in enumerate(source.tags) if tags][:images]
    files = {f"{number:05d}.png": (source.root / source.path[row]).read_bytes() for number, row in enumerate(rows)}
    # a semicolon, which a few keywords hold, separates tags in a CSV file
    tags = {name: tuple(t for t in source.tags[row] if ";" not in t) for name, row in zip(files, rows, strict=True)}
    beside = {f"{name}.json": json.dumps({"tags": list(tags[name])}).encode() for name in files}
    sources = {
        "files": write_files(folder / "files", {**files, **beside}),
        "tars": write_tars(folder / "tars", files, tags, size=100),
        "csv": write_csv(write_files(folder / "csv", files) / "posts.csv", tags),
        "xmp": write_files(folder / "xmp", {name: xmp_png(one, tags[name]) for name, one in files.items()}),
    }
    rules = TagRules(min_count=2)
    sets = {form: prepared(folder / f"{form}-set", one, rules=rules) for form, one in sources.items()}
    found = {form: labels_of(out, tuple(files) if form == "tars" else ()) for form, out in sets.items()}
    assert found["files"] == found["tars"] == found["csv"] == found["xmp"]
    vocabularies = {form: (out / "vocabulary.parquet").read_bytes() for form, out in sets.items()}
    assert len(set(vocabularies.values())) == 1, "the vocabulary is the same to the byte"
    assert len(found["files"]) > 0.9 * images
    return found["files"]
