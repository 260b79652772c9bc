"""The words of which an English form may be an inflection: WordNet's own rules (morphy) and its exceptions."""

from __future__ import annotations

from functools import cache, lru_cache
from pathlib import Path

from underpaint.tags.wordnet import Part

ENDINGS: dict[Part, tuple[tuple[str, str], ...]] = {
    "n": (
        *(("s", ""), ("ses", "s"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh"), ("men", "man")),
        ("ies", "y"),
    ),
    "v": (("s", ""), ("ies", "y"), ("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""), ("ing", "e"), ("ing", "")),
    "a": (("er", ""), ("est", ""), ("er", "e"), ("est", "e")),
    "r": (),
}
"""Pairs of an ending and its replacement in the base, by part of speech."""

_LAST = {ending[-1] for endings in ENDINGS.values() for ending, _ in endings}


@lru_cache(maxsize=4096)
def bases(form: str) -> tuple[tuple[Part, str], ...]:
    """Every base that the form may have, with its part of speech, without checking that such a word exists.

    The form itself is not among them. They are in WordNet's order: nouns, verbs, adjectives, adverbs; in each,
    exceptions first.
    """
    pairs: list[tuple[Part, str]] = list(irregular().get(form, ()))
    if form[-1] in _LAST and not form.endswith("ss"):
        for part, endings in ENDINGS.items():
            for ending, base in endings:
                if form.endswith(ending) and len(form) > len(ending) + 1:
                    pairs.append((part, form.removesuffix(ending) + base))
    order = list(ENDINGS)
    distinct = dict.fromkeys(pair for pair in pairs if pair[1] != form)
    return tuple(sorted(distinct, key=lambda pair: order.index(pair[0])))


@cache
def irregular() -> dict[str, tuple[tuple[Part, str], ...]]:
    """WordNet's exceptions: parts of speech and bases of a form."""
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(Path(__file__).with_name("irregular.parquet")) as opened:
        table = opened.read(use_threads=False)
    bases_of: dict[str, tuple[tuple[Part, str], ...]] = {}
    columns = (table.column(name).to_pylist() for name in ("form", "part", "base"))
    for form, part, base in zip(*columns, strict=True):
        bases_of[form] = (*bases_of.get(form, ()), (part, base))
    return bases_of
