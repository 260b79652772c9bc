"""``underpaint look``: what a folder of images holds, and what can be run on it."""

from __future__ import annotations

import argparse

from underpaint.cli.verb import TABLE, Verb

EXAMPLES = """\
  underpaint look ./photos
  underpaint look ./photos --minutes 20
  underpaint look ./photos --tags posts.csv:path=Datei,tags=Motiv"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="FOLDER", help="folder of images")
    minutes = "time on this machine that the commands shown may take (default: 180)"
    parser.add_argument("--minutes", metavar="N", type=float, default=180.0, help=minutes)

    tags = "table of tags beside the folder's own, for the columns path and tags or others that are named; repeatable"
    parser.add_argument("--tags", metavar=TABLE, action="append", default=[], help=tags)
    parser.add_argument("--labels", metavar=TABLE, default="", help="table of classes: path, class and perhaps split")


def call(options: argparse.Namespace) -> None:
    from underpaint.first_look import look

    print(look(options.folder, minutes=options.minutes, tags=options.tags, labels=options.labels))


LOOK = Verb(
    name="look",
    help="show what a folder of images holds, and commands fitted to it",
    examples=EXAMPLES,
    add_arguments=add_arguments,
    call=call,
)
