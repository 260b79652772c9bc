"""The benchmark of photographs: which images of its shards lie in which class folders."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"

DOG, POODLE, PIZZA, LION = "n02084071", "n02113799", "n07873807", "n02129165"
CLASSES = {
    POODLE: {"lemmas": ["poodle"], "hypernyms": [{"wnid": DOG, "level": 1, "lemmas": ["dog"]}]},
    LION: {"lemmas": ["lion"], "hypernyms": [{"wnid": "n02127808", "level": 1, "lemmas": ["big_cat"]}]},
    PIZZA: {"lemmas": ["pizza"], "hypernyms": []},
}


def write_shard(path: Path, labels: dict[str, dict[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".json").write_text(json.dumps(labels))
    with tarfile.open(path, "w") as tar:
        for key in labels:
            entry = tarfile.TarInfo(f"{key}.jpg")
            entry.size = len(key)
            tar.addfile(entry, io.BytesIO(key.encode()))


def test_classes_of_the_sets_are_those_of_one_sense(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import photographs_transfer

    held, photos = tmp_path / "given" / "heldout", tmp_path / "given" / "photos"
    for half in ("train", "test"):
        named = {f"{half}-pizza": {"name": "pizza"}, f"{half}-giant": {"name": "panda"}}
        write_shard(held / f"caltech101-{half}.tar", named)
        write_shard(held / f"cifar10-{half}.tar", {f"{half}-1": {"name": "dog"}})
        write_shard(held / f"clothing-{half}.tar", {f"{half}-1": {"name": "hat"}})
    write_shard(photos / "train-00000.tar", {"p1": {"wnid": POODLE}, "p2": {"wnid": PIZZA}})
    write_shard(photos / "val-00000.tar", {"v1": {"wnid": POODLE}, "v2": {"wnid": LION}, "v3": {"wnid": PIZZA}})
    (photos / "classes.json").write_text(json.dumps(CLASSES))

    photographs_transfer.write_sets(tmp_path / "given", tmp_path / "sets")

    written = {path.relative_to(tmp_path / "sets").as_posix() for path in (tmp_path / "sets").rglob("*.jpg")}
    assert {path for path in written if path.startswith("photographs-of-cifar10")} == {
        "photographs-of-cifar10/test/dog/v1.jpg"  # a lion is no domestic cat, and training images are not tested on
    }
    assert {path for path in written if path.startswith("caltech101-of-photographs")} == {
        f"caltech101-of-photographs/test/{PIZZA}/{half}-pizza.jpg" for half in ("train", "test")
    }
    assert f"photographs/train/{POODLE}/p1.jpg" in written
    assert f"photographs/test/{LION}/v2.jpg" in written
    assert (tmp_path / "sets/clothing/train/hat/train-1.jpg").read_bytes() == b"train-1"
