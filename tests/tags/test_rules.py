"""The rules for single tags: known answers, properties, and oracles (brute force, wn's own rules, a naive count)."""

from __future__ import annotations

import functools
import itertools
import math
import unicodedata
from pathlib import Path

import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from underpaint.tags import wordnet as module
from underpaint.tags.canonical import Canonicaliser, TagRules
from underpaint.tags.inflection import ENDINGS
from underpaint.tags.normalise import Form, normalise
from underpaint.tags.segment import MARGIN, MAX_COST, MIN_COUNT, MIN_LETTERS, SHORT, Segmenter, english
from underpaint.tags.wordnet import wordnet


@functools.cache
def canonicaliser(**rules: object) -> Canonicaliser:
    return Canonicaliser(TagRules(**rules))  # type: ignore[arg-type]


def key(tag: str, **rules: object) -> str:
    return canonicaliser(**rules).decide(tag).key


@pytest.mark.parametrize(
    ("tag", "words"),
    [
        ("#BrownBear", ("brown", "bear")),
        ("#HTMLPage", ("html", "page")),
        ("#PARTYTIME", ("partytime",)),
        ("new_zealand", ("new", "zealand")),
        ("“Fuji” apple", ("fuji", "apple")),
        ("\uff03\uff22\uff45\uff41\uff52", ("bear",)),
        ("mother-in-law's", ("mother", "in", "law's")),
        ("#İstanbul", ("istanbul",)),
        ("#STRASSE", ("strasse",)),
        ("#\u200bCafe\u0301\ufe0f", ("café",)),
        ("#कार", ("कार",)),
        ("#می\u200cخواهم", ("می\u200cخواهم",)),
        ("#火", ("火",)),
    ],
)
def test_words_of_a_tag(tag: str, words: tuple[str, ...]) -> None:
    form = normalise(tag)
    assert isinstance(form, Form)
    assert form.words == words


@pytest.mark.parametrize(
    ("tag", "reason"),
    [
        *[(tag, "an address") for tag in ("https://a.example/#x", "www.a.example", "me@a.example", "a.com/photos")],
        *[(tag, "written by a program") for tag in ("geo:lat=52.1", "HASH(0x8b7534)", "0x8b754fc")],
        *[("@anna", "an @name"), ("530", "a number"), ("#①", "a number"), ("🎉", "no letters"), ("", "no letters")],
        *[("#B", "a single letter"), ("Ж", "a single letter"), ("a1b2c3d4e5", "a code")],
        *[("the", "function word (en)"), ("Don't", "function word (en)"), ("ponieważ", "function word (pl)")],
        *[(tag, "describes the collection, not the picture") for tag in ("#instagood", "SVG", "lemon_theme_icon")],
    ],
)  # fmt: skip
def test_what_is_dropped(tag: str, reason: str) -> None:
    decision = canonicaliser().decide(tag)
    assert (decision.kind, decision.key, decision.reason) == ("drop", "", reason)


@pytest.mark.parametrize(
    ("tag", "right"),
    [
        *[(tag, "n02132136") for tag in ("#brownbear", "#ursusarctos", "Brown_Bears", "#BrownBears", "BROWN BEAR")],
        *[("#mice", "n02330245"), ("#icecream", "n07614500"), ("#theater", "n04417809"), ("#leaves", "n13152742")],
        *[("#hands", "n05564590"), ("#glasses", "n04272054"), ("#tiger", "n02129604"), ("#whale", "n02062744")],
        *[("#xrays", "n11527177"), ("men_s_room", "n03746486"), ("#France", "n08929922"), ("#uk", "n08860123")],
        *[("#gayprideflag", "text:gayprideflag"), ("traffic cone", "text:trafficcone"), ("#weg", "text:weg")],
        *[("#музыка", "text:музыка"), ("#東京", "text:東京")],
    ],
)
def test_known_tags(tag: str, right: str) -> None:
    assert key(tag) == right


def test_nouns_only_and_words_outside() -> None:
    assert key("dance")[0] == key("dance", parts_of_speech="nouns")[0] == "n"
    assert key("exploding")[0] == "v"
    assert key("exploding", parts_of_speech="nouns")[0] == "t"
    assert key("beautiful")[0] == "a"
    assert key("beautiful", parts_of_speech="nouns") == "text:beautiful"
    assert (
        key("beautiful", parts_of_speech="nouns", unknown_tags="drop")
        == key("wolkenbruch", parts_of_speech="nouns", unknown_tags="drop")
        == ""
    )
    assert key("dog", parts_of_speech="nouns", unknown_tags="drop") == "n02084071"


