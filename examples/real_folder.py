"""Make a folder of real pictures as people have them, whose tags, copies and damage are known, to try underpaint on.

    python examples/real_folder.py --packages packages --out real --seed 0
    python examples/real_folder_check.py real

Downloads some 700 MB of Debian packages with ``apt-get`` (nothing is installed). ``real/photos`` gets the pictures:
tagged in the manner of Lightroom, digiKam, darktable, Flickr and Capture One, with copies, bursts, HEIC, sidecars,
hierarchies, four languages, misspellings, damaged and foreign files and folders of programs. Beside it lie the exported
tables, ``origins.csv`` with the package and licence of each picture, and ``truth.json``. The pictures stay under their
licences. Needs Pillow and pillow-heif.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import random
import re
import shutil
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import pillow_heif
from PIL import Image, ImageEnhance, ImageOps
from real_folder_pictures import LANGUAGES, PACKAGES, Picture, pictures, unpack
from real_folder_programs import LANGUAGE_OF, Tagged, write_tags
from real_folder_words import MISSPELT, SURROUNDINGS, WORDS, chain

PER_TOPIC = 70
SHARES = {"lightroom": 22, "digikam": 22, "darktable": 20, "flickr": 16, "captureone": 10, "folders": 10}
"""Per cent of the pictures that each manner of tagging gets; ``folders`` are images without tags in named folders."""
SUFFIXES = {".jpg": 78, ".JPG": 6, ".png": 6, ".heic": 5, ".webp": 3, ".tif": 2}
ALBUMS = {
    "lightroom": "Lightroom/2019/2019-06-{:02d}",
    "digikam": "Bilder/2018/Urlaub {:02d}",
    "darktable": "Images/100NIKON/{:02d}",
    "flickr": "Descargas/flickr {}",
    "captureone": "Output/Session {}",
}
EXACT, NEAR, BURSTS, FRAMES = 60, 90, 40, 3
"""Exact copies; near copies of each kind together; bursts and their further frames."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", type=Path, required=True, help="folder for unpacked packages, kept for next time")
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    parser.add_argument("--seed", type=int, default=0, help="seed of all draws (default: 0)")
    options = parser.parse_args()
    if options.out.exists():
        parser.error(f"--out {options.out} exists; name a folder that does not")
    unpack((*PACKAGES, "libimage-exiftool-perl"), options.packages)
    perl = options.packages / "libimage-exiftool-perl/usr"
    exiftool = ["perl", "-I", str(perl / "share/perl5"), str(perl / "bin/exiftool")]
    pillow_heif.register_heif_opener()
    make(list(pictures(options.packages)), options.out, random.Random(options.seed), exiftool)


def make(found: list[Picture], out: Path, draw: random.Random, exiftool: Sequence[str]) -> None:
    """Write the folder, the tables and the truth."""
    taken = [picture for topic in sorted(WORDS) for picture in _some(found, topic, draw)]
    draw.shuffle(taken)
    photos = out / "photos"
    images = [_plan(number, picture, draw) for number, picture in enumerate(taken)]
    for image, picture in zip(images, taken, strict=True):
        save(opened(picture, draw), photos / image.path)
    write_tags(images, photos, exiftool)
    truth = {
        "images": {
            image.path: asdict(image)
            | {"topic": picture.topic, "concepts": concepts(image), "words": written(image), "package": picture.package}
            for image, picture in zip(images, taken, strict=True)
        },
        "variants": {word: concept for concept in WORDS for word in _variants(concept)},
        "misspelt": {wrong: word for word, wrong in MISSPELT.items()},
        "copies": plant_copies(images, photos, draw),
        "others": plant_others(images, photos),
    }
    (out / "truth.json").write_text(json.dumps(truth, ensure_ascii=False, indent=1), "utf-8")
    with (out / "origins.csv").open("w", encoding="utf-8", newline="") as file:
        rows = [(image.path, p.package, p.path, p.licence) for image, p in zip(images, taken, strict=True)]
        csv.writer(file).writerows([("image", "package", "file", "licence"), *sorted(rows)])
    with (out / "classes.csv").open("w", encoding="utf-8", newline="") as file:
        classes = [(image.path, picture.topic) for image, picture in zip(images, taken, strict=True)]
        csv.writer(file).writerows([("path", "class"), *sorted(classes)])
    print(f"{len(images)} pictures, {len(truth['copies'])} copies, {len(truth['others'])} other files in {photos}")


def _some(found: Sequence[Picture], topic: str, draw: random.Random) -> list[Picture]:
    some = [picture for picture in found if picture.topic == topic]
    return draw.sample(some, min(PER_TOPIC, len(some)))


