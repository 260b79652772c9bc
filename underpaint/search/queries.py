"""One query on the command line: the images whose embeddings are nearest to that of the text."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from underpaint.messages import say
from underpaint.run.towers import load_towers
from underpaint.search.pictures import embed_pictures, open_pictures
from underpaint.training.devices import choose_device

LONGEST_QUERY = 10_000
"""Letters; a longer text is a document, as it is for captions."""


class Match(NamedTuple):
    """An image and how well it fits the query."""

    path: str
    """Relative to the folder that is searched in, with ``/``."""
    score: float
    """Cosine of both embeddings."""


def search_images(folder: str | Path, images: str | Path, query: str, *, top: int = 10) -> list[Match]:
    """The ``top`` images that fit a text best by the towers of a finished run of LiT, the best first.

    ``images`` is a folder, a prepared set or the name of a collection. Features of images are kept in the cache, by the
    encoder and the hash of each image, so that a second query encodes none again. Equal scores are ordered by path.

    Raises:
        ValueError: for an empty or too long query, a model without a text tower, or no readable images.
    """
    query = checked_query(query)
    if top < 1:
        raise ValueError(f"top={top} must be 1 or more")
    towers = load_towers(folder).to(choose_device("any"))
    source = open_pictures(images)
    if not towers.knows(query):
        say(f"the tokenizer of {folder} knows no part of {query[:40]!r}: the order below says nothing")
    embedding = towers.embed_texts([query])[0]
    pictures = embed_pictures(towers, source)
    score = pictures.embedding @ embedding
    order = score.sort(descending=True, stable=True).indices[:top].tolist()
    paths = pictures.paths
    return [Match(paths[row], float(score[row])) for row in order]


def checked_query(query: str) -> str:
    """The query without needless blanks.

    Raises:
        ValueError: if it is empty, too long, or holds bytes that are not UTF-8.
    """
    if len(query) > LONGEST_QUERY:
        raise ValueError(f"the query has {len(query):,} letters; at most {LONGEST_QUERY:,} are read")
    query = " ".join(query.split())
    if not query:
        raise ValueError("the query is empty; write in a few words what the images are to show")
    if any("\ud800" <= letter <= "\udfff" for letter in query):
        raise ValueError(f"the query {query[:40]!a} is not UTF-8 text; set the terminal to UTF-8")
    return query
