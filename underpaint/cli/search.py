"""``underpaint search``: images found by words."""

from __future__ import annotations

import argparse
from pathlib import Path

from underpaint.cli.verb import Verb, require_new

EXAMPLES = """\
  underpaint search runs/lit ./photos "a dog in the snow"
  underpaint search runs/lit ./photos "ein Hund im Schnee" --top 30 --json found.json
The first query encodes every image once; later ones with the same encoder read the features from the cache."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("folder", metavar="RUN", help="folder of a finished run of LiT, or of an imported MAWS-CLIP")
    add("images", metavar="FOLDER", help="folder of images, prepared set, or name of a collection")
    add("query", metavar="QUERY", help="words in any language that the text tower was trained on")
    add("--top", metavar="N", type=int, default=10, help="number of images, best first (default: 10)")
    add("--json", metavar="FILE", default="", help="new file to write the images to, instead of the terminal")


def call(options: argparse.Namespace) -> None:
    from underpaint import files
    from underpaint.search.queries import search_images

    require_new(options.json)
    matches = search_images(options.folder, options.images, options.query, top=options.top)
    if options.json:
        rows = [match._asdict() for match in matches]
        files.write_json(Path(options.json), {"format": 1, "query": options.query, "matches": rows})
        return
    width = len(str(len(matches)))
    for rank, match in enumerate(matches, 1):
        print(f"{rank:>{width}}  {match.score:6.3f}  {match.path}")


SEARCH = Verb(
    name="search",
    help="find images by words",
    examples=EXAMPLES,
    add_arguments=add_arguments,
    call=call,
)
