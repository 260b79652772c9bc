"""Open Clip Art: drawings by hundreds of authors, with the keywords that they or the project's scripts typed.

A file is stored once in the package and linked into further folders. The folders are the classes of the transfer task
(``CLASSES``), as far as they name the content and hold at least 20 families; ambiguous files have no class. Most
families of each class are the transfer task, half of them as test images, and the rest is pretrained on with all other
drawings: whole folders could not be held out, since a few of them do not make a task of 500 test images. Many keywords
are words of the folders, so this task is near the labels of the second stage.

A script drew 1,375 stars, one polygon each and alike at any size that is trained on; ``SERIES_MOST`` of them are taken.
The largest icon theme, 598 grey pictures, is taken whole, since each shows something else.
"""

from __future__ import annotations

import tempfile
import unicodedata
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from xml.parsers import expat

from underpaint import keyed_random
from underpaint.data.collections.families import file_families, stem_concept
from underpaint.data.collections.registries import get_debian
from underpaint.data.collections.thumbnails import write_thumbnails
from underpaint.data.source import Record, Split
from underpaint.data.splits import by_family, heldout_families, test_families
from underpaint.messages import say

TRANSFER_SHARE = 0.8
"""Share of the families of each class that are in the transfer task; the others are pretrained on."""
TEST_SHARE = 0.5
"""Share of the transfer task's families of each class that become test images."""
SERIES_MOST = 60
"""Largest number of images of a series (names equal but for numbers, colours, sides); no hand-drawn one has more."""

CLASSES = {
    "animals/birds": "bird",
    "animals/bugs": "bug",
    "animals/mammals": "mammal",
    "buildings": "building",
    "buildings/furniture": "",
    "computer/hardware": "computer hardware",
    "electronics": "electronics",
    "food/beverages": "drink",
    "food/breads_and_carbs": "meal",
    "food/desserts": "dessert",
    "food/fruit": "fruit",
    "food/meats_and_eggs": "meal",
    "geography": "map",
    "geography/astronomy": "",
    "office": "office",
    "people": "person",
    "people/bodypart": "",
    "people/clothing": "clothing",
    "people/smilies": "",  # two or three series
    "people/stickmen": "",
    "plants": "plant",
    "recreation/music": "music",
    "recreation/sports": "sport",
    "recreation/toys": "toy",
    "tools": "tool",
    "tools/weapons": "weapon",
    "transportation/roadsigns": "road sign",
    "transportation/vehicles": "vehicle",
}
"""Class of a folder and its sub-folders; "" for a sub-folder without one."""

_DIRECTED = (
    *("computer", "geography", "people/clothing/pantyhose", "recreation/games", "recreation/music", "shapes/arrows"),
    *("signs_and_symbols", "special/examples", "transportation/aiga-symbols", "transportation/boating"),
    *("transportation/roadsigns", "unsorted", "logos", "education", "office"),
)
"""Folders with writing, maps, flags, signs and arrows, which mirroring would falsify."""
_DIRECTED_WORDS = frozenset(
    ("left", "right", "arrow", "clock", "flag", "letter", "map", "number", "sign", "text", "word", "logo", "label")
)

_MAX_SVG_BYTES = 16 * 1024**2
_MAX_KEYWORD = 1000
_SUBJECT = "http://purl.org/dc/elements/1.1/ subject"
_ITEM = "http://www.w3.org/1999/02/22-rdf-syntax-ns# li"
_PICTURE = "http://www.w3.org/2000/svg image"
_LINK = "http://www.w3.org/1999/xlink href"


def prepare(images: Path) -> tuple[list[Record], str]:
    """Write small copies into the folder ``images``; returns the records and the packages' versions."""
    with tempfile.TemporaryDirectory(dir=images.parent) as folder:
        version = get_debian(["openclipart-png", "openclipart-svg"], Path(folder))
        pictures = Path(folder) / "openclipart-png/usr/share/openclipart/png"
        sources = Path(folder) / "openclipart-svg/usr/share/openclipart/svg"
        folders = folders_of_files(pictures)
        if not folders:
            raise ValueError(f"{version} holds no pictures where they should lie; the packages have changed")
        chosen = without_long_series(folders)
        say(f"Reading the keywords of {len(chosen)} drawings; {len(folders) - len(chosen)} of long series are left out")
        contents = {path: read_svg(_inside(sources, path.removesuffix(".png") + ".svg")) for path in chosen}
        broken = [path for path in chosen if contents[path] is None]
        say(f"{len(broken)} drawings show nothing but that a linked image is missing, and are left out")
        files = {path: pictures / path for path in chosen if contents[path] is not None}
        pixels = write_thumbnails(files, images, trim=True, description="Copying Open Clip Art")
    tags = {path: contents[path] or () for path in pixels}
    return records({path: folders[path] for path in pixels}, tags, pixels), version


