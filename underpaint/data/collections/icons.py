"""Icons: some 123,000 drawings of 143 icon sets, with the words of their names, aliases and categories as tags.

Drawings of one concept, in whatever set, style or size, are one family. The held-out images are drawn by family, and
the near duplicates of them are left out of pretraining, since sets copy each other under other names. There is no
transfer task: the categories of the sets do not agree.
"""

from __future__ import annotations

import csv
import functools
import importlib
import os
import shutil
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import xxhash

from underpaint.data.collections.families import linked_families
from underpaint.data.collections.icon_drawing import colours, draw, png_bytes, recoloured, small_png
from underpaint.data.collections.icon_leaks import Leaks, compared_png, find_leaks
from underpaint.data.collections.icon_sets import Credit, Icon, read_credits, read_icons
from underpaint.data.collections.registries import get_npm
from underpaint.data.decode.limits import BadImage
from underpaint.data.near_duplicates.fingerprints import PerceptualHashes, fingerprint
from underpaint.data.source import Record
from underpaint.data.splits import by_family, heldout_families
from underpaint.files import read_json, write_json
from underpaint.messages import counted, say
from underpaint.progress import Progress

VERSION = "2.2.535"
HELDOUT_SHARE = 0.01
"""Share of the families that are held out, some 1,200 images; each of them is compared with all the others."""
_THREADS = min(os.cpu_count() or 1, 8)


class _Drawn(TypedDict):
    """The drawings of a set, as they are kept until the collection is whole."""

    pixels: dict[str, str]
    """Hash of the pixels in black on white of each drawing, by path."""
    prints: dict[str, str]
    """PerceptualHashes of each drawing, packed, in hexadecimal."""
    problems: dict[str, str]
    """Reason why an icon was not drawn."""


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """An icon that was drawn."""

    icon: Icon
    pixels: str
    prints: bytes


def prepare(images: Path) -> tuple[list[Record], str]:
    """Draw the icons into the folder ``images``, a sub-folder per set; returns the records and the package's version.

    Beside the folder come ``credits.csv`` (the licence and authors of each set), ``licences.parquet`` (of each image)
    and ``leaks.json`` (the counts of the check for leaks). Sets that were drawn before an interruption are kept.
    """
    importlib.import_module("resvg_py")  # a missing package is reported before the download
    download = _work_file(images, "").parent / "download"
    shutil.rmtree(download, ignore_errors=True)  # of an interrupted preparation
    version = get_npm([f"@iconify/json@{VERSION}"], download, wanted=("collections.json", "json/"))
    package = download / "@iconify/json"
    credits = read_credits(package)
    say(f"Choosing icons of {len(credits)} sets under permissive licences")
    chosen = {credit.prefix: read_icons(package, credit) for credit in credits}
    shutil.rmtree(download)
    drawings = draw_sets(credits, chosen, images)
    coloured = {credit.prefix for credit in credits if credit.coloured}
    records = split_records(drawings, images, coloured)
    _write_credits(images.parent, credits, drawings)
    shutil.rmtree(_work_file(images, "").parent)
    return records, version


def draw_sets(credits: Sequence[Credit], chosen: Mapping[str, Sequence[Icon]], images: Path) -> list[Drawing]:
    """Draw every icon as ``images/SET/NAME.png``, set by set; sets that are drawn already are read."""
    _work_file(images, "").parent.mkdir(exist_ok=True)
    there = sum(len(icons) for prefix, icons in chosen.items() if _work_file(images, prefix).is_file())
    total, done = sum(map(len, chosen.values())), there
    if there:
        say(f"{there:,} of {total:,} icons were drawn before the interruption")
    with (
        Progress("Drawing icons", total=total, unit="icons", done=there) as shown,
        ThreadPoolExecutor(max_workers=_THREADS) as pool,
    ):
        for credit in credits:
            icons = chosen[credit.prefix]
            if _work_file(images, credit.prefix).is_file():
                continue
            (images / credit.prefix).mkdir(exist_ok=True)
            drawn = _Drawn(pixels={}, prints={}, problems={})
            results = pool.map(functools.partial(_draw, images=images, coloured=credit.coloured), icons)
            for icon, result in zip(icons, results, strict=True):
                if isinstance(result, str):
                    drawn["problems"][icon.path] = result
                else:
                    drawn["pixels"][icon.path], drawn["prints"][icon.path] = result
                done += 1
                shown.update(done)
            write_json(_work_file(images, credit.prefix), drawn)
    return _drawings(chosen, images)


