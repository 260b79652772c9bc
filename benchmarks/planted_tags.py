"""Simulated tags with known truth: concepts with misspellings, inflections and synonyms, beside words that look alike.

Images show a few concepts of a theme, by affinities of each concept, and some of anywhere. A concept is written by its
usual word or a variant of it. Not to be merged are words of nearly the same letters (horse, house; invented names),
things that are mostly seen together (fork, knife), and things of the same theme.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from underpaint.tag_doctor.labelled_set import LabelledSet
from underpaint.tags.canonical import Canonicaliser, TagRules
from underpaint.tags.labels import Labeller, build_label_space
from underpaint.tags.meanings import PERSON, THING
from underpaint.tags.normalise import squeeze
from underpaint.tags.segment import english
from underpaint.tags.wordnet import wordnet

ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
LOOK_ALIKE = (
    *("cat", "car", "cart", "horse", "house", "mouse", "boat", "coat", "goat", "fork", "cork", "spoon", "moon"),
    *("beach", "peach", "bear", "pear", "plane", "planet", "plant", "bread", "beard", "train", "grain", "flower"),
    *("tower", "ship", "shop", "sheep", "wine", "vine", "bell", "ball", "wall", "lake", "cake", "hat", "bat", "rat"),
)
"""Words of nearly the same letters and different meanings."""
SYLLABLES = ("ba", "ko", "ri", "ven", "tal", "mo", "dus", "ke", "lin", "sha", "por", "gu", "zan", "fe", "mir", "ot")


@dataclass(frozen=True, kw_only=True)
class World:
    """The size and the shares of a simulated set."""

    concepts: int = 300
    names: int = 60
    """Further concepts with invented names, a third of which nearly have the name of another."""
    themes: int = 24
    images: int = 20_000
    varied: float = 0.4
    """Share of the concepts with variants."""
    dead: int = 4
    doubled: int = 4
    """Words that two concepts of different themes share."""


@dataclass(kw_only=True)
class Planted:
    """Tags of images, and what is true of them."""

    tags: list[list[str]]
    word: list[str]
    """The usual word of each concept."""
    variant_of: dict[str, str] = field(default_factory=dict)
    """The usual word of each variant."""
    kind: dict[str, str] = field(default_factory=dict)
    dead: tuple[str, ...] = ()
    doubled: tuple[str, ...] = ()


def plant(seed: int, world: World | None = None) -> Planted:
    """Tags of images by the seed."""
    world = world or World()
    random = np.random.default_rng(seed)
    words = _words(random, world)
    n = len(words)
    planted = Planted(tags=[], word=words)
    variants = {concept: _variants(random, concept, planted) for concept in range(n) if random.random() < world.varied}
    theme = random.integers(0, world.themes, size=n)
    popularity = 1 / np.arange(1, n + 1) ** 0.6
    popularity = popularity[random.permutation(n)]
    affinity = _affinity(random, theme, popularity)
    written = list(words)
    planted.doubled = _double(random, world, theme, written)
    planted.dead = tuple(f"{_invented(random, 3)}cam" for _ in range(world.dead))
    shares = np.cumsum(popularity)
    shares /= shares[-1]
    for _ in range(world.images):
        shown = _shown(random, shares, affinity)
        tags = [tag for concept in shown for tag in _write(random, written[concept], variants.get(concept, ()))]
        tags += [tag for tag in planted.dead if random.random() < 0.03]
        planted.tags.append(list(dict.fromkeys(tags)))
    return planted


def labelled_set(planted: Planted) -> LabelledSet:
    """The labels that ``prepare`` would give these images, in memory."""
    import pyarrow as pa

    counts = Counter(tag for tags in planted.tags for tag in tags)
    table = pa.table({"tag": list(counts), "count": pa.array(counts.values(), pa.int64())})
    space = build_label_space(table, TagRules())
    labels = Labeller(space).labels(pa.array(planted.tags, pa.list_(pa.string())))
    return LabelledSet(
        name="planted",
        content_hash="0" * 16,
        names=tuple(space.table["name"].to_pylist()),
        synsets=tuple(synset or "" for synset in space.table["synset"].to_pylist()),
        tags=tuple(map(tuple, space.table["tags"].to_pylist())),
        first=np.concatenate([[0], np.cumsum(labels.value_lengths().to_numpy())]).astype(np.int64),
        labels=labels.flatten().to_numpy(),
    )


def _words(random: np.random.Generator, world: World) -> list[str]:
    """Usual words: look-alikes, frequent nouns, and invented names; all become different labels."""
    rules, taken, words = Canonicaliser(TagRules()), set[str](), list[str]()
    nouns = [word for word, count in english().items() if count > 5_000_000 and 4 <= len(word) <= 9]
    things = wordnet().below(THING) - wordnet().below(PERSON)
    nouns = [word for word in nouns if things.issuperset(wordnet().synsets_of(word, "n")[:1] or ("",))]
    names: list[str] = []
    while len(names) < world.names:
        name = _invented(random, int(random.integers(2, 5)))
        names += [name] if random.random() > 1 / 3 else [name, _slip(random, name)]
    for word in (*LOOK_ALIKE, *names[: world.names], *random.permutation(nouns).tolist()):
        decision = rules.decide(word)
        if decision.key and decision.key not in taken:
            taken.add(decision.key)
            words.append(word)
        if len(words) == world.concepts + world.names:
            break
    return words


def _variants(random: np.random.Generator, concept: int, planted: Planted) -> list[tuple[str, float]]:
    """Variants of a concept's word and the share of its uses that each has."""
    word = planted.word[concept]
    drawn: list[tuple[str, str, float]] = []
    if random.random() < 0.7:
        drawn += [(_slip(random, word), "misspelling", random.uniform(0.02, 0.1)) for _ in range(random.integers(1, 3))]
    if random.random() < 0.4:
        drawn.append((_invented(random, 3), "synonym", random.uniform(0.1, 0.4)))
    if random.random() < 0.3:
        drawn.append((word + str(random.choice(["en", "er", "es", "os"])), "inflection", random.uniform(0.03, 0.15)))
    kept: list[tuple[str, float]] = []
    for variant, kind, share in drawn:
        if squeeze(variant) not in planted.variant_of and variant not in planted.word:
            planted.variant_of[variant], planted.kind[variant] = word, kind
            kept.append((variant, share))
    return kept


