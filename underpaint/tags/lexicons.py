"""Words of other languages and their synsets, from lexicons that the user supplies (WN-LMF files, read by ``wn``)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from underpaint.tags.normalise import plain, squeeze
from underpaint.tags.wordnet import WordNet

MAX_BYTES = 1024**3
"""Largest accepted size of a lexicon file in bytes, ten times that of the largest known one."""
OFFSET = re.compile(r"omw-.*-(\d{8})-([nvasr])")
"""Pattern of synset ids in the Open Multilingual Wordnet, which hold the offset in WordNet 3.0."""
_DAMAGE = (ValueError, LookupError, TypeError, AttributeError, AssertionError)
"""Errors that the package wn raises on XML that is not in its format."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A word's entry in a lexicon: its language and its synsets in WordNet 3.0."""

    lexicon: str
    language: str
    synsets: tuple[str, ...]


def read_lexicons(files: Iterable[str | Path], known: WordNet) -> dict[str, Entry]:
    """Entries by the letters of the word (``squeeze``); the first lexicon that has a word gives its entry.

    A synset is found by its name where the lexicon is of the Open Multilingual Wordnet, else by its number in the
    Interlingual Index, if one of the lexicons is of the former (as ``omw-en`` is) and has that number too. Synsets that
    are found neither way are left out.

    Raises:
        ValueError: for a file that is not a lexicon, and for one whose synsets are all unknown.
    """
    parsed = [(Path(file), lexicon) for file in files for lexicon in _parse(Path(file))]
    synsets = [synset for _, lexicon in parsed for synset in lexicon["synsets"]]
    names = {synset["id"]: princeton for synset in synsets if (princeton := _by_name(synset, known))}
    of_index = {synset["ili"]: names[synset["id"]] for synset in synsets if synset["ili"] and synset["id"] in names}
    entries: dict[str, Entry] = {}
    for file, lexicon in parsed:
        ids = {
            synset["id"]: princeton
            for synset in lexicon["synsets"]
            if (princeton := names.get(synset["id"]) or of_index.get(synset["ili"]))
        }
        if not ids:
            raise ValueError(
                f"{file}: no synset of {lexicon['id']} is known; give the lexicon omw-en as well, which links the "
                "Interlingual Index to WordNet 3.0"
            )
        for word, meanings in _words(lexicon, ids):
            entries.setdefault(word, Entry(lexicon["id"], lexicon["language"], meanings))
    return entries


def _parse(file: Path) -> list[Any]:
    """The lexicons of a file, as nested dictionaries."""
    from xml.parsers.expat import ExpatError

    try:
        import wn
        import wn.lmf
    except ImportError as error:
        raise ValueError("lexicons need the package wn: pip install '.[lexicons]'") from error
    if (size := file.stat().st_size) > MAX_BYTES:
        raise ValueError(f"{file} has {size} bytes; a lexicon has at most {MAX_BYTES}")
    try:
        lexicons: list[Any] = wn.lmf.load(file, progress_handler=None)["lexicons"]
    except (wn.Error, ExpatError, *_DAMAGE) as error:
        raise ValueError(f"{file} is not a lexicon in the format WN-LMF: {str(error) or repr(error)}") from error
    return lexicons


def _by_name(synset: Any, known: WordNet) -> str:
    """The WordNet 3.0 id of a synset that is named by its offset; "" for others."""
    match = OFFSET.fullmatch(synset["id"])
    synset_id = f"{match[2].replace('s', 'a')}{match[1]}" if match else ""
    return synset_id if synset_id and known.has_synset(synset_id) else ""


def _words(lexicon: Any, ids: dict[str, str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Every word, with the synsets of all its entries in their order."""
    synsets_of: dict[str, dict[str, None]] = {}
    for entry in lexicon["entries"]:
        senses = [ids[sense["synset"]] for sense in entry.get("senses", ()) if sense["synset"] in ids]
        for written in (entry["lemma"], *entry.get("forms", ())):
            word = squeeze(plain(written["writtenForm"]).lower())
            if word and senses:
                synsets_of.setdefault(word, {}).update(dict.fromkeys(senses))
    for word, synsets in synsets_of.items():
        yield word, tuple(synsets)
