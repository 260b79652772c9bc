"""Prepared sets and webdataset understand each other: its loader reads our shards, and `prepare` reads its writer's."""

from __future__ import annotations

import io
import json
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import webdataset
from PIL import Image
from webdataset import tariterators

from support.prepare_examples import TAGS, index_of, pictures, prepared, write_csv, write_files


def test_webdataset_reads_the_shards_of_a_prepared_set(tmp_path: Path) -> None:
    files = pictures()
    loose = write_files(tmp_path / "loose", files)
    write_csv(loose / "tags.csv", TAGS)
    out = prepared(tmp_path / "set", loose, shard_images=2)
    shards = sorted(str(shard) for shard in (out / "shards").glob("*.tar"))
    assert len(shards) >= 2
    with ExitStack() as opened:  # webdataset's own opener leaves the files to the garbage collector
        streams = [{"url": shard, "stream": opened.enter_context(Path(shard).open("rb"))} for shard in shards]
        samples = list(tariterators.group_by_keys(tariterators.tar_file_expander(streams)))
    assert sorted(sample["__key__"] for sample in samples) == sorted(row["key"] for row in index_of(out))
    tags = {}
    for sample in samples:
        metadata = json.loads(sample["json"])
        (extension,) = sample.keys() & {"jpg", "png", "webp"}
        assert sample[extension] == files[metadata["path"]], "the bytes of the image are the user's"
        tags[metadata["path"]] = set(metadata["tags"])
    assert tags == {path: {tag.lstrip("#") for tag in written} for path, written in TAGS.items()}


def test_prepare_reads_what_webdataset_writes(tmp_path: Path) -> None:
    """The writer encodes the arrays itself, so pixels and tags are compared, not files."""
    pixels = {f"{number:04d}": np.full((12, 16, 3), 20 * number, dtype=np.uint8) for number in range(10)}
    with webdataset.ShardWriter(str(tmp_path / "shards-%03d.tar"), maxcount=4, verbose=0) as writer:
        for key, image in pixels.items():
            writer.write({"__key__": key, "png": image, "json": {"tags": ["oak", f"tree{int(key) % 2}"]}})
    out = prepared(tmp_path / "set", *sorted(tmp_path.glob("shards-*.tar")))
    rows = index_of(out)
    assert sorted(row["key"].rpartition("/")[2] for row in rows) == sorted(pixels)
    names = pq.read_table(out / "vocabulary.parquet")["name"].to_pylist()
    for row in rows:
        assert "oak" in {names[label] for label in row["labels"]}
        with Path(row["shard"]).open("rb") as file:
            file.seek(row["offset"])
            image = Image.open(io.BytesIO(file.read(row["size"])))
        assert np.array_equal(np.asarray(image), pixels[row["key"].rpartition("/")[2]])
