"""Drawings for the zero-shot benchmark: what is trained on, and the emoji whose classes no stage sees.

A class is a family of emoji, such as a fox in all its variants, drawn by three vendors and named in 14 languages. One
family in five of those that show a thing is held out, by the hash of its name; the others are trained on, together with
clip art and icons. These have free tags and could still show a fox, so every training image goes that says the name of
a held-out class, or a phrase with it, in its tags or in a caption of the same language. Near duplicates of the test
images go by ``data.exclude`` of the runs.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import xxhash

from underpaint import keyed_random
from underpaint.data.collections.openmoji_categories import LOOK_ALIKE, WRITTEN, category
from underpaint.data.collections.words import plain
from underpaint.data.open_source import join, open_source
from underpaint.data.source import Caption, Source, Split

EMOJI = ("openmoji", "emoji-twitter", "emoji-google")
OTHERS = ("openclipart", "icons")
ICONS_IN_COLOUR = "-color"
"""End of the names of the icon sets that are trained on: drawings in colour, as emoji are."""
SIGNS = (*WRITTEN, LOOK_ALIKE, "shape", "skin tone")
PEOPLE = ("face", "animal face", "emotion", "hand", "body", "person", "person at sport", "family")
"""Categories of emoji that are only trained on, as are SIGNS: the names of their variants are much alike."""
HELD_OUT = 5
"""One family in so many is held out."""

Names = dict[str, dict[str, str]]
"""Name of each class by language."""
Phrases = Mapping[str, set[tuple[str, ...]]]
"""Words in a row, by language."""


@dataclass(frozen=True)
class Classes:
    """The classes that are held out."""

    names: Names
    of_name: dict[str, str]
    """The class of every English name that an emoji of it has."""


@functools.cache
def classes() -> Classes:
    """The held-out families of emoji, named as the shortest sequence of each is."""
    source = open_source(EMOJI[0])
    rows = [row for row in range(len(source.path)) if source.captions[row] and _is_held_out(source, row)]
    rows.sort(key=lambda row: (source.path[row].count("-"), source.path[row]))
    names: Names = defaultdict(dict)
    of_name: dict[str, str] = {}
    for row in rows:
        family = source.family[row]
        is_first = family not in of_name.values()
        for caption in source.captions[row]:
            if is_first:
                names[caption.language][family] = caption.text
            if caption.language == "en":
                of_name.setdefault(caption.text, family)
    return Classes(dict(names), of_name)


def _is_held_out(source: Source, row: int) -> bool:
    codes = tuple(int(code, 16) for code in PurePosixPath(source.path[row]).stem.split("-"))
    if category(codes) in SIGNS + PEOPLE:
        return False
    return keyed_random.key("zero-shot", source.family[row]) % HELD_OUT == 0


def unseen() -> Source:
    """The drawings of the held-out classes by three vendors; all are test images."""
    return _unseen(EMOJI, "unseen")


def few_unseen() -> Source:
    """Those of OpenMoji."""
    return _unseen(EMOJI[:1], "few_unseen")


def drawings() -> Source:
    """The training images: emoji, clip art and icons in colour, without those that name a held-out class."""
    return _drawings(EMOJI, OTHERS, "drawings")


def few_drawings() -> Source:
    """Those of OpenMoji."""
    return _drawings(EMOJI[:1], (), "few_drawings")


def _unseen(sets: Sequence[str], name: str) -> Source:
    joined = join([open_source(each) for each in sets])
    label = tuple(classes().of_name.get(_english(captions), "") for captions in joined.captions)
    splits = tuple(("test",) if each else () for each in label)
    return with_columns(joined, name, label=label, family=label, splits=splits)


def _drawings(emoji: Sequence[str], others: Sequence[str], name: str) -> Source:
    sources = [open_source(each) for each in (*emoji, *others)]
    joined = join(sources)
    drawn = sum(len(source.path) for source in sources[: len(emoji)])
    said = phrases()

    def splits_of(row: int) -> tuple[Split, ...]:
        if _is_left_out(joined, row, said):
            return ()
        if row < drawn:  # an emoji without a name could show anything
            return ("pretrain",) if joined.captions[row] else ()
        return joined.splits[row]

    return with_columns(joined, name, splits=tuple(map(splits_of, range(len(joined.path)))))


def phrases() -> Phrases:
    """The names of the held-out classes as words, by language; "" has those of all, for tags."""
    by_language = {
        language: {tuple(plain(name).split()) for name in of_language.values()}
        for language, of_language in classes().names.items()
    }
    return {**by_language, "": {phrase for of_language in by_language.values() for phrase in of_language}}


def _is_left_out(source: Source, row: int, said: Phrases) -> bool:
    captions = source.captions[row]
    if _english(captions) in classes().of_name or _one_colour(source.path[row]):
        return True
    texts = [("", tag) for tag in source.tags[row]] + [(caption.language, caption.text) for caption in captions]
    return any(_has_phrase(plain(text).split(), said.get(language, set())) for language, text in texts)


def _english(captions: Iterable[Caption]) -> str:
    return next((caption.text for caption in captions if caption.language == "en"), "")


def _one_colour(path: str) -> bool:
    """Whether an image is an icon of a set without colours."""
    folder, _, rest = path.partition("/images/")
    return folder.startswith("icons") and not rest.partition("/")[0].endswith(ICONS_IN_COLOUR)


def _has_phrase(words: list[str], phrases: set[tuple[str, ...]]) -> bool:
    return any(
        tuple(words[start:end]) in phrases for start in range(len(words)) for end in range(start + 1, len(words) + 1)
    )


def with_columns(source: Source, name: str, **columns: tuple[object, ...]) -> Source:
    """The source under another name, with other columns, and a hash of its own."""
    state = xxhash.xxh3_128(source.content_hash.encode())
    for column in columns.values():
        state.update(repr(column).encode())
    return replace(source, name=name, content_hash=state.hexdigest(), **columns)  # pyright: ignore[reportArgumentType]
