"""``underpaint tags``: the tags of a prepared set, looked at, mended and measured."""

from __future__ import annotations

import argparse

from underpaint.cli.verb import Verb

EXAMPLES = """\
  underpaint tags doctor sets/photos
  underpaint tags doctor sets/photos --run runs/wsp
  underpaint tags doctor sets/photos --accepted accepted.csv --mapping mine.csv
  underpaint prepare ./photos --out sets/photos --mapping mine.csv
  underpaint tags audit sets/photos --run runs/wsp --labels heron oak
  underpaint tags audit sets/photos --answers answers.json
The first command writes a table and a page of proposals. Accept or refuse each on the page and save accepted.csv, or
write yes into the column accept of proposals.csv; the third command makes a mapping of them. The fifth writes a page of
images; say of each whether it shows the thing, and save answers.json, of which the last makes shares of wrong and of
missing tags."""

TASKS = {
    "doctor": "propose merges, implications, words of two meanings and dead tags",
    "audit": "measure the shares of wrong and of missing tags from at most 200 images that you judge",
}
OPTIONS = {"doctor": ("accepted", "mapping"), "audit": ("labels", "images", "seed", "answers")}
"""Options of one task alone."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("task", metavar="TASK", choices=tuple(TASKS), help="; ".join(f"{name}: {does}" for name, does in TASKS.items()))
    add("folder", metavar="SET", help="folder of a prepared set")
    run = "finished run of WSP on the set, whose head is further evidence, or says which images the audit draws"
    add("--run", metavar="RUN", default="", help=run)
    add("--out", metavar="DIR", default="", help="folder for table and page (default: SET/tag_doctor or SET/tag_audit)")
    accepted = "doctor: table with answers: accepted.csv of the page, or proposals.csv edited by hand"
    add("--accepted", metavar="FILE", default="", help=accepted)
    add("--mapping", metavar="FILE", default="", help="with --accepted: new file to write for prepare --mapping")
    labels = "audit: labels to judge (default: the most frequent, one for each 60 images)"
    add("--labels", metavar="NAME", nargs="+", default=[], help=labels)
    add("--images", metavar="N", type=int, help="audit: images on the page, 10 to 200 (default: 200)")
    add("--seed", metavar="N", type=int, help="audit: another seed draws other images (default: 0)")
    add("--answers", metavar="FILE", default="", help="audit: answers.json that the page saved")


def call(options: argparse.Namespace) -> None:
    (another,) = OPTIONS.keys() - {options.task}
    if given := [f"--{name}" for name in OPTIONS[another] if getattr(options, name) not in (None, "", [])]:
        raise ValueError(
            f"{' and '.join(given)} does nothing with {options.task}; leave it out, or call tags {another}"
        )
    {"doctor": _doctor, "audit": _audit}[options.task](options)


def _doctor(options: argparse.Namespace) -> None:
    from underpaint.messages import counted
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
    print(f"{counted(sum(made.counts.values()), 'proposal')}{f': {kinds}' if kinds else ''}")
    print(f"page: {made.folder / 'proposals.html'}\ntable: {made.folder / 'proposals.csv'}")


def _audit(options: argparse.Namespace) -> None:
    from underpaint.tag_doctor.audit.audit import AuditOptions, ask, judge

    given = AuditOptions(run=options.run, labels=options.labels, images=options.images, seed=options.seed)
    if not options.answers:
        asked = ask(options.folder, given, out=options.out)
        print(f"{asked.images:,} images to judge: {', '.join(asked.labels)}\npage: {asked.page}")
        return
    folder, shares = judge(options.folder, options.answers, given, out=options.out)
    print("\n".join(label.line for label in shares))
    print(f"table: {folder / 'audit.csv'}\nanswers: {folder / 'judged.csv'}")


TAGS = Verb(
    name="tags",
    help="propose mends of the tags of a prepared set, or measure them",
    examples=EXAMPLES,
    add_arguments=add_arguments,
    call=call,
)
