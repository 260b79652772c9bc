"""The classes of ImageNet-1k: number, WordNet id and name of each, in a table with a version."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path
from typing import NamedTuple

import xxhash

VERSION = 1
"""Version of the table, raised when a name changes."""


class ClassTable(NamedTuple):
    wnids: tuple[str, ...]
    """Sorted, so that the place of each is the number that ImageNet's scores, V2's folders and ReaL's lists mean."""
    names: tuple[str, ...]
    version: int
    xxh3: str
    """Checksum of the file."""


@cache
def imagenet_classes() -> ClassTable:
    """The table, read on first use. Names are the first words of the synsets in WordNet 3.0."""
    data = Path(__file__).with_name("in1k_classes.csv").read_bytes()
    rows = list(csv.DictReader(data.decode().splitlines()))
    return ClassTable(
        wnids=tuple(row["wnid"] for row in rows),
        names=tuple(row["name"] for row in rows),
        version=VERSION,
        xxh3=xxhash.xxh3_64_hexdigest(data),
    )
