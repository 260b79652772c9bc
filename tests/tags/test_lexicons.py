"""Words of other languages from lexicons in WN-LMF, and what is no such file."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.lexicon_examples import HEAD, lexicon
from underpaint.tags.canonical import Canonicaliser, TagRules
from underpaint.tags.lexicons import read_lexicons
from underpaint.tags.wordnet import wordnet


@pytest.fixture
def french(tmp_path: Path) -> str:
    """Wheel; cat; glass in two meanings; go; with, as a noun; an apostrophe; a synset that WordNet 3.0 lacks."""
    words = {
        "roue": ["omw-fr-04574999-n"],
        "chat": ["omw-fr-02121620-n"],
        "Œil-de-bœuf": ["omw-fr-03438257-n", "omw-fr-14881303-n"],
        "aller": ["omw-fr-01835496-v"],
        "avec": ["omw-fr-05564590-n"],
        "jusqu'au": ["omw-fr-02084071-n"],
        "lunette": ["omw-fr-00000001-n"],
    }
    index = {id_: f"i{n}" for n, id_ in enumerate(id_ for ids in words.values() for id_ in ids)}
    return lexicon(tmp_path, "omw-fr", words, index)


def test_a_lexicon_tells_what_words_mean(french: str) -> None:
    rules = TagRules(lexicons=(french,))
    canonicaliser = Canonicaliser(rules)
    keys = {tag: canonicaliser.decide(tag).key for tag in ("#Roue", "chat", "aller", "avec", "lunette", "œil_de_bœuf")}
    assert keys["#Roue"] == "n04574999"  # no rake, which is rare in English
    assert keys["chat"][0] in "nv"
    assert keys["chat"] != "n02121620"  # an everyday word of English
    assert keys["aller"] == "v01835496"  # a function word of German, which the lexicon is not of
    assert keys["avec"] == ""  # a function word of French, which the lexicon has as well
    assert canonicaliser.decide("#Jusqu\u2019au").key == canonicaliser.decide("jusquau").key == "n02084071"
    assert keys["lunette"] == Canonicaliser(TagRules()).decide("lunette").key
    assert keys["œil_de_bœuf"] in ("n03438257", "n14881303")
    assert Canonicaliser(rules).decide("roue").reason == "lexicon omw-fr"
    assert Canonicaliser(TagRules(lexicons=(french,), parts_of_speech="nouns")).decide("aller").key == ""


def test_other_lexicons_are_linked_by_the_index(french: str, tmp_path: Path) -> None:
    german = lexicon(
        tmp_path, "odenet", {"Rad": ["odenet-1-n"], "Katze": ["odenet-2-n"]}, {"odenet-1-n": "i0", "odenet-2-n": ""}
    )
    with pytest.raises(ValueError, match="no synset of odenet is known; give the lexicon omw-en as well"):
        read_lexicons([german], wordnet())
    found = read_lexicons([german, french], wordnet())
    assert found["rad"].synsets == ("n04574999",)
    assert "katze" not in found


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00\xff\xfe",
        b"<html></html>",
        (HEAD + "<LexicalResource><Lexicon>").encode(),
        b'<?xml version="1.0"?>\n<!DOCTYPE lolz [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]>\n<lolz>&b;</lolz>',
    ],
)
def test_what_is_no_lexicon_is_refused(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "lexicon.xml"
    file.write_bytes(content)
    with pytest.raises(ValueError, match="is not a lexicon in the format WN-LMF"):
        read_lexicons([file], wordnet())


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "lexicon.xml"
    with file.open("wb") as opened:
        opened.truncate(1024**3 + 1)
    with pytest.raises(ValueError, match="a lexicon has at most 1073741824"):
        read_lexicons([file], wordnet())
