"""The table of WordNet against what timm knows of ImageNet's synsets, known numbers, and WordNet's files if present."""

from __future__ import annotations

import importlib.util
import os
from collections import Counter
from pathlib import Path

import pyarrow.parquet
import pytest

from underpaint.tags import wordnet as module
from underpaint.tags.wordnet import Part, Sense, wordnet

TABLE = Path(module.__file__).with_name("wordnet.parquet")
FILES: dict[str, Part] = {"noun": "n", "verb": "v", "adj": "a", "adv": "r"}


def wordnet_files() -> Path:
    """The folder ``dict`` of Princeton's WordNet 3.0. Debian's has other ids and here and there other links."""
    folder = Path(os.environ.get("WNSEARCHDIR", "/usr/local/WordNet-3.0/dict"))
    if not (folder / "data.noun").is_file():
        pytest.skip(f"the files of WordNet 3.0 are not in {folder}; WNSEARCHDIR says where they are")
    return folder


def test_all_synsets_are_there() -> None:
    table = pyarrow.parquet.read_table(TABLE)
    ids = table.column("id").to_pylist()
    assert len(set(ids)) == len(ids) == 117_659
    assert Counter(id_[0] for id_ in ids) == {"n": 82_115, "v": 13_767, "a": 18_156, "r": 3_621}  # wnstats(7WN)
    assert Counter(table.column("pos").to_pylist())["s"] == 10_693
    assert all(table.column("lemmas").to_pylist())
    assert "glosses" not in " ".join(table.column_names)
    assert TABLE.stat().st_size < 3e6
    linked = {
        to for name in ("hypernyms", "instance_hypernyms") for row in table.column(name).to_pylist() for to in row
    }
    assert linked <= set(ids)


def test_the_licence_lies_beside_it() -> None:
    text = TABLE.with_name("WORDNET-LICENSE").read_text(encoding="utf-8")
    assert "WordNet 3.0 Copyright 2006 by Princeton University.  All rights reserved." in text
    assert "Permission to use, copy, modify and distribute this software and" in text
    assert text.rstrip().endswith("LICENSEE agrees to preserve same.")


def test_known_meanings() -> None:
    known = wordnet()
    assert known.senses_of("dog")[0] == Sense(synset="n02084071", number=1, count=42)
    assert known.synsets_of("dog", "n")[0] == "n02084071"
    assert known.synsets_of("dog", "v") == ("v02001858",)  # chase, as all wordnets that are linked to 3.0 have it
    assert known.synsets_of("brown bear") == known.synsets_of("Ursus_arctos") == ("n02132136",)
    assert known.synset("n02132136").lemmas == ("brown bear", "bruin", "Ursus arctos")
    assert known.synset("n02084071").hypernyms == known.hypernyms("n02084071") == ("n02083346", "n01317541")
    france = known.synset("n08929922")
    assert (france.lemmas[0], france.hypernyms) == ("France", ())
    assert known.hypernyms(france.id) == france.instance_hypernyms == ("n08696931",)
    assert known.hypernyms("n00001740") == ()
    assert known.synset(known.synsets_of("galore", "a")[0]).lemmas[0] == "galore"  # stored as galore(ip)


def test_words_that_are_not_in_it_have_no_meanings() -> None:
    known = wordnet()
    for word in ("", "dogs", "brownbear", "собака", "İ", "brown  bear"):
        assert known.synsets_of(word) == ()
        assert word not in known
    assert "Brown_Bear" in known
    assert known.synsets_of("brown bear", "v") == ()


def test_senses_stand_in_the_promised_order() -> None:
    known = wordnet()
    for word in ("bear", "run", "light", "last", "Rock", "set", "down"):
        for part in ("n", "v", "a", "r"):
            numbers = [sense.number for sense in known.senses_of(word, part)]
            assert numbers == list(range(1, len(numbers) + 1))
        every = known.senses_of(word)
        assert [one.count for one in every] == sorted((one.count for one in every), reverse=True)
        assert len({one.synset for one in every}) == len(every)
        uncounted = ["nvar".index(one.synset[0]) for one in every if one.count == 0]
        assert uncounted == sorted(uncounted)


