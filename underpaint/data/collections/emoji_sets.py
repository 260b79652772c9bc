"""The emoji of two vendors, Twitter's and Google's: the same concepts as OpenMoji's, drawn by other hands.

Tags are the English keywords of emojilib and the words of the short name (``thumbs_up``), as they come. The categories
of the transfer task, the families and the splits are those of OpenMoji (``emoji_concepts``), so a concept that is
tested on in one set is pretrained on in none. Variants in skin tone are left out: they would be half of the images, and
differ from each other in a colour only.
"""

from __future__ import annotations

import tempfile
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path

from underpaint.data.collections.emoji_concepts import Drawing, emoji_names, families, records, without_selector
from underpaint.data.collections.registries import get_npm
from underpaint.data.collections.thumbnails import write_thumbnails
from underpaint.data.collections.words import plain
from underpaint.data.source import Record
from underpaint.files import read_json

SETS_VERSION = "16.0.0"
KEYWORDS_VERSION = "4.0.3"


def prepare_twitter(images: Path) -> tuple[list[Record], str]:
    """Write Twitter's emoji into the folder ``images``; returns the records and the packages' versions."""
    return _prepare("twitter", images)


def prepare_google(images: Path) -> tuple[list[Record], str]:
    """Write Google's emoji into the folder ``images``; returns the records and the packages' versions."""
    return _prepare("google", images)


def _prepare(vendor: str, images: Path) -> tuple[list[Record], str]:
    names = emoji_names()  # first, since a missing package should be told before the download
    with tempfile.TemporaryDirectory(dir=images.parent) as folder:
        sheet, keywords = Path(folder) / f"emoji-datasource-{vendor}", Path(folder) / "emojilib"
        version = get_npm(
            [f"{sheet.name}@{SETS_VERSION}", f"emojilib@{KEYWORDS_VERSION}"],
            Path(folder),
            wanted=("emoji.json", f"img/{vendor}/64/", "dist/emoji-en-US.json"),
        )
        tags = emoji_tags(read_json(sheet / "emoji.json"), read_json(keywords / "dist" / "emoji-en-US.json"))
        files = {codes: sheet / "img" / vendor / "64" / _file_name(codes) for codes in tags}
        here = {file.name: file for file in files.values() if file.is_file()}
        pixels = write_thumbnails(here, images, trim=False, description=f"Copying {vendor}'s emoji")
    pictures = [
        Drawing(file=files[codes], codes=codes, names=names.get(without_selector(codes), {}))
        for codes in sorted(tags, key=lambda codes: files[codes].name)
        if files[codes].name in pixels
    ]
    family = families(pictures, pixels={Path(name).stem: digest for name, digest in pixels.items()})
    return records(pictures, family, {drawing.file.stem: tags[drawing.codes] for drawing in pictures}), version


def emoji_tags(
    sheet: Iterable[Mapping[str, str]], keywords: Mapping[str, list[str]]
) -> dict[tuple[int, ...], tuple[str, ...]]:
    """The tags of each emoji of ``emoji.json`` but the skin tones, by code points.

    Raises:
        ValueError: if the file does not look as it should.
    """
    of_codes = {without_selector(tuple(map(ord, emoji))): words for emoji, words in keywords.items()}
    tags_of: dict[tuple[int, ...], tuple[str, ...]] = {}
    try:
        for entry in sheet:
            codes = tuple(int(code, 16) for code in entry["unified"].split("-"))
            if entry["subcategory"] != "skin-tone":
                short = plain(entry["short_name"]).replace("-", " ").split()
                words = [
                    unicodedata.normalize("NFC", word).lower().strip()
                    for word in of_codes.get(without_selector(codes), ())
                ]
                tags_of[codes] = tuple(dict.fromkeys(tag for tag in (*words, *short) if tag))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"emoji.json is not what emoji-datasource {SETS_VERSION} has: {error!r}") from error
    return tags_of


def _file_name(codes: tuple[int, ...]) -> str:
    return "-".join(f"{code:04x}" for code in codes) + ".png"
