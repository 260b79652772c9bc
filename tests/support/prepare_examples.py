"""Small sources for the tests of `underpaint prepare`: the same tagged pictures in every form people have them in."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from support.image_files import encoded
from support.prepared_example import write_tar
from underpaint.preparation.pipeline import prepare_set
from underpaint.preparation.settings import Preparation

TAGS = {
    "animals/bear one.png": ("#BrownBear", "forest"),
    "animals/bear2.png": ("ursusarctos", "Forest"),
    "animals/dog.v2.jpg": ("dogs", "walk", "#instagood"),
    "plants/fern.png": ("fern", "forest", "fougère"),
    "plants/oak.webp": ("oak", "trees"),
    "plants/oak.png": ("oak", "forest"),
}


def picture(seed: int, extension: str = "png") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, size=(12, 16, 3), dtype=np.uint8)
    return encoded(Image.fromarray(pixels), {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}[extension])


def pictures(names: Sequence[str] = tuple(TAGS)) -> dict[str, bytes]:
    return {name: picture(number, name.rpartition(".")[2]) for number, name in enumerate(names)}


def write_files(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def write_csv(file: Path, tags: Mapping[str, Sequence[str]], *, separator: str = ";") -> Path:
    with file.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.writer(opened)
        writer.writerows([("path", "tags"), *((path, separator.join(own)) for path, own in tags.items())])
    return file


def write_tars(folder: Path, files: Mapping[str, bytes], tags: Mapping[str, Sequence[str]], *, size: int = 4) -> Path:
    """As img2dataset writes them: numbered keys, the words in a JSON member, a caption beside."""
    folder.mkdir(parents=True, exist_ok=True)
    names = list(files)
    for shard in range(-(-len(names) // size)):
        members: list[tuple[str, bytes]] = []
        for number, name in enumerate(names[shard * size : (shard + 1) * size]):
            key, extension = f"{shard:05d}{number:04d}", name.rpartition(".")[2]
            told = {"url": f"https://example.org/{name}", "key": key, "status": "success", "tags": list(tags[name])}
            members += [
                (f"{key}.{extension}", files[name]),
                (f"{key}.json", json.dumps(told).encode()),
                (f"{key}.txt", b"a caption"),
            ]
        write_tar(folder / f"{shard:05d}.tar", members)
        (folder / f"{shard:05d}_stats.json").write_text("{}")
    return folder


def prepared(out: Path, *sources: Path, **settings: object) -> Path:
    """A set in ``out``; ``tags`` may be one table."""
    if isinstance(table := settings.get("tags"), str):
        settings["tags"] = (table,)
    prepare_set(Preparation(sources=tuple(map(str, sources)), **settings), out)  # type: ignore[arg-type]
    return out


def index_of(out: Path) -> list[dict]:
    return pq.read_table(out / "index.parquet").to_pylist()


def names_of(out: Path) -> dict[bytes, set[str]]:
    """The names of the labels of each image, by the hash of its bytes."""
    name = dict(enumerate(pq.read_table(out / "vocabulary.parquet")["name"].to_pylist()))
    return {row["content_hash"]: {name[label] for label in row["labels"]} for row in index_of(out)}


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def outputs(out: Path) -> dict[str, bytes]:
    """What a set is judged by: all but the lock, what a killed process left, and the page, which the command writes."""
    others = (".lock", "prepare.html", "examples.parquet")
    return {name: content for name, content in tree(out).items() if name not in others and not name.endswith(".part")}