def split_records(drawings: Sequence[Drawing], images: Path, coloured: set[str]) -> list[Record]:
    """The records with families and splits; writes the counts of the check for leaks and prints them."""
    family = families(drawings)
    heldout = heldout_families(Counter(family), share=HELDOUT_SHARE)
    rows = range(len(drawings))
    tested = [row for row in rows if family[row] in heldout]
    trained = [row for row in rows if family[row] not in heldout]

    def read(row: int) -> bytes:
        icon = drawings[row].icon
        return compared_png(images / icon.path, icon.path, coloured=icon.prefix in coloured)

    prints = PerceptualHashes.unpacked(b"".join(drawing.prints for drawing in drawings))
    leaks = find_leaks(prints, trained, tested, read)
    _report(images.parent, leaks, family=family, trained=len(trained), tested=len(tested))
    leaked = set(leaks.trained)
    return [
        Record(
            path=f"images/{drawing.icon.path}",
            tags=drawing.icon.tags,
            label="",
            family=family[row],
            splits=("heldout",) if family[row] in heldout else () if row in leaked else ("pretrain",),
            flip=drawing.icon.flip,
        )
        for row, drawing in enumerate(drawings)
    ]


def families(drawings: Sequence[Drawing]) -> list[str]:
    """The family of each drawing: the same concept, a common alias, or the same pixels, or a chain of these."""
    links: dict[str, list[Hashable]] = {
        drawing.icon.path: [*(("concept", name) for name in drawing.icon.concepts), ("pixels", drawing.pixels)]
        for drawing in drawings
    }
    root = linked_families(links)
    name: dict[Hashable, str] = {}
    for drawing in sorted(drawings, key=lambda drawing: drawing.icon.path):
        name.setdefault(root[drawing.icon.path], drawing.icon.concepts[0])
    return [name[root[drawing.icon.path]] for drawing in drawings]


def _drawings(chosen: Mapping[str, Sequence[Icon]], images: Path) -> list[Drawing]:
    drawings: list[Drawing] = []
    problems: dict[str, str] = {}
    for prefix, icons in chosen.items():
        drawn: _Drawn = read_json(_work_file(images, prefix))
        problems |= drawn["problems"]
        drawings += [
            Drawing(icon=icon, pixels=drawn["pixels"][icon.path], prints=bytes.fromhex(drawn["prints"][icon.path]))
            for icon in icons
            if icon.path in drawn["pixels"]
        ]
    if problems:
        path = min(problems)
        say(f"{counted(len(problems), 'icon')} cannot be used and are left out, such as {path}: {problems[path]}")
    return drawings


def _draw(icon: Icon, *, images: Path, coloured: bool) -> tuple[str, str] | str:
    """The hash of the pixels in black on white and the packed perceptual hashes, or the reason why it is left out."""
    try:
        drawing = draw(icon, coloured=coloured)
    except BadImage as error:
        return str(error)
    shown = drawing if coloured else recoloured(drawing, *colours(icon.path))
    (images / icon.path).write_bytes(png_bytes(shown))
    packed = fingerprint([small_png(drawing)]).prints.packed()[0]
    return xxhash.xxh3_128_hexdigest(repr(drawing.size).encode() + drawing.tobytes()), packed.hex()


def _report(folder: Path, leaks: Leaks, *, family: Sequence[str], trained: int, tested: int) -> None:
    members = by_family(map(str, range(len(family))), lambda row: family[int(row)])
    counts = {
        "families": len(members),
        "largest_family": max(map(len, members.values())),
        "heldout": tested,
        "compared_pairs": leaks.compared,
        "heldout_with_near_duplicates": leaks.heldout,
        "left_out": len(leaks.trained),
        "pretrain": trained - len(leaks.trained),
    }
    write_json(folder / "leaks.json", counts)
    say(
        f"{len(family):,} icons of {len(members):,} families: {tested:,} are held out; {len(leaks.trained):,} of the "
        f"{trained:,} others are near duplicates of {leaks.heldout:,} held-out ones and left out"
    )


def _write_credits(folder: Path, credits: Sequence[Credit], drawings: Sequence[Drawing]) -> None:
    import pyarrow
    import pyarrow.parquet

    count = Counter(drawing.icon.prefix for drawing in drawings)
    with (folder / "credits.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["set", "title", "author", "author_url", "licence", "licence_url", "images"])
        for credit in credits:
            row = [credit.prefix, credit.title, credit.author, credit.author_url, credit.licence, credit.licence_url]
            table.writerow([*row, count[credit.prefix]])
    of_set = {credit.prefix: credit for credit in credits}
    rows = [
        {"path": f"images/{drawing.icon.path}", "licence": credit.licence, "author": credit.author}
        for drawing in drawings
        for credit in (of_set[drawing.icon.prefix],)
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "licences.parquet")


def _work_file(images: Path, prefix: str) -> Path:
    """The file that says what was drawn of a set; it is written when all icons of the set are there."""
    return images.parent / "drawn" / f"{prefix}.json"
