"""``underpaint tags``: the tags of a prepared set, looked at and mended."""

from __future__ import annotations

import argparse

from underpaint.cli.verb import Verb

EXAMPLES = """\
  underpaint tags doctor sets/photos
  underpaint tags doctor sets/photos --run runs/wsp
  underpaint tags doctor sets/photos --accepted accepted.csv --mapping mine.csv
  underpaint prepare ./photos --out sets/photos --mapping mine.csv
The first command writes a table and a page of proposals. Accept or refuse each on the page and save accepted.csv, or
write yes into the column accept of proposals.csv; the third command makes a mapping of them."""

TASKS = {"doctor": "propose merges, implications, words of two meanings and dead tags"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("task", metavar="TASK", choices=tuple(TASKS), help=f"doctor: {TASKS['doctor']}")
    add("folder", metavar="SET", help="folder of a prepared set")
    run = "finished run of WSP on the set, whose head is further evidence"
    add("--run", metavar="RUN", default="", help=run)
    add("--out", metavar="DIR", default="", help="folder for table and page (default: SET/tag_doctor)")
    accepted = "table with answers: accepted.csv of the page, or proposals.csv edited by hand"
    add("--accepted", metavar="FILE", default="", help=accepted)
    add("--mapping", metavar="FILE", default="", help="with --accepted: new file to write for prepare --mapping")


def call(options: argparse.Namespace) -> None:
    from underpaint.tag_doctor.examination import accept, propose

    if bool(options.accepted) != bool(options.mapping):
        raise ValueError("--accepted FILE and --mapping FILE belong together: answers to read, and a mapping to write")
    if options.accepted and options.out:
        raise ValueError("--out is for proposals, and --accepted writes a mapping; leave one of them out")
    if options.accepted:
        count = accept(options.folder, options.accepted, options.mapping, run=options.run)
        print(f"{options.mapping}: {count:,} accepted; use it with underpaint prepare ... --mapping {options.mapping}")
        return
    made = propose(options.folder, run=options.run, out=options.out)
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in made.counts.items())
    print(f"{sum(made.counts.values()):,} proposals{f': {kinds}' if kinds else ''}")
    print(f"page: {made.folder / 'proposals.html'}\ntable: {made.folder / 'proposals.csv'}")


TAGS = Verb(
    name="tags",
    help="propose mends of the tags of a prepared set",
    examples=EXAMPLES,
    add_arguments=add_arguments,
    call=call,
)
