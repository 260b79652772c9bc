"""Icon sets of the npm package ``@iconify/json``: which sets and icons are taken, and their words and concepts.

Taken are the sets under a permissive licence; of each icon of a set one style is taken (outline, filled, sharp, sizes),
drawn by a hash, since the styles differ little.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from underpaint import keyed_random
from underpaint.data.collections.families import stem_concept
from underpaint.data.collections.words import words
from underpaint.files import read_json

PERMISSIVE = frozenset(
    ("Apache-2.0", "BSD-3-Clause", "CC-BY-3.0", "CC-BY-4.0", "CC0-1.0", "ISC", "MIT", "Unlicense"),
)
"""SPDX names of the accepted licences: use, change and redistribution, at most with attribution."""

UNWANTED = frozenset(("Archive / Unmaintained", "Emoji", "Logos", "Programming"))
"""Categories of sets that are left out: superseded editions; emoji, which are concepts of transfer tasks of other
collections; and the signs of brands, which are trademarks and whose names say nothing of the picture."""

# fmt: off
_STYLES = frozenset((
    "outline", "outlined", "filled", "fill", "solid", "sharp", "rounded", "round", "line", "linear", "duotone", "two",
    "tone", "twotone", "bold", "thin", "light", "regular", "medium", "baseline", "broken", "color", "colored", "alt",
    "variant", "stroke", "mini", "micro", "small", "large", "big", "remix", "flat", "duo",
))
_SIZES = frozenset(("8", "10", "12", "14", "15", "16", "18", "20", "22", "24", "25", "26", "28", "30", "32", "36", "40",
                    "48", "64", "96", "24px"))
_STOP_WORDS = frozenset(("a", "an", "and", "at", "by", "for", "in", "misc", "of", "on", "or", "other", "others", "the",
                         "to", "with", "icon", "icons"))
_DIRECTED = frozenset((
    "left", "right", "arrow", "arrows", "chevron", "clock", "clockwise", "counterclockwise", "flag", "flags", "letter",
    "number", "numeric", "alpha", "alphabet", "text", "format", "language", "translate", "currency", "sign", "logo",
    "label", "question", "list", "align", "rotate", "undo", "redo", "east", "west", "forward", "backward", "code",
))
# fmt: on
"""Words of icons that mirroring would falsify: writing, arrows, clocks, flags."""


class _Person(TypedDict, total=False):
    name: str
    url: str


class _Licence(TypedDict, total=False):
    title: str
    spdx: str
    url: str


class _Info(TypedDict, total=False):
    name: str
    author: _Person
    license: _Licence
    category: str
    hidden: bool
    palette: bool


@dataclass(frozen=True, kw_only=True)
class Credit:
    """Origin and licence of an icon set."""

    prefix: str
    """Short name of the set, and of the folder of its images."""
    title: str
    author: str
    author_url: str
    licence: str
    """SPDX name, one of PERMISSIVE."""
    licence_url: str
    coloured: bool
    """Whether the icons have colours, or are drawn in one that is up to the reader."""


@dataclass(frozen=True, kw_only=True)
class Icon:
    """A drawing of a set."""

    prefix: str
    name: str
    """Name within the set, such as ``home-outline``."""
    body: str
    """The content of the SVG element."""
    box: tuple[float, float, float, float]
    """Left, top, width and height of what the drawing shows."""
    tags: tuple[str, ...]
    concepts: tuple[str, ...]
    """The words of the name, and of each alias, sorted and without those of styles; equal ones are one family."""

    @property
    def path(self) -> str:
        return f"{self.prefix}/{self.name}.png"

    @property
    def flip(self) -> bool:
        """Whether mirroring leaves the meaning: no writing, numbers, arrows or flags."""
        return _DIRECTED.isdisjoint(self.tags) and not any(character.isdigit() for character in self.name)


def read_credits(folder: Path) -> list[Credit]:
    """The sets to take, from ``collections.json`` of the package, sorted by their short names.

    Raises:
        ValueError: if the file is not what the package has.
    """
    infos: dict[str, _Info] = read_json(folder / "collections.json")
    try:
        return [_credit(prefix, info) for prefix, info in sorted(infos.items()) if is_wanted(info)]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"collections.json is not what @iconify/json has: {error!r}") from error


def is_wanted(info: _Info) -> bool:
    """Whether a set has a permissive licence, is not superseded and not one of emoji or logos."""
    licence = info.get("license", {}).get("spdx", "")
    return licence in PERMISSIVE and info.get("category", "") not in UNWANTED and not info.get("hidden", False)


def read_icons(folder: Path, credit: Credit) -> list[Icon]:
    """The icons to take of a set, one of each name without its style, sorted by name.

    Raises:
        ValueError: if the file is not what the package has.
    """
    content: dict[str, Any] = read_json(folder / "json" / f"{credit.prefix}.json")
    try:
        return _chosen(content, credit.prefix)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{credit.prefix}.json is not what @iconify/json has: {error!r}") from error


def plain_name(name: str, styles: Iterable[str] = ()) -> str:
    """A name without the words of styles and sizes: ``home-outline-24`` becomes ``home``."""
    parts = [part for part in name.split("-") if part]
    unwanted = _STYLES | _SIZES | frozenset(styles)
    return "-".join([part for part in parts if part not in unwanted] or parts)


def concept(name: str) -> str:
    """The words of a name, sorted, without those of variants: ``circle-arrow-left`` is ``arrow circle``."""
    return " ".join(sorted(set(stem_concept(plain_name(name)).split())))


def _credit(prefix: str, info: _Info) -> Credit:
    if not re.fullmatch(r"[a-z0-9]+(?:-[a-z0-9]+)*", prefix):
        raise KeyError(prefix)
    author, licence = info.get("author", {}), info.get("license", {})
    return Credit(
        prefix=prefix,
        title=str(info.get("name", prefix)),
        author=str(author.get("name", "")),
        author_url=str(author.get("url", "")),
        licence=licence.get("spdx", ""),
        licence_url=str(licence.get("url", "")),
        coloured=bool(info.get("palette", False)),
    )


def _chosen(content: Mapping[str, Any], prefix: str) -> list[Icon]:
    drawings: dict[str, dict[str, Any]] = content["icons"]
    affixes = [*content.get("suffixes", {}), *content.get("prefixes", {})]
    styles = {part for affix in affixes for part in affix.split("-")} - {""}
    variants: dict[str, list[str]] = defaultdict(list)
    for name, drawing in drawings.items():
        if re.fullmatch(r"[a-z0-9]+(?:-[a-z0-9]+)*", name) and not drawing.get("hidden", False):
            variants[plain_name(name, styles)].append(name)
    aliases: dict[str, list[str]] = defaultdict(list)
    for alias, target in content.get("aliases", {}).items():
        aliases[target["parent"]].append(alias)
    categories: dict[str, list[str]] = defaultdict(list)
    for category, names in content.get("categories", {}).items():
        for name in names:
            categories[name].append(category)
    chosen: list[Icon] = []
    for names in variants.values():
        name = min(names, key=lambda name: (keyed_random.key("icon", prefix, name), name))
        called = [name, *sorted(aliases[name])]
        chosen.append(
            Icon(
                prefix=prefix,
                name=name,
                body=str(drawings[name]["body"]),
                box=_box(content, drawings[name]),
                tags=_tags([plain_name(title, styles) for title in called], categories[name]),
                concepts=tuple(dict.fromkeys(concept(plain_name(title, styles)) for title in called)),
            )
        )
    return sorted(chosen, key=lambda icon: icon.name)


def _box(content: Mapping[str, Any], drawing: Mapping[str, Any]) -> tuple[float, float, float, float]:
    defaults = (("left", 0), ("top", 0), ("width", 16), ("height", 16))
    left, top, width, height = (float(drawing.get(key, content.get(key, default))) for key, default in defaults)
    return left, top, width, height


def _tags(names: Iterable[str], categories: Iterable[str]) -> tuple[str, ...]:
    """The words of names and categories, in this order, without numbers and words that say nothing."""
    spaced = [name.replace("-", " ") for name in names]
    split = [re.sub(r"(?<=[a-z])(?=[A-Z])", " ", category) for category in categories]  # FoodDrink
    return tuple(word for word in words([*spaced, *split], marks=False) if _says_something(word))


def _says_something(word: str) -> bool:
    return word not in _STOP_WORDS and not re.fullmatch(r"\d+[a-z]?", word)
