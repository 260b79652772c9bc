"""``underpaint look``: what a folder of images holds, and what can be run on it."""

from __future__ import annotations

import argparse

from underpaint.cli.verb import Verb

EXAMPLES = """\
  underpaint look ./photos
  underpaint look ./photos --minutes 20"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="FOLDER", help="folder of images")
    minutes = "time on this machine that the commands shown may take (default: 180)"
    parser.add_argument("--minutes", metavar="N", type=float, default=180.0, help=minutes)


def call(options: argparse.Namespace) -> None:
    from underpaint.first_look import look

    print(look(options.folder, minutes=options.minutes))


LOOK = Verb(
    name="look",
    help="show what a folder of images holds, and commands fitted to it",
    examples=EXAMPLES,
    add_arguments=add_arguments,
    call=call,
)
