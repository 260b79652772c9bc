"""Catalog of the collections that come with the package, prepared once as plain folders in the cache.

A new one is an entry of ``COLLECTIONS`` and a function that writes images into a folder and returns their records.
"""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from underpaint.data.cache import cache_folder
from underpaint.data.collections import digits, emoji_sets, openclipart, openmoji, tuxpaint
from underpaint.data.source import Record, Source, make_source
from underpaint.files import read_json, write_json
from underpaint.messages import say
from underpaint.suggest import hint

if TYPE_CHECKING:
    import pyarrow as pa

_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Collection:
    """A collection of the catalog: its description, licence, and the function that prepares it."""

    name: str
    description: str
    edition: int
    """Version, raised when the same packages would give other images, tags or splits; part of the folder's name."""
    prepare: Callable[[Path], tuple[list[Record], str]]
    """Function that writes the images into a folder and returns their records and the version of their origin."""
    licence: str
    attribution: str


COLLECTIONS = (
    Collection(
        name="openmoji",
        description="4,495 drawings of emoji and more, with the words of their names in 14 languages as tags",
        edition=2,
        prepare=openmoji.prepare,
        licence="CC BY-SA 4.0",
        attribution="All emojis designed by OpenMoji, the open-source emoji and icon project (openmoji.org); "
        "names from the Unicode CLDR through the package emoji",
    ),
    Collection(
        name="digits",
        description="1,797 handwritten digits of 8 x 8 pixels, for transfer",
        edition=1,
        prepare=digits.prepare,
        licence="CC BY 4.0",
        attribution="E. Alpaydin, C. Kaynak: Optical Recognition of Handwritten Digits, UCI Machine Learning "
        "Repository, through scikit-learn",
    ),
    Collection(
        name="openclipart",
        description="5,488 drawings with the keywords their authors typed (a download of 156 MB with apt-get)",
        edition=1,
        prepare=openclipart.prepare,
        licence="Public domain (Creative Commons Public Domain Dedication)",
        attribution="The authors of the Open Clip Art Project (openclipart.org), through the Debian packages "
        "openclipart-png and openclipart-svg",
    ),
    Collection(
        name="tuxpaint",
        description="616 stamps, half of them photographs, with captions in 70 languages (161 MB with apt-get)",
        edition=1,
        prepare=tuxpaint.prepare,
        licence="GPL-2.0-or-later",
        attribution="Bill Kendrick and the contributors of Tux Paint stamps (tuxpaint.org), through the Debian package "
        "tuxpaint-stamps-default",
    ),
    Collection(
        name="emoji-twitter",
        description="1,906 emoji drawn for Twitter, with English keywords as tags (62 MB with npm)",
        edition=1,
        prepare=emoji_sets.prepare_twitter,
        licence="Graphics CC BY 4.0; keywords MIT",
        attribution="Twemoji, Twitter and other contributors, through emoji-datasource-twitter (Cal Henderson); "
        "keywords from emojilib (Mu-An Chiou)",
    ),
    Collection(
        name="emoji-google",
        description="1,906 emoji drawn for Google, with English keywords as tags (74 MB with npm)",
        edition=1,
        prepare=emoji_sets.prepare_google,
        licence="Graphics Apache-2.0; keywords MIT",
        attribution="Noto Emoji, Google, through emoji-datasource-google (Cal Henderson); keywords from emojilib "
        "(Mu-An Chiou)",
    ),
)


def collections() -> list[tuple[str, str]]:
    """The name and description of each collection."""
    return [(collection.name, collection.description) for collection in COLLECTIONS]


def open_collection(name: str) -> Source:
    """The images of a collection, which is prepared on first use.

    Raises ValueError for an unknown name, and where a package that it is made from is not installed.
    """
    collection = _find(name)
    folder = cache_folder() / "collections" / f"{name}-{collection.edition}"
    if not (folder / "collection.json").is_file():
        _make(collection, folder)
    return _read(name, folder)


@functools.lru_cache(maxsize=8)
def _read(name: str, folder: Path) -> Source:
    """A prepared collection, cached in memory, since a study opens it for each run and it never changes."""
    about = read_json(folder / "collection.json")
    if about["format"] != _FORMAT:
        raise ValueError(f"{folder} has format {about['format']}, this version reads {_FORMAT}; delete the folder")
    return make_source(
        name,
        folder,
        records=_read_records(folder / "records.parquet"),
        problems=(),
        licence=about["licence"],
        attribution=about["attribution"],
    )


def _find(name: str) -> Collection:
    names = [collection.name for collection in COLLECTIONS]
    if name not in names:
        meant = hint(name, names, form="'{}'", otherwise=f"there are {', '.join(names)}.")
        raise ValueError(f"no collection is called '{name}'; {meant} A folder has a '/' in its name, as in ./{name}")
    return COLLECTIONS[names.index(name)]


def _make(collection: Collection, folder: Path) -> None:
    """Prepare a collection in a temporary folder and rename it, so that the folder is whole or absent."""
    say(f"Preparing {collection.name} in {folder}")
    say(f"Licence: {collection.licence}. {collection.attribution}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(folder.parent)
    with tempfile.TemporaryDirectory(prefix=f"{folder.name}.", suffix=".part", dir=folder.parent) as name:
        part = Path(name) / folder.name
        (part / "images").mkdir(parents=True)
        try:
            records, version = collection.prepare(part / "images")
        except ModuleNotFoundError as error:
            raise ValueError(
                f"the collection '{collection.name}' is made with the package {error.name}, which is not installed: "
                f"pip install '.[demo]'"
            ) from error
        _write_records(part / "records.parquet", records)
        about = {"format": _FORMAT, "name": collection.name, "edition": collection.edition, "made_from": version}
        about |= {"licence": collection.licence, "attribution": collection.attribution, "images": len(records)}
        write_json(part / "collection.json", about)
        _publish(part, folder)


def _remove_abandoned(cache: Path) -> None:
    """Delete temporary folders of killed processes, which are older than a day."""
    for part in cache.glob("*.part"):
        if part.stat().st_mtime < time.time() - 24 * 3600:
            shutil.rmtree(part, ignore_errors=True)


def _publish(part: Path, folder: Path) -> None:
    if folder.exists() and not (folder / "collection.json").is_file():
        shutil.rmtree(folder)  # somebody deleted half of it
    try:
        os.rename(part, folder)
    except OSError:
        if not (folder / "collection.json").is_file():
            raise
        # another process was faster: its folder is as good as ours


def _write_records(file: Path, records: list[Record]) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([asdict(record) for record in records], _schema()), file)


def _read_records(file: Path) -> list[Record]:
    import pyarrow.parquet

    rows = pyarrow.parquet.read_table(file, schema=_schema()).to_pylist()
    return [
        Record(
            path=row["path"],
            tags=tuple(row["tags"]),
            label=row["label"],
            family=row["family"],
            splits=tuple(row["splits"]),
            flip=row["flip"],
        )
        for row in rows
    ]


def _schema() -> pa.Schema:
    import pyarrow

    text, texts = pyarrow.string(), pyarrow.list_(pyarrow.string())
    return pyarrow.schema(
        {"path": text, "tags": texts, "label": text, "family": text, "splits": texts, "flip": pyarrow.bool_()}
    )