@pytest.mark.parametrize("id_", ["n00000000", "n99999999", "x02084071", "02084071", "n2084071", "", "n0208407١"])
def test_an_unknown_id_is_named(id_: str) -> None:
    with pytest.raises(ValueError, match=f"WordNet 3.0 has no synset '{id_}'"):
        wordnet().synset(id_)
    with pytest.raises(ValueError, match="an id looks like n02084071"):
        wordnet().hypernyms(id_)


def test_ids_and_words_are_those_that_timm_has_for_imagenet() -> None:
    timm = importlib.util.find_spec("timm")  # not imported: only its list is needed
    assert timm is not None
    assert timm.origin is not None
    text = (Path(timm.origin).parent / "data/_info/imagenet_synset_to_lemma.txt").read_text(encoding="utf-8")
    words = dict(line.split("\t") for line in text.splitlines())
    assert len(words) == 21_844
    table = pyarrow.parquet.read_table(TABLE, columns=["id", "lemmas"]).to_pydict()
    found = dict(zip(table["id"], map(", ".join, table["lemmas"]), strict=True))
    assert {id_: found.get(id_) for id_ in words} == words


def test_every_word_finds_its_synset() -> None:
    known = wordnet()
    table = pyarrow.parquet.read_table(TABLE, columns=["id", "lemmas", "senses", "counts"])
    for row in table.to_pylist()[::101]:
        for lemma, number, count in zip(row["lemmas"], row["senses"], row["counts"], strict=True):
            assert Sense(synset=row["id"], number=number, count=count) in known.senses_of(lemma, row["id"][0])


def test_it_says_what_the_files_of_wordnet_say() -> None:
    """The senses of words are those of the indices, in their order; an offset is a place in the file of data."""
    folder, known = wordnet_files(), wordnet()
    words = 0
    for name, part in FILES.items():
        data = (folder / f"data.{name}").read_bytes()
        for text in (folder / f"index.{name}").read_text(encoding="ascii").splitlines()[29:]:
            words += 1
            if words % 53 == 0:
                fields = text.split()
                offsets = fields[-int(fields[2]) :]
                assert known.synsets_of(fields[0], part) == tuple(part + offset for offset in offsets)
                first = int(offsets[0])
                line = data[first : data.index(b" | ", first)].decode("ascii")
                above = [part + rest.split()[0] for rest in line.split(" @ ")[1:]]
                assert list(known.synset(part + offsets[0]).hypernyms) == above
    assert words == 155_287  # wnstats(7WN)


def test_what_lies_below_a_synset() -> None:
    """Against a walk upwards from every seventh synset; two verbs are each more general than the other."""
    table = pyarrow.parquet.read_table(TABLE).to_pylist()
    above = {row["id"]: row["hypernyms"] + row["instance_hypernyms"] for row in table}
    below = {top: wordnet().below(top) for top in ("n02131653", "n08168978", "v00612841")}
    for id_ in list(above)[::7]:
        seen, left = {id_}, [id_]
        while left:
            new = set(above[left.pop()]) - seen
            seen |= new
            left += new
        assert {top for top in below if id_ in below[top]} == seen & below.keys()
    with pytest.raises(ValueError, match="no synset 'n00000001'"):
        wordnet().below("n00000001")


def test_names_words_and_ids() -> None:
    known = wordnet()
    assert [known.is_name(word) for word in ("France", "DNA", "dog", "polish", "no such")] == [
        True,
        True,
        False,
        False,
        False,
    ]
    assert len(set(known.words())) == len(known.words()) == 147_306
    assert "brown bear" in known.words()
    assert known.lemmas("n02132136") == known.synset("n02132136").lemmas
    assert known.has_synset("n02132136")
    assert not known.has_synset("n00000001")
    assert not known.has_synset("dog")
