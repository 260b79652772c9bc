"""Words that say nothing about an image: function words, and what programs, platforms and collections add."""

from __future__ import annotations

from functools import cache
from pathlib import Path


@cache
def english_function_words() -> frozenset[str]:
    """The closed word classes of English, without words that are also things one can picture."""
    return _words("function_words.txt")


@cache
def bookkeeping() -> frozenset[str]:
    """Tags that describe the collection and not the picture."""
    return _words("bookkeeping.txt")


@cache
def album_words() -> frozenset[str]:
    """Words of many languages that name albums and folders of pictures, whatever they show."""
    return _words("album_words.txt")


@cache
def stopwords() -> dict[str, frozenset[str]]:
    """Function words of 47 languages other than English, on which several lists agree, by ISO 639-1 code."""
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(Path(__file__).with_name("stopwords.parquet")) as opened:
        table = opened.read(use_threads=False)
    words_of: dict[str, set[str]] = {}
    for language, word in zip(table.column("language").to_pylist(), table.column("word").to_pylist(), strict=True):
        words_of.setdefault(language, set()).add(word)
    return {language: frozenset(words) for language, words in words_of.items()}


def _words(name: str) -> frozenset[str]:
    """The words of a file, separated by blanks, without the lines that begin with ``#``."""
    lines = Path(__file__).with_name(name).read_text(encoding="utf-8").splitlines()
    return frozenset(word for line in lines if not line.startswith("#") for word in line.split())
