"""Pictures of Debian packages with a topic, a name, its translations and a licence, for ``real_folder.py``.

Topics come from the folders of the packages, names from the files, translations from the texts beside Tux Paint's
stamps, licences from the packages' copyright files.
"""

from __future__ import annotations

import fnmatch
import io
import re
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from PIL import Image

UNKNOWN = "see the package's copyright file"
LANGUAGES = ("en", "de", "fr", "es")
PACKAGES = (
    "tuxpaint-stamps-default",
    "gcompris-qt-data",
    "openclipart-png",
    "scratch",
    "mate-backgrounds",
    "lomiri-wallpapers-16.04",
    "lomiri-wallpapers-20.04",
    "ukui-wallpapers",
    "plasma-workspace-wallpapers",
    "gnome-backgrounds",
)
KINDS = (".jpg", ".jpeg", ".png", ".webp", ".gif")
SMALLEST, LARGEST = 48, 50_000_000
"""Pixels of the shorter side, and of all, of a picture that is taken."""
Image.MAX_IMAGE_PIXELS = None  # some flags of openclipart-png are larger than Pillow's limit; ours is checked first

TOPICS = {
    r"stamps/animals/.*bird|png/animals/birds|words_sample/(parrot|bird)": "bird",
    r"stamps/animals/(fish|shellfish)|png/animals/fish|categorization/.*/fishes": "fish",
    r"stamps/animals/insect|png/animals/bugs|categorization/.*/insects|insect|butterfly|Dragonfly": "insect",
    r"stamps/animals/dinosaur|png/animals/dinosaur|Animals/dinosaur": "dinosaur",
    r"stamps/animals/.*/cats|png/animals/mammals/(housecats|big_cats)|Animals/(cat|lion)": "cat",
    r"stamps/animals/.*/dogs|png/animals/mammals/dogs|Animals/dog": "dog",
    r"stamps/animals/mammals|png/animals/mammals|explore_(farm|world)_animals|Costumes/Animals": "mammal",
    r"stamps/animals|png/animals": "animal",
    r"stamps/plants/flower|png/plants/flowers|/(Fresh|Yellow)Flower|flower-bed": "flower",
    r"stamps/plants/tree|png/plants/trees|Nature/(tree|forest|woods)": "tree",
    r"stamps/plants|png/plants": "plant",
    r"stamps/food/fruit|png/food/fruit": "fruit",
    r"stamps/food/vegetables|png/food/vegetables|categorization/.*/vegetables": "vegetable",
    r"stamps/food/dessert|png/food/desserts": "dessert",
    r"png/food/beverages": "drink",
    r"stamps/food|png/food|categorization/.*/food": "food",
    r"stamps/vehicles/flight|transportation/air|/airplane|categorization/.*/flight": "airplane",
    r"stamps/vehicles/ship|png/transportation/boating|Transportation/.*(boat|yacht)": "ship",
    r"stamps/vehicles/(auto|race)|png/transportation/vehicles|Transportation/(car|convert)": "car",
    r"stamps/vehicles|png/transportation/[^/]*$|Costumes/Transportation|/transports?/": "vehicle",
    r"stamps/town/houses|png/buildings/homes|Outdoors/.*(house|mansion|village)": "house",
    r"stamps/town/monuments|explore_monuments|categorization/.*/monuments": "monument",
    r"stamps/town/flags|png/signs_and_symbols/flags/(europe|asia|america|africa)/[^/]*$": "flag",
    r"stamps/town|png/buildings/[^/]*$|Backgrounds/Outdoors": "building",
    r"stamps/household/tools|png/tools/[^/]*$|categorization/.*/tools": "tool",
    r"png/buildings/furniture|Backgrounds/Indoors": "furniture",
    r"stamps/hobbies/music|png/recreation/music|categorization/.*/instruments": "music",
    r"stamps/sports|png/recreation/sports|Backgrounds/Sports": "sport",
    r"stamps/clothes|png/people/clothing": "clothing",
    r"stamps/people|png/people/[^/]*$|Costumes/People": "people",
    r"stamps/seasonal|png/recreation/(holiday|party)": "holiday",
    r"png/recreation/toys": "toy",
    r"stamps/space|png/.*astronomy": "planet",
    r"openclipart/png/(computer/hardware|electronics/[^/]*$)|stamps/household/electronics": "computer",
    r"backgrounds/mate/nature|Backgrounds/Nature|renewable|details/.*_background": "landscape",
    r"lomiri|ukui|plasma-workspace|gnome-backgrounds|mate-backgrounds": "wallpaper",
}
"""From a pattern of package and path to a topic; the first that fits counts."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture of a package."""

    package: str
    path: str
    topic: str
    name: str
    words: dict[str, str]
    """Its name in other languages, by code; as a rule empty."""
    licence: str
    content: bytes = field(repr=False)


