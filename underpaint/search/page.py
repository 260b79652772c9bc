"""A folder with a page that finds images by words, opened by a double click: no server, no network, no model.

The page has the images' embeddings and those of some thousand words in eight bits, as scripts that call a function:
browsers let a page from a disk load scripts and pictures, but neither fetch files nor start workers.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from underpaint.data.source import Folder, Problem
from underpaint.evals.text_features import BATCH_TEXTS, Towers
from underpaint.messages import counted, say
from underpaint.progress import Progress
from underpaint.run.towers import load_towers
from underpaint.search.pictures import Pictures, embed_pictures, open_pictures
from underpaint.search.quantise import Bytes, image_axes, quantise, shortened
from underpaint.search.thumbnails import thumbnail_name, write_thumbnails
from underpaint.search.words import MOST_WORDS, WordChoice, choose_words
from underpaint.training.devices import choose_device

FORMAT = 1
PAGE_FILES = ("index.html", "page.css", "page.js")
ROWS_OF_FILE = 4_096
"""Images or words of one script: at 256 numbers 1.4 MB."""
NAMED_PROBLEMS = 1_000
"""Unreadable images that the page lists; the others are counted."""
COMPARED_WORDS = 200
COMPARED_BEST = 10


@dataclass(frozen=True, kw_only=True)
class PageFacts:
    """Numbers of a written page."""

    images: int
    words: int
    unreadable: int
    numbers: int
    """Numbers of each stored embedding."""
    kept_best: float
    """Share of the ten best images of a word, by the full embeddings, that are among the page's ten best."""
    megabytes: float
    """Size without thumbnails."""


def write_search_page(
    folder: str | Path, images: str | Path, out: str | Path, *, languages: Sequence[str] = (), words: int = MOST_WORDS
) -> PageFacts:
    """Write a search page about images into the new folder ``out``, by the towers of a finished run of LiT.

    ``words`` is the largest number of words that can be typed, ``languages`` (ISO 639-1) keeps the words of these; ()
    takes the languages of the run's captions. See ``choose_words``. The folder appears whole or not at all.

    Raises:
        ValueError: if ``out`` exists, the model reads no texts, no image can be read, or no word is left.
    """
    out = Path(out).expanduser()
    _require_new(out)
    if words < 1:
        raise ValueError(f"words={words} must be 1 or more")
    source, towers = open_pictures(images), load_towers(folder).to(choose_device("any"))
    spoken = _spoken(towers, languages)
    choice = choose_words(source, images, folder, languages=spoken, most=words)
    said = ", ".join(f"{count:,} {name}" for name, count in choice.counts.items() if count)
    say(f"{counted(len(choice.entries), 'word')}: {said}")
    pictures = embed_pictures(towers, source)
    vectors = page_vectors(pictures.embedding, _embed(towers, choice.entries))
    with _new_folder(out) as part:
        undrawn = write_thumbnails(source.files, pictures.paths, part / "thumbnails")
        problems = [*pictures.unreadable, *undrawn]
        originals = os.path.relpath(source.root, out.resolve()) if isinstance(source.files, Folder) else ""
        write_data(part, pictures.paths, vectors, choice, about=_about(pictures, problems, originals))
    size = sum(file.stat().st_size for file in (*out.glob("*.*"), *(out / "data").iterdir()))
    return PageFacts(
        images=len(pictures.rows),
        words=len(choice.entries),
        unreadable=len(problems),
        numbers=vectors.images.value.shape[1],
        kept_best=vectors.kept_best,
        megabytes=size / 1e6,
    )


@dataclass(frozen=True, kw_only=True)
class PageVectors:
    """Embeddings as a page has them."""

    images: Bytes
    words: Bytes
    kept_best: float
    """As in ``PageFacts``."""


def page_vectors(images: Float[Tensor, "n e"], words: Float[Tensor, "w e"]) -> PageVectors:
    """The embeddings in at most ``MOST_NUMBERS`` numbers of eight bits, compared with the full ones."""
    axes = image_axes(images)
    page_images, page_words = quantise(shortened(images, axes)), quantise(shortened(words, axes))
    some = np.linspace(0, len(words) - 1, min(COMPARED_WORDS, len(words))).astype(int)
    full = (images @ words[torch.from_numpy(some)].T).numpy()
    stored = Bytes(page_words.value[some], page_words.scale[some])
    kept = shared_best(full.T, (page_images.vectors() @ stored.vectors().T).T, COMPARED_BEST)
    return PageVectors(images=page_images, words=page_words, kept_best=kept)


