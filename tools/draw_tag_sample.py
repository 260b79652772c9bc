"""Draw the tags that the quality of ``underpaint.tags`` is measured on: ``tests/tools/tags/sample.csv``.

    python tools/draw_tag_sample.py [FOLDER of Tux Paint's stamps]

Kept so that anybody can see how they were drawn; drawn again, they are the same. They are what people typed on the
images of the built-in collections, written as hashtags: a keyword of several words is joined, with capitals or
underscores in a part of them, or stays as it is. ``count`` is the number of images, or of captions, that carry the raw
form. ``band`` tells how frequent it is among the forms of its source: of words the most frequent twentieth is the head,
the next quarter the middle, the rest the tail, where forms of equal count are never parted; phrases are rarer, so that
their bands are fixed counts (``FEWEST``). Half of each band of each source is locked.
"""

from __future__ import annotations

import argparse
import csv
import re
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from underpaint import keyed_random
from underpaint.data.collections.catalog import open_collection
from underpaint.data.collections.registries import get_debian
from underpaint.data.collections.tuxpaint import captions
from underpaint.data.collections.words import words

SEED = 4
QUOTA = {
    "openclipart words": (66, 52, 52),
    "openclipart phrases": (12, 12, 14),
    "emojilib words": (44, 44, 22),
    "emojilib phrases": (6, 8, 32),
    "openmoji words": (34, 34, 34),
    "tuxpaint words": (11, 7, 4),
    "tuxpaint phrases": (2, 18, 16),
    "tuxpaint others": (12, 12, 12),
}
"""Tags of the head, the middle and the tail. The words of OpenMoji are of 14 languages, the others of Tux Paint of 70;
the rest is English, or meant to be."""
BANDS = ("head", "middle", "tail")
SHARES = (0.05, 0.30)
"""The head of words ends at the first share of the forms, the middle at the second."""
FEWEST = {"openclipart phrases": (5, 2), "emojilib phrases": (3, 2), "tuxpaint phrases": (3, 2)}
"""The lowest count of the head and of the middle."""

TARGET = Path(__file__).resolve().parent.parent / "tests" / "tools" / "tags" / "sample.csv"
STAMPS = "usr/share/tuxpaint/stamps"
ARTICLE = re.compile(r"^(?:an?|the|some|two|three)\s+", re.IGNORECASE)
JOINT = re.compile(r"[\s_-]+")
LETTERS = {"alphabets", "math"}
MACHINE = re.compile(r"0x[0-9a-f]+")
"""Addresses that a script wrote; forms that differ in nothing else are one form."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """One tag of the sample."""

    tag: str
    source: str
    raw: str
    band: str
    count: int


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("stamps", type=Path, nargs="?", help="folder of Tux Paint's (default: got with apt-get)")
    given = parser.parse_args().stamps
    with tempfile.TemporaryDirectory() as folder:
        stamps = given or Path(folder) / "tuxpaint-stamps-default" / STAMPS
        if given is None:
            print(get_debian(["tuxpaint-stamps-default"], Path(folder)))
        drawn = draw({**collection_forms(), **caption_forms(stamps)})
    ordered = sorted(drawn, key=lambda one: (one.source, BANDS.index(one.band), key("half", one)))
    half = {one: ("open", "locked")[at % 2] for at, one in enumerate(ordered)}
    with TARGET.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["id", "tag", "source", "raw", "band", "count", "half"])
        for at, one in enumerate(sorted(drawn, key=lambda one: key("order", one)), start=1):
            table.writerow([f"t{at:03d}", one.tag, one.source, one.raw, one.band, one.count, half[one]])
    print(Counter((one.source, one.band) for one in drawn), Counter(half.values()))


def key(purpose: str, one: Drawn) -> int:
    return keyed_random.key(SEED, "tag sample", purpose, one.source, one.raw)


def collection_forms() -> dict[str, Counter[str]]:
    """How many images of each collection carry each tag, by words and phrases."""
    found: dict[str, Counter[str]] = {}
    for source, name in {"openclipart": "openclipart", "emojilib": "emoji-google", "openmoji": "openmoji"}.items():
        for form, n in count(open_collection(name).tags).items():
            kind = "phrases" if JOINT.search(form) else "words"
            found.setdefault(f"{source} {kind}", Counter())[form] = n
    return found


def caption_forms(stamps: Path) -> dict[str, Counter[str]]:
    """How many captions of Tux Paint have each English word, each short English phrase, each word of another language.

    A phrase is a whole caption of two or three words without its article and full stop. Letters and digits are left
    out, as they are of the collection.
    """
    files = (file for file in sorted(stamps.rglob("*.txt")) if not LETTERS & set(file.parts))
    told = [captions(file.read_bytes().decode(errors="ignore")) for file in files]
    english = count(words(own[:1], marks=True) for own in told)
    phrases = count([ARTICLE.sub("", own[0].strip().rstrip(".!?,")).lower()] for own in told)
    others = count(words(own[1:], marks=True) for own in told)
    return {
        "tuxpaint words": english,
        "tuxpaint phrases": Counter({form: n for form, n in phrases.items() if len(form.split()) in (2, 3)}),
        "tuxpaint others": Counter({form: n for form, n in others.items() if form not in english}),
    }


def count(rows: Iterable[Iterable[str]]) -> Counter[str]:
    return Counter(tag for row in rows for tag in set(row))


def draw(forms: dict[str, Counter[str]]) -> list[Drawn]:
    """The quota of each band of each source, by the smallest keys; no tag twice, whatever its case and blanks."""
    drawn: list[Drawn] = []
    taken: set[str] = set()
    for source, quota in QUOTA.items():
        counts = sorted(forms[source].values(), reverse=True)
        ranks = (max(counts[int(len(counts) * share)], least) for share, least in zip(SHARES, (3, 2), strict=True))
        enough = FEWEST.get(source) or tuple(ranks)
        for band, wanted in zip(BANDS, quota, strict=True):
            candidates = (
                Drawn(tag=written(form, source), source=source, raw=form, band=band, count=n)
                for form, n in forms[source].items()
                if BANDS[sum(n < least for least in enough)] == band
            )
            for one in sorted(candidates, key=lambda one: key("draw", one)):
                same = MACHINE.sub("0x", re.sub(r"[\W_]", "", one.tag.lower()))
                if wanted and same not in taken:
                    taken.add(same)
                    drawn.append(one)
                    wanted -= 1
    return drawn


def written(form: str, source: str) -> str:
    """As a person would type it: one word mostly in small letters, several joined; as it is where no hashtag can be."""
    style = keyed_random.key(SEED, "tag sample", "style", source, form) % 20
    parts = JOINT.split(re.sub(r"['\u2019]", "", form))
    if any(re.search(r"[^\w\u0300-\u036f\u200c\u200d]", part) and not is_marked(part) for part in parts):
        return form
    if len(parts) == 1:
        return f"#{form.capitalize() if style < 3 else form.upper() if style < 4 else form}"
    if style < 4 and not source.startswith("emojilib"):
        return form
    joint = "_" if style < 8 and source.startswith("emojilib") else ""
    camel = style >= 15
    return "#" + joint.join(part.capitalize() if camel else part for part in parts)


def is_marked(part: str) -> bool:
    """Letters with vowel signs, which are not word characters to the regular expressions of Python."""
    return words([part], marks=True) == (part.lower(),)


if __name__ == "__main__":
    main()