def unpack(names: tuple[str, ...], folder: Path) -> None:
    """Download packages with Debian's own client and unpack them below a folder; what is there already stays."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        if (folder / name).is_dir():
            continue
        subprocess.run(["apt-get", "-q", "download", name], cwd=folder, check=True)
        (package,) = folder.glob(f"{name}_*.deb")
        subprocess.run(["dpkg-deb", "-x", str(package), str(folder / name)], check=True)


def pictures(folder: Path) -> Iterator[Picture]:
    """All pictures of the packages that have a topic and are large enough, one of each size series."""
    for package in PACKAGES:
        licences = _licences(folder / package / "usr/share/doc" / package / "copyright")
        seen: set[str] = set()
        for path, content, text in _files(folder / package):
            topic = _topic(f"{package}/{path}")
            series = _series(path)
            if topic is None or series in seen or not _fits(content):
                continue
            seen.add(series)
            words = _translations(text)
            yield Picture(
                package=package,
                path=path,
                topic=topic,
                name=words.pop("en", "") or _name(path),
                words=words,
                licence=_licence(licences, path),
                content=content,
            )


def _files(root: Path) -> Iterator[tuple[str, bytes, str]]:
    """Path, content and the text beside it; larger files first, so that of each series the largest is taken."""
    share = root / "usr/share"
    found = [file for file in share.rglob("*") if file.suffix.lower() in KINDS and not file.is_symlink()]
    for file in sorted(found, key=lambda file: (-file.stat().st_size, str(file))):
        beside = file.with_suffix(".txt")
        text = beside.read_text("utf-8", "replace") if beside.is_file() else ""
        yield str(file.relative_to(share)), file.read_bytes(), text
    for file in sorted(share.rglob("*.rcc")):
        for path, content in qt_resources(file.read_bytes()):
            if PurePosixPath(path).suffix in KINDS:
                yield path, content, ""


def qt_resources(file: bytes) -> Iterator[tuple[str, bytes]]:
    """Paths and contents of a compiled Qt resource; compressed ones are passed over, pictures are not."""
    version, tree, data, names = struct.unpack(">4x4I", file[:20])
    size = 14 if version < 2 else 22

    def walk(number: int, path: str) -> Iterator[tuple[str, bytes]]:
        at = tree + number * size
        name, flags, first, second = struct.unpack(">IHII", file[at : at + 14])
        if number:
            (length,) = struct.unpack(">H", file[names + name : names + name + 2])
            path = f"{path}/{file[names + name + 6 : names + name + 6 + 2 * length].decode('utf-16-be')}".lstrip("/")
        if flags & 2:
            for child in range(second, second + first):
                yield from walk(child, path)
        elif not flags:
            start = data + second
            (length,) = struct.unpack(">I", file[start : start + 4])
            yield path, file[start + 4 : start + 4 + length]

    return walk(0, "")


def _topic(path: str) -> str | None:
    return next((topic for pattern, topic in TOPICS.items() if re.search(pattern, path)), None)


def _series(path: str) -> str:
    """The path without sizes: wallpapers lie in packages in several."""
    return re.sub(r"(images/|screenshot|_?\d{3,4}x\d{3,4}|\.\w+$)", "", path.replace("images_dark", "dark"))


def _fits(content: bytes) -> bool:
    try:
        with Image.open(io.BytesIO(content)) as image:
            return min(image.size) >= SMALLEST and image.width * image.height <= LARGEST
    except OSError:
        return False


def _name(path: str) -> str:
    """Words of the file's name: ``heron_greatblue2.png`` is "heron greatblue"."""
    stem = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", PurePosixPath(path).stem)
    words = [word.lower() for word in re.findall(r"[^\W\d_]{3,}", stem.split("_by_")[0])]
    return " ".join(words[:2])


def _translations(text: str) -> dict[str, str]:
    """Names of one or two words from a stamp's text: in the first line, and in ``de.utf8=Die Katze`` and the like."""
    lines = text.splitlines()
    found = {"en": lines[0] if lines else ""}
    found |= {line[:2]: line[8:] for line in lines[1:] if line[2:8] == ".utf8="}
    article = r"^(an?|the|der|die|das|eine?|une?|les?|la|l'|el|los|las|un|una|unos|unas) "
    names = {code: re.sub(article, "", found.get(code, "").strip(" .!\t").lower()) for code in LANGUAGES}
    return {code: name for code, name in names.items() if re.fullmatch(r"[^\W\d_]{3,}( [^\W\d_]{3,})?", name)}


def _licences(copyright_file: Path) -> list[tuple[str, str]]:
    """Patterns of files with their licences, in the order of a machine-readable copyright file.

    Kinds are left out, since packages convert pictures when they are built.
    """
    text = copyright_file.read_text("utf-8", "replace")
    found = [("*", "public domain")] if "creative commons Public Domain Dedication" in text else []
    for stanza in re.split(r"\n\s*\n", text):
        files = re.search(r"^Files:(.*(?:\n[ \t].*)*)", stanza, re.M)
        licence = re.search(r"^License:[ \t]*(.+)", stanza, re.M)
        if files and licence:
            patterns = (re.sub(r"\.\w+$", "", pattern) for pattern in files[1].split())
            found += [(pattern, licence[1].strip()) for pattern in patterns]
    return found


def _licence(licences: list[tuple[str, str]], path: str) -> str:
    """The licence of the last pattern that fits; packages put files into other folders than their sources have."""
    name = PurePosixPath(path).with_suffix("")
    whole = [
        licence
        for pattern, licence in licences
        if str(name).endswith(pattern) or ("*" in pattern and fnmatch.fnmatchcase(str(name), f"*{pattern}"))
    ]
    by_name = [licence for pattern, licence in licences if PurePosixPath(pattern).name == name.name]
    return [UNKNOWN, *by_name, *whole][-1]