def shared_best(full: Float[np.ndarray, "q n"], page: Float[np.ndarray, "q n"], best: int) -> float:
    """Mean share of the ``best`` images of each query by one score that are among those by another."""
    best = min(best, full.shape[1])
    pairs = zip(*(np.argsort(-score, axis=1, kind="stable")[:, :best] for score in (full, page)), strict=True)
    return float(np.mean([len(np.intersect1d(a, b)) / best for a, b in pairs]))


def write_data(
    folder: Path, paths: Sequence[str], vectors: PageVectors, choice: WordChoice, *, about: dict[str, object]
) -> None:
    """Write everything of a page but the thumbnails: the page's own files, and the scripts of ``data/``."""
    for name in PAGE_FILES:
        (folder / name).write_bytes(resources.files("underpaint.search").joinpath("page_files", name).read_bytes())
    data = folder / "data"
    data.mkdir()
    meta = {
        "format": FORMAT,
        "images": len(paths),
        "words": len(choice.entries),
        "numbers": vectors.images.value.shape[1],
        "rows": ROWS_OF_FILE,
        "kept_best": round(vectors.kept_best, 3),
        "ignored": list(choice.ignored),
        **about,
    }
    _write_script(data / "about.js", "about", meta)
    for number, rows in enumerate(_parts(len(paths))):
        thumbnails = [thumbnail_name(row) for row in range(rows.start, rows.stop)]
        content = {"name": paths[rows], "thumbnail": thumbnails, **_encoded(vectors.images, rows)}
        _write_script(data / f"images-{number}.js", "images", content, number)
    for number, rows in enumerate(_parts(len(choice.entries))):
        content = {"name": choice.entries[rows], **_encoded(vectors.words, rows)}
        _write_script(data / f"words-{number}.js", "words", content, number)


def _parts(count: int) -> Iterator[slice]:
    return (slice(start, min(start + ROWS_OF_FILE, count)) for start in range(0, count, ROWS_OF_FILE))


def _encoded(vectors: Bytes, rows: slice) -> dict[str, str]:
    value, scale = vectors.value[rows].tobytes(), vectors.scale[rows].astype("<f4").tobytes()
    return {"value": base64.b64encode(value).decode(), "scale": base64.b64encode(scale).decode()}


def _write_script(path: Path, function: str, content: object, *arguments: int) -> None:
    """A call of one of the page's functions; everything outside of ASCII is escaped, names of files are data alone."""
    values = ",".join(json.dumps(value, ensure_ascii=True, separators=(",", ":")) for value in (*arguments, content))
    path.write_text(f"page.{function}({values});\n", encoding="ascii")


def _about(pictures: Pictures, problems: Sequence[Problem], originals: str) -> dict[str, object]:
    named = [{"name": problem.key, "reason": problem.reason} for problem in problems[:NAMED_PROBLEMS]]
    return {
        "title": pictures.source.name,
        "attribution": "" if originals else pictures.source.attribution,
        "originals": Path(originals).as_posix() if originals else "",
        "unreadable": len(problems),
        "problems": named,
    }


def _spoken(towers: Towers, languages: Sequence[str]) -> Sequence[str]:
    """The languages asked for, or those of the captions that the text tower was trained on; () where nobody knows."""
    trained = sorted(set(towers.languages or ()) - {""})
    if unseen := sorted(set(languages) - set(trained)) if trained else []:
        say(f"the text tower saw no caption in {', '.join(unseen)}; its captions were in {', '.join(trained)}")
    return languages or trained


def _embed(towers: Towers, entries: Sequence[str]) -> Float[Tensor, "w e"]:
    step, parts = 4 * BATCH_TEXTS, list[Tensor]()
    with Progress("Embedding words", total=len(entries), unit="words") as shown:
        for start in range(0, len(entries), step):
            parts.append(towers.embed_texts(entries[start : start + step]))
            shown.update(min(start + step, len(entries)))
    return torch.cat(parts)


def _require_new(out: Path) -> None:
    if out.exists() or out.is_symlink():
        raise ValueError(f"{out} exists already; choose another --out, or delete it")
    if not out.absolute().parent.is_dir():
        raise ValueError(f"--out {out}: the folder {out.absolute().parent} does not exist; make it first")


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """A folder beside ``out`` under a name of its own, which becomes ``out`` when the block ends well.

    The files are synced together, since one call for each of 100,000 thumbnails would take minutes.
    """
    part = Path(tempfile.mkdtemp(prefix=f".{out.name[:100]}.", dir=out.absolute().parent))
    try:
        part.chmod(out.absolute().parent.stat().st_mode & 0o777)  # mkdtemp's is its owner's alone
        yield part
        os.sync()
        _require_new(out)
        part.rename(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