def test_of_which_languages_posts_are_decides_on_rare_words() -> None:
    assert key("ananas") == "text:ananas"  # pineapple in many languages, and rare in English
    assert key("ananas", languages=("en",))[0] == "n"
    assert key("und") == ""
    assert key("und", languages=("en",)) == "text:und"
    assert key("son") == "n10624074"  # French: his
    with pytest.raises(ValueError, match=r"not \['klingon'\]"):
        TagRules(languages=("klingon",))


@pytest.mark.parametrize("wrong", [{"min_count": 0}, {"vocabulary_size": 0}])
def test_wrong_rules_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TagRules(**wrong)  # type: ignore[arg-type]


SCRIPTS = st.sampled_from("abcdefgzABCZ äßéИжﬁⅣ½①कि日本어עم٣_-'’#@./:= 🎉\u200b\u200d\u0301")
PIECES = ("brown", "bear", "Gay", "PRIDE", "flag", "ice", "cream", "of", "mice", "men", "s", "theme", "icon")
TAGS = st.one_of(
    st.text(SCRIPTS, max_size=12),
    st.text(max_size=12),
    st.lists(st.sampled_from(PIECES), max_size=4).map("".join),
    st.sampled_from(wordnet().words()[::97]),
)


@settings(max_examples=400, deadline=None)
@given(tag=TAGS)
def test_a_tag_means_what_its_spellings_and_its_name_mean(tag: str) -> None:
    decision = canonicaliser().decide(tag)
    assert (decision.kind == "drop") == (decision.key == "") == (decision.name == "")
    assert decision.reason
    assert canonicaliser().decide(f"#{tag}") == decision
    assert canonicaliser().decide(unicodedata.normalize("NFD", tag)).key == decision.key
    form = normalise(tag)
    if isinstance(form, Form):
        again = normalise(" ".join(form.words))
        assert not isinstance(again, Form) or again.words == form.words
    if decision.kind == "text":
        assert canonicaliser().decide(decision.name).key in {decision.key, ""}


def test_two_readers_of_the_rules_agree() -> None:
    tags = [*wordnet().words()[::1009], "#wolkenbruch", "#gayprideflag", "und", "@anna"]
    first, second = (Canonicaliser(TagRules()) for _ in range(2))
    assert [first.decide(tag) for tag in tags] == [second.decide(tag) for tag in reversed(tags)][::-1]


def brute_force(run: str, cost: dict[str, float]) -> tuple[str, ...]:
    """All ways to cut, the best of which is at least MARGIN below the next."""
    ways: list[tuple[float, tuple[str, ...]]] = []
    for cuts in itertools.product((False, True), repeat=len(run) - 1):
        edges = [0, *[at for at, cut in enumerate(cuts, start=1) if cut], len(run)]
        words = tuple(run[a:b] for a, b in itertools.pairwise(edges))
        if len(words) <= 6 and all(word in cost for word in words):
            ways.append((sum(cost[word] for word in words), words))
    ways.sort()
    clear = len(ways) == 1 or (len(ways) > 1 and ways[1][0] - ways[0][0] >= MARGIN)
    likely = ways != [] and ways[0][0] <= MAX_COST * len(run) and ways[0][1][-1] not in SHORT
    return ways[0][1] if clear and likely and len(ways[0][1]) > 1 else ()


@functools.cache
def costs() -> dict[str, float]:
    counts = english()
    total = sum(counts.values())
    return {
        word: math.log(total / n)
        for word, n in counts.items()
        if n >= MIN_COUNT and (len(word) >= MIN_LETTERS or word in SHORT)
    }


WORDS = ("the", "rap", "ist", "rapist", "men", "at", "work", "now", "here", "ears", "we", "are")
RUNS = st.one_of(st.lists(st.sampled_from(WORDS), max_size=4).map("".join), st.text("aehrst", max_size=11))


@settings(max_examples=60, deadline=None)
@given(run=RUNS.filter(lambda run: 2 * MIN_LETTERS <= len(run) <= 12))
def test_segmentation_is_that_of_brute_force(run: str) -> None:
    assert segmenter().part(run) == brute_force(run, costs())


