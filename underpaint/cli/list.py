"""``underpaint list``: everything with a name."""

from __future__ import annotations

import argparse
import shutil
import textwrap

from underpaint.cli.verb import Verb

EXAMPLES = """\
  underpaint list
  underpaint list --fields mae_vit_b16
  underpaint list --fields knn
  underpaint list --fields transfer
  underpaint list --source mae_vit_b16"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    fields = "print the fields that can be set for this recipe, evaluation or study, with their values"
    parser.add_argument("--fields", metavar="NAME", default="", help=fields)
    source = "print where the code of this recipe and of its loss is (file and line)"
    parser.add_argument("--source", metavar="RECIPE", default="", help=source)


def call(options: argparse.Namespace) -> None:
    if options.source:
        from underpaint import verbs

        for what, file, line in verbs.source_of(options.source):
            print(f"{what:8} {file}:{line}")
        return
    if options.fields:
        from underpaint import config, verbs

        width = shutil.get_terminal_size().columns
        for name, value, comment in verbs.settable_fields(options.fields):
            print(f"{name}={config.written(value, name)}")
            if comment:
                print(textwrap.fill(comment, width, initial_indent="    ", subsequent_indent="    "))
        return
    from underpaint.contents import contents

    for title, entries in contents().items():
        print(f"{title}:")
        for name, description in entries:
            print(f"  {name:20} {description}")


LIST = Verb(
    name="list",
    help="show the names of recipes, studies, evaluations and built-in collections",
    examples=EXAMPLES,
    add_arguments=add_arguments,
    call=call,
)
