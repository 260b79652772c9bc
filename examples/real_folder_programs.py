"""Tags as photo programs write them, for ``real_folder.py``: inside images, in sidecars and in exported tables.

exiftool writes everything that is inside a file; one process does so for all files.
"""

from __future__ import annotations

import csv
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

LANGUAGE_OF = {"lightroom": "en", "digikam": "de", "darktable": "fr", "flickr": "es", "captureone": "en"}
"""The language that the owner of each program's part speaks beside English."""


@dataclass(frozen=True, kw_only=True)
class Tagged:
    """An image with the words that its owner gives it."""

    path: str
    program: str
    levels: tuple[str, ...]
    """Words of the tag with the words above it, the most general first."""
    flat: tuple[str, ...]
    """Further tags."""
    identifier: str = ""
    """Number of the image at Flickr."""
    stale: tuple[str, ...] = ()
    """Tags inside the image that a newer sidecar has replaced."""
    taken: str = "2019:06:12 10:00:00"

    @property
    def words(self) -> tuple[str, ...]:
        """All distinct tags."""
        return tuple(dict.fromkeys([*self.flat, *self.levels]))


def write_tags(images: Sequence[Tagged], folder: Path, exiftool: Sequence[str]) -> None:
    """Write the tags of all images: embedded, into sidecars, and into a table of each program that exports one."""
    orders: list[list[str]] = []
    for image in images:
        path = folder / image.path
        orders.append([*_dates(image), *_embedded(image), str(path)])
        if image.program in ("digikam", "darktable"):
            orders.append([*_sidecar(image), f"{path}.xmp"])
    _run(exiftool, [order for order in orders if len(order) > 1], folder)
    for image in images:
        newer = 0 if image.stale or image.program != "digikam" else -3600
        for name, seconds in ((f"{image.path}.xmp", 3600 + newer), (image.path, 0)):
            if (folder / name).exists():
                os.utime(folder / name, (1.6e9 + seconds, 1.6e9 + seconds))
    _tables(images, folder)


def _dates(image: Tagged) -> list[str]:
    if not image.path.lower().endswith((".jpg", ".heic", ".tif")):
        return []
    return [f"-EXIF:DateTimeOriginal={image.taken}", "-EXIF:Make=NIKON CORPORATION", "-EXIF:Model=NIKON D750"]


def _embedded(image: Tagged) -> list[str]:
    """Arguments for what the program writes into the image itself."""
    if image.program == "digikam":
        return [f"-XMP-dc:Subject={tag}" for tag in image.stale]
    if image.program != "lightroom":
        return []
    order = [f"-XMP-dc:Subject={tag}" for tag in image.words]
    if len(image.levels) > 1:
        order.append(f"-XMP-lr:HierarchicalSubject={'|'.join(image.levels)}")
    order += [f"-XMP-lr:HierarchicalSubject={tag}" for tag in image.flat]
    if image.path.lower().endswith((".jpg", ".tif")):
        order += ["-IPTC:CodedCharacterSet=UTF8", *(f"-IPTC:Keywords={tag}" for tag in image.words)]
    return [*order, "-XMP-xmp:Rating=3", "-XMP-xmp:CreatorTool=Adobe Photoshop Lightroom Classic 12.0 (Windows)"]


def _sidecar(image: Tagged) -> list[str]:
    """Arguments for ``x.jpg.xmp``: digiKam's four lists of the same tags, or darktable's two."""
    bars = ["|".join(image.levels), *image.flat]
    if image.program == "darktable":
        flat = [f"-XMP-dc:Subject={tag}" for tag in image.words]
        tree = [f"-XMP-lr:HierarchicalSubject={tag}" for tag in bars]
        return [*flat, *tree, "-XMP-xmp:Rating=1"]
    slashes = [bar.replace("|", "/") for bar in bars]
    return [
        *(f"-XMP-digiKam:TagsList={tag}" for tag in slashes),
        *(f"-XMP-microsoft:LastKeywordXMP={tag}" for tag in slashes),
        *(f"-XMP-lr:HierarchicalSubject={tag}" for tag in bars),
        *(f"-XMP-mediapro:CatalogSets={tag}" for tag in bars),
        *(f"-XMP-dc:Subject={tag}" for tag in (*image.flat, image.levels[-1])),
        "-XMP-xmp:CreatorTool=digiKam-7.9.0",
    ]


def _run(exiftool: Sequence[str], orders: Sequence[Sequence[str]], folder: Path) -> None:
    arguments = folder.with_name(f"{folder.name}.args")
    common = ("-overwrite_original", "-q", "-m")
    arguments.write_text("\n".join("\n".join([*common, *order, "-execute"]) for order in orders) + "\n", "utf-8")
    done = subprocess.run([*exiftool, "-@", str(arguments)], check=False, capture_output=True, text=True)
    arguments.unlink()
    if done.returncode or done.stderr:
        raise RuntimeError(f"exiftool: {done.stderr[:2000]}")


def _tables(images: Sequence[Tagged], folder: Path) -> None:
    """Flickr's export with an id and tags between blanks, Capture One's with semicolons and lists with commas."""
    flickr = [image for image in images if image.program == "flickr"]
    with folder.with_name("flickr.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "title", "date_taken", "tags"))
        for image in flickr:
            tags = " ".join(word.replace(" ", "").lower() for word in image.words)
            writer.writerow((image.identifier, Path(image.path).stem.rpartition("_")[0], image.taken, tags))
    with folder.with_name("captureone.csv").open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(("Filename", "Rating", "Keywords"))
        for image in images:
            if image.program == "captureone":
                levels = [" > ".join(image.levels)] if len(image.levels) > 1 else []
                writer.writerow((Path(image.path).name, 3, ", ".join([*image.flat, image.levels[-1], *levels])))