def _plan(number: int, picture: Picture, draw: random.Random) -> Tagged:
    """Program, path and tags of a picture."""
    (program,) = draw.choices(list(SHARES), weights=list(SHARES.values()))
    (suffix,) = draw.choices(list(SUFFIXES), weights=list(SUFFIXES.values()))
    taken = f"2019:06:{1 + number % 28:02d} {8 + number % 12:02d}:{number % 60:02d}:00"
    language = LANGUAGE_OF.get(program, draw.choice(LANGUAGES))
    if program == "folders":
        folder = WORDS[picture.topic][LANGUAGES.index(language)].title()
        folder = unicodedata.normalize("NFD", folder) if number % 2 else folder  # as macOS writes names
        path = f"Sammlung/{folder}/P{number:07d}{suffix}"
        return Tagged(path=path, program=program, levels=(picture.topic,), flat=(), taken=taken)
    album = ALBUMS[program].format(1 + number % 9)
    identifier = str(48_000_000_000 + 7919 * number) if program == "flickr" else ""
    name = {
        "lightroom": f"IMG_{number:04d}",
        "digikam": f"DSC{number:05d}",
        "darktable": f"p{1000000 + number}",
        "flickr": f"{picture.name.replace(' ', '-') or 'foto'}_{identifier}_o",
        "captureone": f"Session #{1 + number % 9} - {number:04d}",
    }[program]
    speaks = language if draw.random() < 0.65 else "en"
    levels = tuple(_spelt(concept, speaks, draw) for concept in chain(picture.topic))
    beside = [place for place, topics in SURROUNDINGS.items() if picture.topic in topics.split()]
    flat = [_spelt(draw.choice(beside), draw.choice((language, "en")), draw)] if beside else []
    own = picture.words.get(language if speaks == language else "en", picture.name)
    flat += [own] if own and own not in levels else []
    stale = ("unsortiert",) if program == "digikam" and draw.random() < 0.2 else ()
    return Tagged(
        path=f"{album}/{name}{suffix}",
        program=program,
        levels=levels,
        flat=tuple(dict.fromkeys(flat)),
        identifier=identifier,
        stale=stale,
        taken=taken,
    )


def _spelt(concept: str, language: str, draw: random.Random) -> str:
    word = WORDS[concept][LANGUAGES.index(language)]
    return MISSPELT[word] if word in MISSPELT and draw.random() < 0.08 else word


def _variants(concept: str) -> list[str]:
    return [form for word in WORDS[concept] for form in (word, MISSPELT.get(word)) if form]


def concepts(image: Tagged) -> list[str]:
    """Concepts of the image's tags; the names of single pictures are none."""
    by_word = {word: concept for concept in WORDS for word in _variants(concept)}
    return list(dict.fromkeys(by_word[word] for word in image.words if word in by_word))


def written(image: Tagged) -> list[str]:
    """Tags that a reader must find: those of a folder's name if there are no others."""
    return [Path(image.path).parent.name] if image.program == "folders" else list(image.words)


def opened(picture: Picture, draw: random.Random) -> Image.Image:
    """The picture with at most 1,000 pixels a side, parts that are transparent on a light ground."""
    with Image.open(io.BytesIO(picture.content)) as image:
        image.draft("RGB", (1000, 1000))
        image = ImageOps.exif_transpose(image).convert("RGBA")
    image.thumbnail((1000, 1000))
    tint = (255, 255, 255) if draw.random() < 0.5 else tuple(draw.randrange(200, 256) for _ in range(3))
    ground = Image.new("RGBA", image.size, (*tint, 255))
    return Image.alpha_composite(ground, image).convert("RGB")


def save(image: Image.Image, path: Path, quality: int = 92) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = {".jpg": "JPEG", ".png": "PNG", ".heic": "HEIF", ".webp": "WEBP", ".tif": "TIFF"}[path.suffix.lower()]
    options = {"compression": "tiff_lzw"} if kind == "TIFF" else {} if kind == "PNG" else {"quality": quality}
    image.save(path, kind, **options)


