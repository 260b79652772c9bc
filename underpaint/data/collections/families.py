"""Families of images that are linked by a name, a base or the same pixels, and are never divided by a split."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Hashable, Iterable, Mapping

# fmt: off
_VARIANT = frozenset((
    "bw", "black", "white", "red", "blue", "green", "yellow", "orange", "purple", "brown", "grey", "gray", "pink",
    "cyan", "magenta", "silver", "gold", "violet", "indigo", "turquoise", "lime", "dark", "light", "color", "colour",
    "coloured", "colored", "outline", "filled", "silhouette", "silo", "left", "right", "up", "down", "top", "bottom",
    "front", "back", "side", "mirror", "flip", "small", "large", "big", "medium", "mini", "tiny", "new", "old", "open",
    "closed", "simple", "plain", "ver", "version", "rev", "revised", "bis", "copy", "variant",
))
# fmt: on
"""Words of file names that distinguish variants of a drawing and do not name its content."""


def linked_families(links: Mapping[str, Iterable[Hashable]]) -> dict[str, Hashable]:
    """The representative of each item's family; items that share a link, or a chain of links, are one family."""
    parent: dict[Hashable, Hashable] = {}

    def root(item: Hashable) -> Hashable:
        while (above := parent.setdefault(item, item)) != item:
            parent[item] = parent[above]
            item = above
        return item

    for item, shared in links.items():
        for link in shared:
            parent[root(("item", item))] = root(("link", link))
    return {item: root(("item", item)) for item in links}


def stem_concept(stem: str) -> str:
    """A file name without numbers, colours, sides and sizes: ``bus1_bw_jarno_01`` becomes ``bus jarno``."""
    words = re.findall(r"[^\W\d_]+", unicodedata.normalize("NFC", stem).lower())
    kept = [word for word in words if word not in _VARIANT and len(word) > 1]
    return " ".join(kept or words) or stem


def file_families(hashes: Mapping[str, str]) -> dict[str, str]:
    """The family of each path, from the concepts of the file names and from equal pixels."""
    concept = {path: stem_concept(path.rpartition("/")[2].rpartition(".")[0]) for path in hashes}
    root = linked_families({path: (("name", concept[path]), ("pixels", hashes[path])) for path in hashes})
    name: dict[Hashable, str] = {}
    for path in sorted(hashes):
        name.setdefault(root[path], concept[path])
    return {path: name[root[path]] for path in hashes}