@functools.cache
def segmenter() -> Segmenter:
    return Segmenter(english())


def test_ambiguous_runs_stay_whole() -> None:
    even = Segmenter({"now": 10**7, "here": 10**7, "nowhe": 10**7, "res": 10**7, "heres": 10**7, "nowheres": 1})
    assert even.part("nowheres") == ()
    assert even.part("nowhere") == ("now", "here")
    assert segmenter().part("therapist") == ()
    assert segmenter().part("expertsexchange") == ("experts", "exchange")
    assert segmenter().part("bandera") == ()  # a flag in Spanish, no band's era


def test_endings_are_those_of_morphy() -> None:
    import wn.morphy as morphy

    for part, own in ENDINGS.items():
        theirs = [(ending, base) for ending, base, systems in morphy.DETACHMENT_RULES[part] if systems & morphy._PWN]
        assert list(own) == theirs


def test_the_chosen_meaning_has_the_highest_weight() -> None:
    """Counts times 3 for things that are no persons, times 6 for nouns; from the table and a recursion over it."""
    folder = Path(module.__file__).parent
    table = pyarrow.parquet.read_table(folder / "wordnet.parquet").to_pylist()
    above = {row["id"]: row["hypernyms"] + row["instance_hypernyms"] for row in table}

    @functools.cache
    def is_thing(id_: str) -> bool:
        return id_ == "n00001930" or any(map(is_thing, above[id_]))

    @functools.cache
    def is_person(id_: str) -> bool:
        return id_ == "n00007846" or any(map(is_person, above[id_]))

    rank: dict[str, list[tuple[float, int, int, str]]] = {}
    for row in table:
        noun = row["id"][0] == "n"  # two verbs are more general than each other
        weight = 3 if noun and is_thing(row["id"]) and not is_person(row["id"]) else 1
        for lemma, number, count in zip(row["lemmas"], row["senses"], row["counts"], strict=True):
            order = (
                -(count + 1) * weight * {"n": 6, "a": 4}.get(row["id"][0], 1),
                "nvar".index(row["id"][0]),
                number,
                row["id"],
            )
            rank.setdefault(lemma.lower(), []).append(order)
    endings = tuple(ending for pairs in ENDINGS.values() for ending, _ in pairs)
    plain = [
        word for word in rank if word.isascii() and word.isalpha() and len(word) > 2 and not word.endswith(endings)
    ]
    irregular = (
        pyarrow.parquet.read_table(Path(module.__file__).with_name("irregular.parquet")).column("form").to_pylist()
    )
    checked = 0
    for word in sorted(set(plain) - set(irregular))[::50]:
        decision = canonicaliser(languages=("en",)).decide(word)
        if decision.kind == "synset":
            assert decision.key == min(rank[word])[3], word
            checked += 1
    assert checked > 500


def test_a_chain_of_mappings_ends_where_its_last_row_does() -> None:
    chain = {"kitty": "Cat", "cat": "tabby", "tabby": "tabby", "chick": "hen", "hen": ""}
    canonicaliser = Canonicaliser(TagRules(mapping={**chain, "owl": "text:Dog", "dog": "wolf"}))
    by_rule = Canonicaliser(TagRules()).decide("tabby").key
    assert {canonicaliser.decide(tag).key for tag in ("kitty", "#CAT", "tabby")} == {by_rule}
    assert canonicaliser.decide("chick").key == ""
    assert canonicaliser.decide("owl").name == "Dog", "words as they are"


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"dog": "@anna"}, "drop a tag by an empty target"),
        ({"#Dog": "cat", "dog": "horse"}, "two targets for 'dog'"),
        ({"dog": "n00000001"}, "WordNet 3.0 has no synset 'n00000001'"),
        ({"dog": "text: -"}, "drop a tag by an empty target"),
        ({"cat": "#Dog", "dog": "cat"}, "turns in a circle: 'cat', 'dog' become each other; delete one"),
        ({"kitty": "cat", "cat": "dog", "dog": "cat"}, "turns in a circle: 'kitty', 'cat', 'dog'"),
    ],
)
def test_wrong_mappings_are_refused(mapping: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Canonicaliser(TagRules(mapping=mapping))