def records(
    folders: Mapping[str, frozenset[str]], tags: Mapping[str, tuple[str, ...]], pixels: Mapping[str, str]
) -> list[Record]:
    """The record of each path; ``folders`` are those that the file lies in or is linked into."""
    family = file_families(pixels)
    kind = {path: class_of(folders[path]) for path in folders}
    splits = _splits(family, kind)
    return [
        Record(
            path=f"images/{path}",
            tags=tags[path],
            label=kind[path] if set(splits[path]) & {"train", "test"} else "",
            family=family[path],
            splits=splits[path],
            flip=_may_flip(path, folders[path]),
        )
        for path in sorted(folders)
    ]


def folders_of_files(root: Path) -> dict[str, frozenset[str]]:
    """The stored pictures, relative to ``root``, each with its folder and those that it is linked into."""
    folders: dict[str, set[str]] = {}
    inside = root.resolve()
    for file in sorted(root.rglob("*.png")):
        stored = file.resolve()
        if stored.is_file() and stored.is_relative_to(inside):
            path = stored.relative_to(inside).as_posix()
            folders.setdefault(path, set()).add(file.parent.relative_to(root).as_posix())
    return {path: frozenset(names) for path, names in sorted(folders.items())}


def without_long_series(paths: Iterable[str]) -> list[str]:
    """The paths, with at most SERIES_MOST of each series, drawn by a hash of the path."""
    series = by_family(paths, lambda path: stem_concept(PurePosixPath(path).stem))
    return sorted(
        path
        for members in series.values()
        for path in sorted(members, key=lambda path: (keyed_random.key("series", path), path))[:SERIES_MOST]
    )


def class_of(folders: frozenset[str]) -> str:
    """The class on which the folders agree, or ""; a folder is ignored beside its own sub-folder."""
    lowest = [name for name in folders if not any(longer.startswith(f"{name}/") for longer in folders)]
    classes = {_class_of_folder(name) for name in lowest}
    return classes.pop() if len(classes) == 1 else ""


def read_svg(file: Path) -> tuple[str, ...] | None:
    """The keywords of ``dc:subject``, lower-cased and composed, in the order given, up to the first damage.

    None for a drawing that shows a linked image, which is missing.
    """
    keywords: list[str] = []
    open_tags: list[str] = []
    linked: list[str] = []

    def start(tag: str, attributes: dict[str, str]) -> None:
        open_tags.append(tag)
        if tag == _ITEM and _SUBJECT in open_tags:
            keywords.append("")
        if tag == _PICTURE and not attributes.get(_LINK, "data:").startswith("data:"):
            linked.append(tag)

    def end(_: str) -> None:
        open_tags.pop()

    def text(characters: str) -> None:
        in_item = open_tags and open_tags[-1] == _ITEM and _SUBJECT in open_tags
        if in_item and len(keywords[-1]) < _MAX_KEYWORD:  # entities may multiply to megabytes
            keywords[-1] += characters

    if not file.is_file() or file.stat().st_size > _MAX_SVG_BYTES:
        return ()
    parser = expat.ParserCreate(namespace_separator=" ")  # expat itself stops entities that multiply beyond 8 MB
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, text
    with suppress(expat.ExpatError, ValueError):  # ValueError: an unknown encoding
        parser.Parse(file.read_bytes(), True)
    if linked:
        return None
    tags = (unicodedata.normalize("NFC", word).lower().strip() for word in keywords)
    return tuple(dict.fromkeys(tag for tag in tags if tag))


def _inside(root: Path, path: str) -> Path:
    """The path of a file below ``root``; ``root`` itself where a link leads out of it."""
    file = (root / path).resolve()
    return file if file.is_relative_to(root.resolve()) else root


def _class_of_folder(name: str) -> str:
    path = PurePosixPath(name)
    return next((CLASSES[str(above)] for above in (path, *path.parents) if str(above) in CLASSES), "")


def _splits(family: Mapping[str, str], kind: Mapping[str, str]) -> dict[str, tuple[Split, ...]]:
    """The splits of each path, drawn by family; no member of a family of the transfer task is pretrained on."""
    class_of_family: dict[str, str] = {}
    for path in sorted(family):
        if kind[path]:
            class_of_family.setdefault(family[path], kind[path])
    transfer = test_families(class_of_family, share=TRANSFER_SHARE)
    class_of_family = {name: class_name for name, class_name in class_of_family.items() if name in transfer}
    tested = test_families(class_of_family, share=TEST_SHARE)
    sizes = {name: len(paths) for name, paths in by_family(family, family.__getitem__).items() if name not in transfer}
    heldout = heldout_families(sizes)

    def split(path: str) -> tuple[Split, ...]:
        name = family[path]
        if name not in transfer:
            return ("heldout",) if name in heldout else ("pretrain",)
        if kind[path] != class_of_family[name]:
            return ()
        return ("test",) if name in tested else ("train",)

    return {path: split(path) for path in family}


def _may_flip(path: str, folders: frozenset[str]) -> bool:
    directed = any(name == top or name.startswith(f"{top}/") for name in folders for top in _DIRECTED)
    words = set(PurePosixPath(path).stem.lower().replace("-", "_").split("_"))
    return not directed and not words & _DIRECTED_WORDS
