"""Concepts, families and splits of emoji, by the same rules for all sets of drawings.

The rules are the same so that no set pretrains on a concept of the transfer task (``openmoji_categories.HELD_OUT``).
Variants in skin tone, gender, direction or colour are one family, which is never split.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from underpaint.data.collections.families import linked_families
from underpaint.data.collections.openmoji_categories import HELD_OUT, LOOK_ALIKE, WRITTEN, category
from underpaint.data.collections.words import all_words, plain, words
from underpaint.data.source import Caption, Record, Split
from underpaint.data.splits import by_family, heldout_families, test_families

TEST_SHARE = 0.4
"""Share of the families of each category of the transfer task that become test images."""

TONES = frozenset(range(0x1F3FB, 0x1F400))
_GENDERS = frozenset((0x2640, 0x2642))
_ADULTS = frozenset((0x1F468, 0x1F469, 0x1F9D1))
_JOINERS = frozenset((0x200D, 0xFE0F))
_DIRECTION = 0x27A1

# fmt: off
_VARIANT_WORDS = frozenset((
    "man", "woman", "men", "women", "person", "people", "boy", "girl", "boys", "girls", "adult", "child", "facing",
    "left", "right", "up", "down", "upwards", "downwards", "leftwards", "rightwards", "left-facing", "right-facing",
    "front-facing", "oncoming", "tilted", "pointing", "red", "blue", "green", "yellow", "orange", "purple", "brown",
    "black", "white", "grey", "pink", "small", "large", "medium-small", "open", "closed", "raised", "lowered",
    "low", "high", "volume", "old", "face", "and", "of", "s", "1st", "2nd", "3rd",
))
# fmt: on
"""English words that distinguish variants of a drawing and do not name its content."""

_TONE_NAME = re.compile(r"\b(?:medium-light|medium-dark|light|medium|dark) skin tone\b")


@dataclass(frozen=True)
class Drawing:
    """A drawing of an emoji, with the facts that follow from its code points and names."""

    file: Path
    codes: tuple[int, ...]
    """Code points, as in the file name."""
    names: dict[str, str]
    """Names by language, such as ``:waving_hand:``; empty for drawings that are not emoji."""

    @cached_property
    def toned(self) -> bool:
        return not TONES.isdisjoint(self.codes)

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The distinct words of all names; languages that write without spaces give a name as one word."""
        return words(self.names.values(), marks=False)  # as the tags of OpenMoji were published

    @cached_property
    def concept(self) -> str:
        """The English name without the words that distinguish variants; "" where no word is left."""
        name = _TONE_NAME.sub("", plain(self.names.get("en", "")))
        return " ".join(word for word in all_words(name) if word not in _VARIANT_WORDS)

    @cached_property
    def base(self) -> tuple[int, ...]:
        """The code points without tone, gender and direction; for an unnamed composite only the first code point."""
        first, *rest = self.codes  # what stands alone is no variant: the tones, the signs of gender, the arrow
        kept = (code for code in rest if code not in TONES | _GENDERS | _JOINERS | {_DIRECTION})
        base = tuple(0x1F9D1 if code in _ADULTS else code for code in (first, *kept))
        composed = self.names or base[0] == 0x1F9D1
        return base if composed else base[:1]


def records(
    pictures: Sequence[Drawing], family: Mapping[str, str], tags: Mapping[str, tuple[str, ...]]
) -> list[Record]:
    """The record of each drawing; ``family`` and ``tags`` are by the stem of the file."""
    kind = {drawing.file.stem: category(drawing.codes) for drawing in pictures}
    splits = _splits(family, kind)
    return [
        Record(
            path=f"images/{stem}.png",
            tags=tags[stem],
            label=kind[stem] if kind[stem] in HELD_OUT else "",
            family=family[stem],
            splits=splits[stem],
            flip=_may_flip(drawing, kind[stem]),
            captions=_captions(drawing),
        )
        for drawing in pictures
        for stem in (drawing.file.stem,)
    ]


def _captions(drawing: Drawing) -> tuple[Caption, ...]:
    """The names in all languages, English first."""
    names = {language: plain(name).strip(": ") for language, name in drawing.names.items()}
    ordered = sorted(names, key=_english_first)
    return tuple(Caption(names[language], language) for language in ordered if names[language])


def _english_first(language: str) -> tuple[bool, str]:
    return language != "en", language


def families(pictures: Sequence[Drawing], *, pixels: Mapping[str, str] | None = None) -> dict[str, str]:
    """The family of each drawing by stem; drawings with the same concept, base or ``pixels`` belong together."""
    links: dict[str, list[Hashable]] = {}
    for drawing in pictures:
        stem = drawing.file.stem
        links[stem] = [("base", drawing.base)]
        links[stem] += [("concept", drawing.concept)] if drawing.concept else []
        links[stem] += [("pixels", pixels[stem])] if pixels is not None else []
    root = linked_families(links)
    name: dict[Hashable, str] = {}
    for drawing in pictures:
        stem = drawing.file.stem
        name.setdefault(root[stem], drawing.concept or stem.lower())
    return {stem: name[root[stem]] for stem in links}


def emoji_names() -> dict[tuple[int, ...], dict[str, str]]:
    """The names of emoji by language, by code points without presentation selectors."""
    import emoji

    emoji.config.load_language()
    names: dict[tuple[int, ...], dict[str, str]] = {}
    for sequence, entry in emoji.EMOJI_DATA.items():
        by_language = {language: entry[language] for language in emoji.LANGUAGES if language in entry}
        names.setdefault(without_selector(tuple(map(ord, sequence))), by_language)
    return names


def without_selector(codes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(code for code in codes if code != 0xFE0F)


def _splits(family: Mapping[str, str], kind: Mapping[str, str]) -> dict[str, tuple[Split, ...]]:
    """The splits of each drawing, drawn by family; one with a member in a held-out category is not pretrained on."""
    category_of_family: dict[str, str] = {}
    for stem in sorted(family):
        if kind[stem] in HELD_OUT:
            category_of_family.setdefault(family[stem], kind[stem])
    tested = test_families(category_of_family, share=TEST_SHARE)
    members = by_family(family, family.__getitem__)
    sizes = {name: len(stems) for name, stems in members.items() if LOOK_ALIKE not in map(kind.__getitem__, stems)}
    heldout = heldout_families({name: size for name, size in sizes.items() if name not in category_of_family})

    def split(stem: str) -> tuple[Split, ...]:
        name = family[stem]
        if kind[stem] == LOOK_ALIKE or (name in category_of_family and kind[stem] not in HELD_OUT):
            return ()
        if name not in category_of_family:
            return ("heldout",) if name in heldout else ("pretrain",)
        return ("test",) if name in tested else ("train",)

    return {stem: split(stem) for stem in family}


def _may_flip(drawing: Drawing, kind: str) -> bool:
    english = drawing.names.get("en", "").lower()
    return kind not in WRITTEN and not re.search(r"left|right|facing|clockwise|button|japanese|input", english)
