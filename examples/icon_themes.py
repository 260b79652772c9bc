"""Make tagged images and classes out of icon themes, to try a study on images of no built-in collection.

    apt-get download oxygen-icon-theme gnome-icon-theme mate-icon-theme faenza-icon-theme elementary-xfce-icon-theme
    for package in *.deb; do dpkg-deb -x "$package" themes; done
    python examples/icon_themes.py themes/usr/share/icons/{oxygen,gnome,mate,Faenza,elementary-xfce} --out icons
    underpaint study stages --size small --images icons/images --tags icons/tags.csv --labels icons/labels.csv

Each icon is taken once from a theme, at its largest size of 32 to 256 pixels; links are left out. The words of its
file name are its tags; what it is for, the folder that it lies in, is its class. The icons stay under their themes'
licences.
"""

from __future__ import annotations

import argparse
import csv
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

SMALLEST, LARGEST = 32, 256
CLASSES = {
    "actions": "actions",
    "apps": "programs",
    "categories": "categories",
    "devices": "devices",
    "emblems": "emblems",
    "emotes": "emotes",
    "mimes": "files",
    "mimetypes": "files",
    "places": "places",
    "status": "status",
}
"""By the folder's name in the theme: what the icon theme specification calls a context."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("themes", type=Path, nargs="+", metavar="THEME", help="a folder as /usr/share/icons/gnome")
    parser.add_argument("--out", type=Path, required=True, help="a new folder: images/, tags.csv and labels.csv")
    options = parser.parse_args()
    themes: list[Path] = [theme.resolve() for theme in options.themes]
    names = [theme.name for theme in themes]
    for theme in themes:
        if not theme.is_dir():
            parser.error(f"no such folder: {theme}")
        if not theme.name:
            parser.error(f"{theme} is not a theme; name folders as /usr/share/icons/gnome")
        if names.count(theme.name) > 1:
            parser.error(
                f"two themes are called {theme.name!r}, and their icons would overwrite each other; rename one"
            )
        if options.out.resolve().is_relative_to(theme):
            parser.error(f"--out {options.out} lies in the theme {theme}; name a folder outside")
    if options.out.exists() or options.out.is_symlink():
        parser.error(f"{options.out} exists; name a folder that does not")
    tags, labels = [], []
    for theme in themes:
        for name, icon in sorted(largest(theme).items()):
            path = f"{theme.name}/{name}.png"
            (options.out / "images" / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(icon, options.out / "images" / path)
            tags.append((path, " ".join(words(icon.stem))))
            labels.append((path, name.split("/")[0]))
    if not tags:
        parser.error("no icons of 32 to 256 pixels in these folders, as 48x48/apps/NAME.png or apps/48/NAME.png")
    write(options.out / "tags.csv", ("path", "tags"), tags)
    write(options.out / "labels.csv", ("path", "class"), labels)
    print(f"{len(tags)} icons, {len({label for _, label in labels})} classes, in {options.out}")


def largest(theme: Path) -> dict[str, Path]:
    """By "class/name" the file of the largest size."""
    found: dict[str, tuple[int, Path]] = {}
    for size, kind, file in icons(theme):
        name = f"{kind}/{file.stem}"
        if SMALLEST <= size <= LARGEST and size > found.get(name, (0, file))[0]:
            found[name] = (size, file)
    return {name: file for name, (_, file) in found.items()}


def icons(theme: Path) -> Iterator[tuple[int, str, Path]]:
    """Size in pixels, class, file. Themes order their folders either way: ``48x48/apps`` and ``apps/48``."""
    for file in theme.rglob("*.png"):
        folders = file.relative_to(theme).parts[:-1]
        sizes = [int(match[1]) for name in folders if (match := re.fullmatch(r"([1-9][0-9]*)(x\1)?", name))]
        kinds = [CLASSES[name] for name in folders if name in CLASSES]
        if sizes and kinds and file.is_file() and not file.is_symlink() and is_text(file.name):
            yield sizes[0], kinds[0], file


def is_text(name: str) -> bool:
    """Whether the tables, which are UTF-8, can hold the name of a file."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def words(stem: str) -> list[str]:
    """``network-wireless_encrypted`` and ``AdobeReader9`` in words; numbers and single letters are none."""
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", stem)
    return sorted({word.lower() for word in re.findall(r"[^\W\d_]{2,}", parted)})


def write(path: Path, columns: tuple[str, ...], rows: list[tuple[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


if __name__ == "__main__":
    main()
