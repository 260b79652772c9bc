"""``underpaint report``: the page of a folder, from its files alone."""

from __future__ import annotations

import argparse
from pathlib import Path

from underpaint.cli.verb import Verb

EXAMPLES = """\
  underpaint report runs/stages_tiny
  underpaint report runs/mae_laptop --no-images
  underpaint report sets/photos"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", help="folder of a run or of a study, or prepared set")
    parser.add_argument("--no-images", action="store_true", help="leave out all images of the data")


def call(options: argparse.Namespace) -> None:
    from underpaint.report import write_report

    print(write_report(Path(options.folder), images=not options.no_images))


REPORT = Verb(
    name="report",
    help="write the HTML report of a run, a study or a prepared set",
    examples=EXAMPLES,
    add_arguments=add_arguments,
    call=call,
)