def _slip(random: np.random.Generator, word: str) -> str:
    """The word with one slip of a finger: a neighbouring key, a letter left out or doubled, two letters swapped."""
    place = int(random.integers(1, len(word)))
    letter = word[place]
    kind = random.integers(0, 4)
    if kind == 0:
        row = next(row for row in ROWS if letter in row)
        at = row.index(letter)
        return word[:place] + row[at - 1 if at else 1] + word[place + 1 :]
    if kind == 1:
        return word[:place] + word[place + 1 :]
    if kind == 2 or word[place - 1] == letter:
        return word[:place] + letter + word[place:]
    return word[: place - 1] + letter + word[place - 1] + word[place + 1 :]


def _invented(random: np.random.Generator, syllables: int) -> str:
    return "".join(random.choice(SYLLABLES, size=syllables))


def _affinity(random: np.random.Generator, theme: np.ndarray, popularity: np.ndarray) -> np.ndarray:
    """Chance of each concept beside each other one: concepts of the theme, each with its own preferences."""
    n = len(theme)
    own_taste = random.gamma(0.5, size=(n, n)) * (theme[:, None] == theme[None, :])
    own_taste = own_taste + own_taste.T
    np.fill_diagonal(own_taste, 0)
    own_taste += 1e-9
    chance = own_taste * np.sqrt(popularity)[None, :]
    return np.cumsum(chance / chance.sum(axis=1, keepdims=True), axis=1)


def _shown(random: np.random.Generator, shares: np.ndarray, affinity: np.ndarray) -> list[int]:
    """The concepts of an image."""
    first = int(np.searchsorted(shares, random.random()))
    shown = [first]
    for _ in range(int(random.integers(2, 7))):
        if random.random() < 0.2:
            shown.append(int(np.searchsorted(shares, random.random())))
        else:
            shown.append(min(int(np.searchsorted(affinity[first], random.random())), len(shares) - 1))
    return list(dict.fromkeys(shown))


def _write(random: np.random.Generator, word: str, variants: list[tuple[str, float]] | tuple[()]) -> list[str]:
    """The usual word or a variant; rarely both."""
    drawn = random.random()
    for variant, share in variants:
        if drawn < share:
            return [word, variant] if random.random() < 0.05 else [variant]
        drawn -= share
    return [word]


def _double(random: np.random.Generator, world: World, theme: np.ndarray, written: list[str]) -> tuple[str, ...]:
    """Let some concepts be written by the word of another theme's concept."""
    doubled: list[str] = []
    places = random.permutation(len(written)).tolist()
    while len(doubled) < world.doubled and len(places) > 1:
        first, second = places.pop(), places.pop()
        if theme[first] != theme[second] and len(written[first]) > 3:
            written[second] = written[first]
            doubled.append(written[first])
    return tuple(doubled)


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Merges that are right, all that were proposed, and those that were planted and not found by ``prepare``."""

    right: int
    proposed: int
    planted: int
    wrong: tuple[tuple[str, str], ...] = ()
    missed: tuple[tuple[str, str], ...] = ()

    @property
    def precision(self) -> float:
        return self.right / self.proposed if self.proposed else math.nan

    @property
    def recall(self) -> float:
        return self.right / self.planted if self.planted else math.nan


def judge_merges(planted: Planted, labelled: LabelledSet, pairs: list[tuple[int, int]], kind: str = "") -> Counts:
    """Compare merged pairs of labels with the truth; of one ``kind`` of variant, only what was planted of it.

    A merge is right if both labels are of one concept. A variant that ``prepare`` gives the label of its word, or of
    another word (``hose`` for horse is one), is not counted among the planted ones.
    """
    label_of = {tag: label for label, tags in enumerate(labelled.tags) for tag in tags}
    concept: dict[int, str] = {}
    for word in planted.word:
        if word in label_of:
            concept[label_of[word]] = word
    wanted: dict[int, str] = {}
    for variant, word in planted.variant_of.items():
        label = label_of.get(variant)
        if label is not None and label not in concept and word in label_of:
            wanted[label] = word
    of_concept = concept | wanted
    right = [pair for pair in pairs if of_concept.get(pair[0], "a") == of_concept.get(pair[1], "b")]
    found = {place for pair in right for place in pair if place in wanted}
    of_kind = {label for label in wanted if not kind or planted.kind[labelled.tags[label][0]] == kind}
    name = labelled.names
    return Counts(
        right=len(found & of_kind),
        proposed=len(pairs) - len(right) + len(found & of_kind),
        planted=len(of_kind),
        wrong=tuple((name[a], name[b]) for a, b in pairs if (a, b) not in set(right)),
        missed=tuple((name[label], wanted[label]) for label in sorted(of_kind - found)),
    )
