"""The parser of the command line: all verbs, their help, and the messages for words that no verb takes."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from rich_argparse import RawDescriptionRichHelpFormatter

from underpaint._version import __version__
from underpaint.cli.completion import SHELLS, PrintCompletion
from underpaint.cli.embed import EMBED
from underpaint.cli.eval import EVAL
from underpaint.cli.export import EXPORT
from underpaint.cli.import_ import IMPORT
from underpaint.cli.list import LIST
from underpaint.cli.look import LOOK
from underpaint.cli.plan import PLAN
from underpaint.cli.predict import PREDICT
from underpaint.cli.prepare import PREPARE
from underpaint.cli.report import REPORT
from underpaint.cli.search import SEARCH
from underpaint.cli.study import STUDY
from underpaint.cli.tags import TAGS
from underpaint.cli.train import TRAIN
from underpaint.cli.verb import Verb
from underpaint.suggest import hint

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

VERBS: dict[str, Verb] = {
    verb.name: verb
    for verb in (LOOK, PREPARE, TAGS, TRAIN, EVAL, STUDY, PLAN, IMPORT, EXPORT, EMBED, PREDICT, SEARCH, REPORT, LIST)
}  # fmt: skip
"""Verbs by name, in the order of ``underpaint --help``."""


class Help(RawDescriptionRichHelpFormatter):
    """Help in colour on a terminal and without codes elsewhere (NO_COLOR too); text is never read as markup."""

    group_name_formatter = staticmethod(str)
    help_markup = False
    text_markup = False
    styles = {**RawDescriptionRichHelpFormatter.styles, "argparse.groups": "bold", "argparse.prog": "default"}  # noqa: RUF012
    highlights = [  # noqa: RUF012
        *RawDescriptionRichHelpFormatter.highlights,
        r"(?m)^(?P<groups>examples:)$",
        r"(?m)^ +(?P<args>underpaint .+)$",
    ]


class Parser(argparse.ArgumentParser):
    """Says in one line what is wrong with a command, and which word was meant."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.flags: list[str] = []
        super().__init__(*arguments, formatter_class=argparse.RawDescriptionHelpFormatter, **options)

    def add_argument(self, *names: Any, **options: Any) -> argparse.Action:
        if options.get("help") != argparse.SUPPRESS:
            self.flags += [name for name in names if name.startswith("--")]
        return super().add_argument(*names, **options)

    def print_help(self, file: SupportsWrite[str] | None = None) -> None:
        """Print the help, in colour on a terminal; ``format_help`` returns it without colour."""
        plain, self.formatter_class = self.formatter_class, Help
        super().print_help(file)
        self.formatter_class = plain

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def parser() -> argparse.ArgumentParser:
    """The parser of all verbs; ``verb`` names the one that was called."""
    return _parsers()[0]


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The options of a command; ``field=value`` may also come after them, as when appended to a line that ends with
    ``--out DIR``. Exits with 2 and one line for words that cannot be meant, and with 0 after ``--help``.
    """
    top, of_verb = _parsers()
    if not words:
        top.error(f"a verb is missing; known are {', '.join(VERBS)}")
    if words[0] not in {*VERBS, "-h", *top.flags}:
        kind, known = ("option", top.flags) if words[0].startswith("-") else ("verb", list(VERBS))
        top.error(f"unknown {kind} {words[0]!r}{_meant(words[0], known)}")
    options, left = top.parse_known_args(words)
    called = of_verb[options.verb]
    for word in left:
        if word.startswith("-"):
            name = word.partition("=")[0]
            called.error(f"unknown option {word!r}{_field(options, name, called.flags) or _meant(name, called.flags)}")
        if "overrides" not in options:
            called.error(f"unexpected word {word!r}")
        if "=" not in word:
            called.error(f"{word!r} is not an override; write field=value")
    if left:
        options.overrides = [*options.overrides, *left]
    return options


def _field(options: argparse.Namespace, flag: str, known: Sequence[str]) -> str:
    """How a field of the recipe to train is set that was written as an option, such as ``--labels``.

    A slip in a ``known`` option is none, and is told apart first: to know the fields takes seconds.
    """
    if options.verb != "train" or difflib.get_close_matches(flag, known, n=1, cutoff=0.75):
        return ""
    from underpaint import verbs

    name = flag.lstrip("-").replace("-", "_")
    try:
        fields = [field.name for field in verbs.settable_fields(options.recipe)]
    except ValueError:  # of the recipe, whose own error comes when it is run
        return ""
    written = [f"{field}=VALUE" for field in fields if name in (field, field.rpartition(".")[2])]
    return f"; a field is written without dashes: {' or '.join(written)}" if written else ""


def _meant(word: str, known: Sequence[str]) -> str:
    return f"; {hint(word, known)}"


def _parsers() -> tuple[Parser, dict[str, Parser]]:
    top = Parser(
        prog="underpaint",
        description="Pre-pretrain vision models on your images (MAE), pretrain them on your tags\n"
        "(WSP), and measure how much each stage gains.",
        epilog="examples:\n  underpaint study stages\n  underpaint list\n  underpaint train --help",
    )
    top.add_argument("--version", action="version", version=f"underpaint {__version__}", help="show the version")
    completion = "print a script that completes verbs, options, names and paths in bash, zsh or fish"
    top.add_argument("--completion", metavar="SHELL", choices=SHELLS, action=PrintCompletion, help=completion)
    verbs = top.add_subparsers(title="verbs", dest="verb", metavar="VERB", required=True, parser_class=Parser)
    of_verb: dict[str, Parser] = {}
    for verb in VERBS.values():
        of_verb[verb.name] = verbs.add_parser(
            verb.name,
            help=verb.help,
            description=f"{verb.help[0].upper()}{verb.help[1:]}.",
            epilog=f"examples:\n{verb.examples}",
        )
        verb.add_arguments(of_verb[verb.name])
    return top, of_verb
