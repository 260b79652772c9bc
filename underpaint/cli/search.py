"""``underpaint search``: images found by words."""

from __future__ import annotations

import argparse
from pathlib import Path

from underpaint.cli.verb import Verb, require_new

EXAMPLES = """\
  underpaint search runs/lit ./photos "a dog in the snow"
  underpaint search runs/lit ./photos "ein Hund im Schnee" --top 30 --json found.json
  underpaint search runs/lit ./photos --out page --languages en,de
The first call encodes every image once; later ones with the same encoder read the features from the cache.
A page opens by a double click on page/index.html, without a server and without a network."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("folder", metavar="RUN", help="folder of a finished run of LiT, or of an imported MAWS-CLIP")
    add("images", metavar="FOLDER", help="folder of images, prepared set, or name of a collection")
    add("query", metavar="QUERY", nargs="?", help="words in any language that the text tower was trained on")
    add("--top", metavar="N", type=int, help="number of images, best first (default: 10)")
    add("--json", metavar="FILE", default="", help="new file to write the images to, instead of the terminal")
    add("--out", metavar="DIR", default="", help="new folder of a page to search in, instead of a query")
    languages = "with --out: languages of the words, as en,de (default: those of the run's captions)"
    add("--languages", metavar="LIST", default="", help=languages)
    add("--words", metavar="N", type=int, help="with --out: largest number of words to type (default: 30,000)")


def call(options: argparse.Namespace) -> None:
    if options.out:
        _write_page(options)
    else:
        _print_matches(options)


def _print_matches(options: argparse.Namespace) -> None:
    from underpaint import files
    from underpaint.search.queries import search_images

    if options.query is None:
        raise ValueError('search needs a query ("a dog in the snow") or a folder to write a page to (--out DIR)')
    if options.languages or options.words is not None:
        raise ValueError("--languages and --words choose the words of a page, and a query has its own; add --out DIR")
    require_new(options.json)
    top = {} if options.top is None else {"top": options.top}
    matches = search_images(options.folder, options.images, options.query, **top)
    if options.json:
        rows = [match._asdict() for match in matches]
        files.write_json(Path(options.json), {"format": 1, "query": options.query, "matches": rows})
        return
    width = len(str(len(matches)))
    for rank, match in enumerate(matches, 1):
        print(f"{rank:>{width}}  {match.score:6.3f}  {match.path}")


def _write_page(options: argparse.Namespace) -> None:
    from underpaint.search.page import write_search_page

    if options.query is not None or options.top is not None or options.json:
        raise ValueError("a query, --top and --json print images, and --out writes a page to search in: choose one")
    words = {} if options.words is None else {"words": options.words}
    languages = [language.strip() for language in options.languages.split(",") if language.strip()]
    facts = write_search_page(options.folder, options.images, options.out, languages=languages, **words)
    left_out = f", {facts.unreadable:,} could not be read" if facts.unreadable else ""
    print(f"{Path(options.out) / 'index.html'}: {facts.images:,} images{left_out}; {facts.words:,} words")
    phrases = "" if facts.kept_phrases is None else f", of a phrase {facts.kept_phrases:.0%}"
    print(
        f"{facts.numbers} numbers of eight bits for each, {facts.megabytes:.1f} MB without thumbnails; of the ten best "
        f"images of a word, {facts.kept_best:.0%} are those of the full embeddings{phrases}"
    )


SEARCH = Verb(
    name="search",
    help="find images by words, or write a page that does",
    examples=EXAMPLES,
    add_arguments=add_arguments,
    call=call,
)
