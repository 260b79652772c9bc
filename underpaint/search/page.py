"""A folder with a page that finds images by words, opened by a double click: no server and no network.

The page has the images' embeddings and those of some thousand words in eight bits. Several words are read by the text
tower in eight bits where the page has room for it, and are the mean of the single words' embeddings otherwise.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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
from underpaint.search.page_data import size_of, write_about, write_images, write_page_files, write_tower, write_words
from underpaint.search.page_tower import PageTower, page_tower
from underpaint.search.pictures import Pictures, embed_pictures, open_pictures
from underpaint.search.quantise import Bytes, image_axes, quantise, shortened
from underpaint.search.thumbnails import write_thumbnails
from underpaint.search.words import MOST_WORDS, WordChoice, choose_words
from underpaint.texts.languages import language_code
from underpaint.training.devices import choose_device

NAMED_PROBLEMS = 1_000
"""Unreadable images that the page lists; the others are counted."""
COMPARED = 200
"""Words, and phrases, whose best images are compared with those of the full embeddings."""
COMPARED_BEST = 10
LEAST_COMPARED = 20
"""Phrases from which on their share is stated."""
BYTES_OF_PIECE = 24
"""Bytes of a piece of the tokenizer with its score in a script, on average."""
MOST_BYTES = 60_000_000
"""Size of a page without its thumbnails up to which the text tower goes into it."""


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
    kept_phrases: float | None
    """The same of phrases of two and three words; None for too few phrases that are known."""
    has_tower: bool
    """Whether phrases are read by the text tower."""
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
    if isinstance(source.files, Folder) and out.resolve().is_relative_to(source.root.resolve()):
        raise ValueError(f"--out {out} lies in the images' folder, where its thumbnails would be found as images")
    spoken = _spoken(towers, languages)
    choice = choose_words(source, images, folder, languages=spoken, most=words)
    said = ", ".join(f"{count:,} {name}" for name, count in choice.counts.items() if count)
    say(f"{counted(len(choice.entries), 'word')}: {said}")
    pictures = embed_pictures(towers, source)
    words_in_full = _embed(towers, choice.entries)
    vectors = page_vectors(pictures.embedding, words_in_full)
    with _new_folder(out) as part:
        undrawn = write_thumbnails(source.files, pictures.paths, part / "thumbnails")
        problems = [*pictures.unreadable, *undrawn]
        originals = os.path.relpath(source.root, out.resolve()) if isinstance(source.files, Folder) else ""
        write_page_files(part)
        write_images(part, pictures.paths, vectors.images)
        write_words(part, choice.entries, vectors.words)
        tower = _tower_with_room(towers, vectors.axes, MOST_BYTES - size_of(part))
        kept_phrases = _kept_phrases(pictures.embedding, words_in_full, vectors, choice, tower)
        about = {
            **_about(pictures, problems, originals),
            **about_words(vectors, choice, kept_phrases),
            "tower": tower and write_tower(part, tower),
        }
        write_about(part, about)
        size = size_of(part)
    return PageFacts(
        images=len(pictures.rows),
        words=len(choice.entries),
        unreadable=len(problems),
        numbers=vectors.images.value.shape[1],
        kept_best=vectors.kept_best,
        kept_phrases=kept_phrases,
        has_tower=tower is not None,
        megabytes=size / 1e6,
    )


@dataclass(frozen=True, kw_only=True)
class PageVectors:
    """Embeddings as a page has them."""

    images: Bytes
    words: Bytes
    axes: Float[Tensor, "e d"] | None
    """Axes of the shorter embeddings, where they are shorter."""
    kept_best: float
    """As in ``PageFacts``."""


def page_vectors(images: Float[Tensor, "n e"], words: Float[Tensor, "w e"]) -> PageVectors:
    """The embeddings in at most ``MOST_NUMBERS`` numbers of eight bits, compared with the full ones."""
    axes = image_axes(images)
    page_images, page_words = quantise(shortened(images, axes)), quantise(shortened(words, axes))
    some = np.linspace(0, len(words) - 1, min(COMPARED, len(words))).astype(int)
    full = (images @ words[torch.from_numpy(some)].T).numpy()
    stored = Bytes(page_words.value[some], page_words.scale[some])
    kept = shared_best(full.T, (page_images.vectors() @ stored.vectors().T).T, COMPARED_BEST)
    return PageVectors(images=page_images, words=page_words, axes=axes, kept_best=kept)


def shared_best(full: Float[np.ndarray, "q n"], page: Float[np.ndarray, "q n"], best: int) -> float:
    """Mean share of the ``best`` images of each query by one score that are among those by another."""
    best = min(best, full.shape[1])
    pairs = zip(*(np.argsort(-score, axis=1, kind="stable")[:, :best] for score in (full, page)), strict=True)
    return float(np.mean([len(np.intersect1d(a, b)) / best for a, b in pairs]))


def page_phrases(choice: WordChoice) -> dict[str, list[str]]:
    """Entries of several words, and the entries that they are made of: a page would find each as a whole.

    Entries with a word that the page does not know are left out.
    """
    known, ignored = set(choice.entries), set(choice.ignored)
    parts = {entry: [word for word in entry.split() if word not in ignored] for entry in choice.entries if " " in entry}
    return {entry: words for entry, words in parts.items() if len(words) > 1 and known.issuperset(words)}


def mean_vectors(parts: Sequence[Sequence[int]], words: Bytes) -> Float[np.ndarray, "q d"]:
    """The mean of the words of each text, by their rows, at length 1."""
    total = np.stack([Bytes(words.value[list(rows)], words.scale[list(rows)]).vectors().sum(axis=0) for rows in parts])
    return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)


def _kept_phrases(
    images: Float[Tensor, "n e"],
    words: Float[Tensor, "w e"],
    vectors: PageVectors,
    choice: WordChoice,
    tower: PageTower | None,
) -> float | None:
    """As in ``PageFacts``, by phrases that are entries, read as if they were not."""
    phrases = page_phrases(choice)
    if len(phrases) < LEAST_COMPARED:
        return None
    row = {entry: number for number, entry in enumerate(choice.entries)}
    some = [list(phrases)[place] for place in np.linspace(0, len(phrases) - 1, min(COMPARED, len(phrases))).astype(int)]
    if tower is None:
        page = mean_vectors([[row[word] for word in phrases[phrase]] for phrase in some], vectors.words)
    else:
        page = tower.embed(some)
    full = (words[[row[phrase] for phrase in some]] @ images.T).numpy()
    return shared_best(full, page @ vectors.images.vectors().T, COMPARED_BEST)


def _tower_with_room(towers: Towers, axes: Float[Tensor, "e d"] | None, room: int) -> PageTower | None:
    """The text tower in eight bits if its bytes, as letters, fit into ``room``; otherwise says why not."""
    numbers = sum(weight.numel() for weight in (*towers.model.text.parameters(), towers.model.text_projection))
    if (numbers + (0 if axes is None else axes.numel())) * 4 / 3 + BYTES_OF_PIECE * towers.tokenizer.vocabulary > room:
        reason = f"the text tower has {numbers:,} numbers and would not fit into a page of {MOST_BYTES / 1e6:.0f} MB"
    elif (tower := page_tower(towers, axes)) is None:
        reason = "a page cannot do this kind of tokenizer"
    else:
        return tower
    say(f"phrases are estimated from their words: {reason}")
    return None


def _about(pictures: Pictures, problems: Sequence[Problem], originals: str) -> dict[str, object]:
    named = [{"name": problem.key, "reason": problem.reason} for problem in problems[:NAMED_PROBLEMS]]
    return {
        "images": len(pictures.rows),
        "title": pictures.source.name,
        "attribution": "" if originals else pictures.source.attribution,
        "originals": Path(originals).as_posix() if originals else "",
        "unreadable": len(problems),
        "problems": named,
    }


def about_words(vectors: PageVectors, choice: WordChoice, kept_phrases: float | None) -> dict[str, object]:
    """Facts of a page's words, as ``about`` has them."""
    return {
        "words": len(choice.entries),
        "numbers": vectors.images.value.shape[1],
        "kept_best": round(vectors.kept_best, 3),
        "kept_phrases": kept_phrases and round(kept_phrases, 3),
        "ignored": list(choice.ignored),
    }


def _spoken(towers: Towers, languages: Sequence[str]) -> Sequence[str]:
    """The languages asked for, or those of the captions that the text tower was trained on; () where nobody knows."""
    languages = list(dict.fromkeys(map(language_code, languages)))
    trained = sorted(set(map(language_code, towers.languages or ())) - {""})
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
