"""Catalog of the collections that come with the package, prepared once as plain folders in the cache.

A new one is an entry of ``COLLECTIONS`` and a function that writes images into a folder and returns their records.
"""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from underpaint.data.cache import cache_folder
from underpaint.data.collections import digits, emoji_sets, icons, openclipart, openmoji, tuxpaint
from underpaint.data.source import Caption, Record, Source, make_source
from underpaint.files import locked, read_json, write_json
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
    resumable: bool = False
    """Whether ``prepare`` goes on with what an interrupted preparation left in the folder."""


COLLECTIONS = (
    Collection(
        name="openmoji",
        description="4,495 drawings of emoji and more, with the words of their names in 14 languages as tags",
        edition=3,
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
        edition=2,
        prepare=emoji_sets.prepare_twitter,
        licence="Graphics CC BY 4.0; keywords MIT",
        attribution="Twemoji, Twitter and other contributors, through emoji-datasource-twitter (Cal Henderson); "
        "keywords from emojilib (Mu-An Chiou)",
    ),
    Collection(
        name="emoji-google",
        description="1,906 emoji drawn for Google, with English keywords as tags (74 MB with npm)",
        edition=2,
        prepare=emoji_sets.prepare_google,
        licence="Graphics Apache-2.0; keywords MIT",
        attribution="Noto Emoji, Google, through emoji-datasource-google (Cal Henderson); keywords from emojilib "
        "(Mu-An Chiou)",
    ),
    Collection(
        name="icons",
        description="123,000 icons of 143 sets, one style of each, with the words of their names (104 MB with npm)",
        edition=1,
        prepare=icons.prepare,
        licence="Apache-2.0, BSD-3-Clause, CC BY 3.0, CC BY 4.0, CC0 1.0, ISC, MIT or Unlicense, by set: credits.csv",
        attribution="The authors of 143 icon sets, named in credits.csv and by image in licences.parquet, through "
        "@iconify/json (Vjacheslav Trushkin)",
        resumable=True,
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
        content_hash=about.get("content_hash", ""),  # older folders have none
    )


def _find(name: str) -> Collection:
    names = [collection.name for collection in COLLECTIONS]
    if name not in names:
        meant = hint(name, names, form="'{}'", otherwise=f"there are {', '.join(names)}.")
        raise ValueError(f"no collection is called '{name}'; {meant} A folder has a '/' in its name, as in ./{name}")
    return COLLECTIONS[names.index(name)]


def _make(collection: Collection, folder: Path) -> None:
    """Prepare a collection in ``NAME.part`` and rename it, so that the folder is whole or absent.

    One process prepares; any further one waits for it and then uses its folder.
    """
    locks = folder.parent.parent / "locks"
    for needed in (folder.parent, locks):
        needed.mkdir(parents=True, exist_ok=True)
    with locked(locks / folder.name):
        if (folder / "collection.json").is_file():
            return
        say(f"Preparing {collection.name} in {folder}")
        say(f"Licence: {collection.licence}. {collection.attribution}")
        part = folder.with_name(f"{folder.name}.part")
        if not collection.resumable:
            shutil.rmtree(part, ignore_errors=True)
        (part / "images").mkdir(parents=True, exist_ok=True)
        try:
            _fill(collection, part)
            if folder.exists():
                shutil.rmtree(folder)  # somebody deleted half of it
            os.rename(part, folder)
        finally:
            if not collection.resumable:
                shutil.rmtree(part, ignore_errors=True)


def _fill(collection: Collection, part: Path) -> None:
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
    prepared = make_source(
        collection.name, part, records=records, problems=(), licence="", attribution=""
    )  # its hash is kept, since it takes a look at every file
    write_json(part / "collection.json", about | {"content_hash": prepared.content_hash})


def _write_records(file: Path, records: list[Record]) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([_row(record) for record in records], _schema()), file)


def _row(record: Record) -> dict[str, object]:
    return {**asdict(record), "captions": [caption._asdict() for caption in record.captions]}


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
            captions=tuple(Caption(**caption) for caption in row["captions"] or ()),  # null in older files
        )
        for row in rows
    ]


def _schema() -> pa.Schema:
    import pyarrow

    text, texts = pyarrow.string(), pyarrow.list_(pyarrow.string())
    captions = pyarrow.list_(pyarrow.struct({"text": text, "language": text}))
    fields = {"path": text, "tags": texts, "label": text, "family": text, "splits": texts, "flip": pyarrow.bool_()}
    return pyarrow.schema(fields | {"captions": captions})