def plant_copies(images: Sequence[Tagged], photos: Path, draw: random.Random) -> list[dict[str, str]]:
    """Exact and near copies of some images and further frames of bursts; each with its kind and its original."""
    copies = []
    some = draw.sample(images, EXACT + NEAR + BURSTS)
    for image in some[:EXACT]:
        copy = f"Backup/2020-01/{image.path.replace('/', ' ')}"
        (photos / copy).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(photos / image.path, photos / copy)
        copies.append({"path": copy, "of": image.path, "kind": "exact"})
    for number, image in enumerate(some[EXACT : EXACT + NEAR]):
        kind, change, quality = NEAR_KINDS[number % len(NEAR_KINDS)]
        copy = f"WhatsApp Images/IMG-201906{1 + number % 28:02d}-WA{number:04d}.jpg"
        save(change(_read(photos / image.path)), photos / copy, quality)
        copies.append({"path": copy, "of": image.path, "kind": kind})
    for image in some[EXACT + NEAR :]:
        for frame in range(1, FRAMES + 1):
            copy = re.sub(r"(\.\w+)$", rf"_burst{frame}.jpg", image.path)
            save(_moved(_read(photos / image.path), draw), photos / copy, 92)
            copies.append({"path": copy, "of": image.path, "kind": "burst"})
    return copies


def _read(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def _scaled(image: Image.Image) -> Image.Image:
    return image.resize((max(1, image.width * 3 // 5), max(1, image.height * 3 // 5)))


def _cropped(image: Image.Image) -> Image.Image:
    return image.crop((image.width // 40, image.height // 40, image.width - image.width // 40, image.height))


NEAR_KINDS: tuple[tuple[str, Callable[[Image.Image], Image.Image], int], ...] = (
    ("re-encoded", lambda image: image, 50),
    ("resized", _scaled, 80),
    ("cropped", _cropped, 85),
)


def _moved(image: Image.Image, draw: random.Random) -> Image.Image:
    """The next frame of a burst: moved by up to 1.5% of a side, a little lighter or darker."""
    across, down = image.width * 15 // 1000, image.height * 15 // 1000
    left, top = draw.randint(0, across), draw.randint(0, down)
    frame = image.crop((left, top, image.width - across + left, image.height - down + top))
    return ImageEnhance.Brightness(frame).enhance(draw.uniform(0.96, 1.04))


def plant_others(images: Sequence[Tagged], photos: Path) -> list[dict[str, str]]:
    """Damaged and empty images, files of other kinds, and what programs and systems keep for themselves."""
    whole = [photos / image.path for image in images if image.path.endswith(".jpg")]
    content = whole[0].read_bytes()
    fork = b"\0\x05\x16\x07\0\x02\0\0Mac OS X        "
    plan: list[tuple[str, str, int, bytes]] = [
        ("empty", "Bilder/2018/empty{n}.jpg", 4, b""),
        ("no image", "Descargas/error{n}.jpg", 3, b"<!DOCTYPE html><title>404 Not Found</title>"),
        ("other kind", "Bilder/2018/MVI_{n:04d}.MOV", 5, b"\0\0\0\x14ftypqt  "),
        ("other kind", "Bilder/2018/notes.txt", 1, b"text"),
        ("other kind", "Bilder/2018/Katalog.pdf", 1, b"%PDF-1.4"),
        ("other kind", "Bilder/2018/IMG_1.AAE", 1, b"<?xml?>"),
        *(("system", f"Bilder/2018/{name}", 1, b"\0") for name in ("Thumbs.db", ".DS_Store", "desktop.ini")),
        ("system", "Lightroom/2019/._IMG_{n:04d}.jpg", 8, fork),
        ("helper", "Bilder/2018/@eaDir/DSC{n:05d}.jpg/SYNOPHOTO_THUMB_M.jpg", 40, content),
        ("helper", "Lightroom/Katalog Previews.lrdata/{n}/{n}.jpg", 20, content),
        ("helper", "Bilder/#recycle/DSC{n:05d}.jpg", 7, content),
        ("hidden", "Bilder/.dtrash/files/DSC{n:05d}.jpg", 5, content),
    ]
    files = [(kind, name.format(n=n), text) for kind, name, count, text in plan for n in range(count)]
    for n, path in enumerate(whole[:6]):
        files.append(("damaged", f"Lightroom/2019/cut{n}.jpg", path.read_bytes()[: 2000 + 500 * n]))
    for _, name, text in files:
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        (photos / name).write_bytes(text)
    duplicates = [image for image in images if image.program == "darktable"][:10]
    for image in duplicates:  # the second edit of one image, which darktable keeps beside the first
        second = re.sub(r"(\.\w+)$", r"_01\1.xmp", image.path)
        shutil.copy2(photos / f"{image.path}.xmp", photos / second)
        files.append(("second sidecar", second, b""))
    return [{"kind": kind, "path": name} for kind, name, _ in files]


if __name__ == "__main__":
    main()
