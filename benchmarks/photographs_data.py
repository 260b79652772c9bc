"""Photographs for the zero-shot benchmark: what is trained on, and the classes that no stage sees.

One class in five, by the hash of its WordNet number, is held out: its photographs are kept apart as test images, and
every tag that is a name of it, in any language and number, is taken off the other photographs. The rest is prepared
as any pile of images with tags is, without near duplicates of the test images.
"""

from __future__ import annotations

import csv
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from underpaint import files, keyed_random, prepare

HELD_OUT = 5
"""One class in so many is held out."""
LANGUAGES = ("eng", "fra", "deu", "ita", "por", "spa", "nld", "pol", "rus", "tur", "cmn", "jpn", "kor", "arb", "tha")
"""Those that the text tower knows."""
SHARD_IMAGES = 5_000


def prepare_photographs(photos: Path, out: Path) -> None:
    """Make ``out/data`` with ``unseen``, the test images, and ``names.json``, and ``out/set``, the training images.

    ``photos`` is laid out as docs/results/zeroshot.md says: ``photos/*.tar`` with a JSON file of classes beside each,
    ``photos/classes.json``, ``photos/hashtags.csv`` and ``names/tiny_imagenet.json``. Existing folders stay.
    """
    if not (out / "data").is_dir():
        with files.new_folder(out / "data") as folder:
            write_photographs(photos, folder)
    if not (out / "set" / "prepared.json").is_file():
        shards = sorted((out / "data").glob("photographs-*.tar"))
        tags, unseen = str(out / "data" / "tags.csv"), [out / "data" / "unseen"]
        prepare(shards, out / "set", tags=tags, exclude=unseen, min_count=5, max_unmatched=1.0)


def write_photographs(photos: Path, folder: Path) -> None:
    """Shards and tags to train on, ``unseen`` and ``names.json``, into an empty folder."""
    classes: dict[str, Any] = files.read_json(photos / "photos" / "classes.json")
    names: dict[str, Any] = files.read_json(photos / "names" / "tiny_imagenet.json")
    held = {wnid for wnid in classes if keyed_random.key("zero-shot", wnid) % HELD_OUT == 0}
    said = {_joined(name) for wnid in held for name in _names_of(wnid, classes, names)}
    _write_images(photos, folder, held)
    _write_tags(photos, folder, said)
    table = {
        language: {wnid: names[language][wnid][:1] for wnid in sorted(held) if wnid in names[language]}
        for language in LANGUAGES
    }
    files.write_json(folder / "names.json", table)


def _names_of(wnid: str, classes: dict[str, Any], names: dict[str, Any]) -> Iterator[str]:
    yield from classes[wnid]["lemmas"]
    for of_language in names.values():
        yield from of_language.get(wnid, ())


def _joined(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def _write_images(photos: Path, folder: Path, held: set[str]) -> None:
    """Training images of the other classes into shards; all images of the held-out ones into class folders."""
    kept: list[tuple[str, bytes]] = []
    for shard in sorted((photos / "photos").glob("*.tar")):
        labels = json.loads(shard.with_suffix(".json").read_text("utf-8"))
        with tarfile.open(shard) as tar:
            for member in tar:
                key = member.name.removesuffix(".jpg")
                opened = tar.extractfile(member)
                assert opened is not None
                if labels[key]["wnid"] in held:
                    image = folder / "unseen" / labels[key]["wnid"] / f"{key}.jpg"
                    image.parent.mkdir(parents=True, exist_ok=True)
                    image.write_bytes(opened.read())
                elif labels[key]["split"] == "train":
                    kept.append((f"{key}.jpg", opened.read()))
    for number, start in enumerate(range(0, len(kept), SHARD_IMAGES)):
        with tarfile.open(folder / f"photographs-{number:05d}.tar", "w") as tar:
            for name, data in kept[start : start + SHARD_IMAGES]:
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))


def _write_tags(photos: Path, folder: Path, said: set[str]) -> None:
    """The tags without those that are a name of a held-out class, alone or in the plural."""
    rows = csv.DictReader(io.StringIO((photos / "photos" / "hashtags.csv").read_text("utf-8")))
    with (folder / "tags.csv").open("w", encoding="utf-8", newline="") as file:
        write = csv.writer(file).writerow
        write(("key", "tags"))
        for row in rows:
            tags = [tag for tag in row["tags"].split() if not _says(_joined(tag), said)]
            write((row["key"], " ".join(tags)))


def _says(tag: str, said: set[str]) -> bool:
    singular = {tag, tag.removesuffix("s"), tag.removesuffix("es")}
    if tag.endswith("ies"):
        singular.add(tag.removesuffix("ies") + "y")
    return bool(singular & said)
