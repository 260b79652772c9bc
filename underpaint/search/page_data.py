"""The files of a page but its thumbnails: its own, and the scripts of ``data/``, which call a function of the page.

Browsers let a page from a disk load scripts and pictures, but not fetch files. A script has no bytes, so that numbers
are in base64.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path

import numpy as np

from underpaint.search.page_tower import PageTower
from underpaint.search.quantise import Bytes
from underpaint.search.thumbnails import thumbnail_name

FORMAT = 2
PAGE_FILES = ("index.html", "page.css", "page.js", "tower.js")
ROWS_OF_FILE = 4_096
"""Images or words of one script: at 256 numbers 1.4 MB."""
BYTES_OF_FILE = 1 << 20
"""Weights of one script."""


def write_page_files(folder: Path) -> None:
    """Write the files that every page has, and the empty folder ``data``."""
    for name in PAGE_FILES:
        (folder / name).write_bytes(resources.files("underpaint.search").joinpath("page_files", name).read_bytes())
    (folder / "data").mkdir()


def write_images(folder: Path, paths: Sequence[str], vectors: Bytes) -> None:
    """Write names and embeddings of images."""
    for number, rows in enumerate(_parts(len(paths))):
        thumbnails = [thumbnail_name(row) for row in range(rows.start, rows.stop)]
        content = {"name": paths[rows], "thumbnail": thumbnails, **_encoded(vectors, rows)}
        _write_script(folder / "data" / f"images-{number}.js", "images", number, content)


def write_words(folder: Path, entries: Sequence[str], vectors: Bytes) -> None:
    """Write words and their embeddings."""
    for number, rows in enumerate(_parts(len(entries))):
        content = {"name": entries[rows], **_encoded(vectors, rows)}
        _write_script(folder / "data" / f"words-{number}.js", "words", number, content)


def write_tower(folder: Path, tower: PageTower) -> dict[str, object]:
    """Write a text tower, and return what ``about`` has to say of it."""
    pieces = tower.pieces
    score = {} if pieces.score is None else {"score": _letters(pieces.score.astype("<f4"))}
    rule = {"kind": pieces.kind, "lowercase": pieces.lowercase, "strip_accents": pieces.strip_accents}
    _write_script(folder / "data" / "tower-0.js", "pieces", {"piece": pieces.piece, **score, **rule})
    vectors = {name: _letters(vector.astype("<f4")) for name, vector in tower.vectors.items()}
    _write_script(folder / "data" / "tower-1.js", "vectors", vectors)
    number = 1
    for number, parts in enumerate(_grouped(tower.matrices), 2):
        content = [{"name": name, "start": rows.start, **_encoded(tower.matrices[name], rows)} for name, rows in parts]
        _write_script(folder / "data" / f"tower-{number}.js", "weights", content)
    return {**tower.form(), "scripts": number + 1}


def write_about(folder: Path, about: Mapping[str, object]) -> None:
    """Write the facts that the page reads first."""
    _write_script(folder / "data" / "about.js", "about", {"format": FORMAT, "rows": ROWS_OF_FILE, **about})


def size_of(folder: Path) -> int:
    """Bytes of a page without its thumbnails."""
    return sum(file.stat().st_size for file in (*folder.glob("*.*"), *(folder / "data").iterdir()))


def _parts(count: int, rows: int = ROWS_OF_FILE) -> Iterator[slice]:
    return (slice(start, min(start + rows, count)) for start in range(0, count, rows))


def _grouped(matrices: Mapping[str, Bytes]) -> Iterator[list[tuple[str, slice]]]:
    """Rows of matrices, as many as a script may have."""
    group, size = list[tuple[str, slice]](), 0
    for name, matrix in matrices.items():
        rows, columns = matrix.value.shape
        for part in _parts(rows, max(1, BYTES_OF_FILE // columns)):
            more = (part.stop - part.start) * columns
            if group and size + more > BYTES_OF_FILE:
                yield group
                group, size = [], 0
            group.append((name, part))
            size += more
    if group:
        yield group


def _encoded(vectors: Bytes, rows: slice) -> dict[str, str]:
    return {"value": _letters(vectors.value[rows]), "scale": _letters(vectors.scale[rows].astype("<f4"))}


def _letters(numbers: np.ndarray) -> str:
    return base64.b64encode(numbers.tobytes()).decode()


def _write_script(path: Path, function: str, *arguments: object) -> None:
    """A call of one of the page's functions; everything outside of ASCII is escaped, names of files are data alone."""
    values = ",".join(json.dumps(value, ensure_ascii=True, separators=(",", ":")) for value in arguments)
    path.write_text(f"page.{function}({values});\n", encoding="ascii")
