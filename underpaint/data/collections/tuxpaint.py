"""Stamps of Tux Paint: photographs cut out on white and drawings, with captions in some seventy languages.

The photographs of the folders in ``CLASSES`` are a transfer task of photographs; their families are not pretrained on.
Drawings (in folders called cartoon or toys, with a vector file beside, or in ``_DRAWN``) and photographs without a
class are pretrained on. Letters, digits and signs of finger spelling are left out.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from underpaint.data.collections.families import file_families
from underpaint.data.collections.registries import get_debian
from underpaint.data.collections.thumbnails import write_thumbnails
from underpaint.data.collections.words import words
from underpaint.data.source import Record, Split
from underpaint.data.splits import by_family, heldout_families, test_families

TEST_SHARE = 0.8
"""Largest share of the families of each class that become test images; fewer do where FEWEST must remain."""
FEWEST = 10
"""Smallest number of families of each class to train on, where a class has as many."""

CLASSES = {
    "animals": "other animal",
    "animals/birds": "bird",
    "animals/mammals": "mammal",
    "animals/marsupials": "mammal",
    "food/fruit": "fruit",
    "food/nuts": "fruit",
    "food/vegetables": "vegetable",
    "hobbies": "leisure",
    "household": "household",
    "military/vehicles": "vehicle",
    "plants": "plant",
    "plants/mushrooms": "vegetable",
    "space": "space",
    "sports": "leisure",
    "symbols/money": "coin",
    "symbols/money/00_symbols": "",
    "vehicles": "vehicle",
}
"""Class of the photographs in a folder and its sub-folders; "" for a sub-folder without one."""

_LETTERS = ("symbols/alphabets", "symbols/math")
_DRAWN_FOLDERS = ("cartoon", "toys")
_DRAWN = frozenset(("hedgehog", "ww2_german_gun"))
"""Names of drawings among the photographs, found by inspection."""

_MAX_CAPTION_BYTES = 1024**2
_LANGUAGE = re.compile(r"[a-z]{2,3}(?:[_@][A-Za-z]+)*\.utf8=")


@dataclass(frozen=True)
class Stamp:
    """The facts about a picture from its path and the files beside it."""

    tags: tuple[str, ...]
    photo: bool
    flip: bool


def prepare(images: Path) -> tuple[list[Record], str]:
    """Write small copies into the folder ``images``; returns the records and the package's version."""
    with tempfile.TemporaryDirectory(dir=images.parent) as folder:
        version = get_debian(["tuxpaint-stamps-default"], Path(folder))
        root = Path(folder) / "tuxpaint-stamps-default/usr/share/tuxpaint/stamps"
        files = {
            path: file
            for file in sorted(root.rglob("*.png"))
            for path in (file.relative_to(root).as_posix(),)
            if file.is_file() and not file.is_symlink() and not path.startswith(_LETTERS)
        }
        if not files:
            raise ValueError(f"{version} holds no stamps where they should lie; the package has changed")
        stamps = {path: read_stamp(file) for path, file in files.items()}
        pixels = write_thumbnails(files, images, trim=True, description="Copying Tux Paint's stamps")
    return records({path: stamps[path] for path in pixels}, pixels), version


def records(stamps: Mapping[str, Stamp], pixels: Mapping[str, str]) -> list[Record]:
    """The record of each path, with its class, family and splits."""
    family = file_families(pixels)
    kind = {path: class_of(path) if stamp.photo else "" for path, stamp in stamps.items()}
    splits = _splits(family, kind)
    return [
        Record(
            path=f"images/{path}",
            tags=stamp.tags,
            label=kind[path] if set(splits[path]) & {"train", "test"} else "",
            family=family[path],
            splits=splits[path],
            flip=stamp.flip,
        )
        for path, stamp in sorted(stamps.items())
    ]


def class_of(path: str) -> str:
    """The class of a photograph, from the lowest of its folders in CLASSES; "" where there is none."""
    return next((CLASSES[str(above)] for above in PurePosixPath(path).parents if str(above) in CLASSES), "")


def read_stamp(file: Path) -> Stamp:
    """The words of the captions of a picture, English first, and whether it is a photograph and may be mirrored."""
    drawn = (
        not {part.lower() for part in file.parts}.isdisjoint(_DRAWN_FOLDERS)
        or file.with_suffix(".svg").exists()
        or file.stem in _DRAWN
    )
    unmirrored = file.with_name(re.sub(r"_(?:mirror|flip|mirror_flip)$", "", file.stem) + ".png")
    options = _text(unmirrored.with_suffix(".dat")).split()
    return Stamp(
        tags=words(captions(_text(unmirrored.with_suffix(".txt"))), marks=True),
        photo=not drawn,
        flip="nomirror" not in options and unmirrored == file,  # a mirrored picture of its own has a reason
    )


def captions(text: str) -> list[str]:
    """The captions of a file: the first line, which is English, and ``de.utf8=...`` for the other languages."""
    english, *others = text.splitlines() or [""]
    return [english, *(line[match.end() :] for line in others if (match := _LANGUAGE.match(line)))]


def _text(file: Path) -> str:
    """The content of a text file without bytes that are not UTF-8; "" where it is missing, a link or too large."""
    if not file.is_file() or file.is_symlink() or file.stat().st_size > _MAX_CAPTION_BYTES:
        return ""
    return file.read_bytes().decode(errors="ignore")


def _splits(family: Mapping[str, str], kind: Mapping[str, str]) -> dict[str, tuple[Split, ...]]:
    """The splits of each path, drawn by family; one with a photograph of a class is not pretrained on."""
    class_of_family: dict[str, str] = {}
    for path in sorted(family):
        if kind[path]:
            class_of_family.setdefault(family[path], kind[path])
    tested: set[str] = set()
    for families in by_family(class_of_family, class_of_family.__getitem__).values():
        share = min(TEST_SHARE, max(len(families) - FEWEST, 0) / len(families))
        tested |= test_families({name: class_of_family[name] for name in families}, share=share)
    members = by_family(family, family.__getitem__)
    sizes = {name: len(paths) for name, paths in members.items() if name not in class_of_family}
    heldout = heldout_families(sizes)

    def split(path: str) -> tuple[Split, ...]:
        name = family[path]
        if name not in class_of_family:
            return ("heldout",) if name in heldout else ("pretrain",)
        if kind[path] != class_of_family[name]:
            return ()
        return ("test",) if name in tested else ("train",)

    return {path: split(path) for path in family}
