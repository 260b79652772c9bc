"""What MkDocs calls while it builds the site: the page of the command line is written from the parsers themselves."""

from __future__ import annotations

import argparse
import html
import textwrap
from collections.abc import Iterator

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

COMMAND_LINE_PAGE = "reference/command_line.md"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated page to the files of the site."""
    from underpaint.cli.parser import parser

    files.append(File.generated(config, COMMAND_LINE_PAGE, content=command_line(parser())))
    return files


def command_line(parser: argparse.ArgumentParser) -> str:
    """The page in Markdown: one heading per verb, with its usage, arguments and examples."""
    lines = ["# Command line", "", f"{parser.description}", ""]
    lines += [
        "Every verb is a function of the package too ([functions](functions.md)). Exit codes: 0 done, 2 wrong input, "
        "3 the machine (disk, memory), 75 interrupted and resumable.",
        "",
    ]
    for name, verb in verbs(parser):
        usage = textwrap.dedent(" " * len("usage: ") + verb.format_usage().removeprefix("usage: ")).strip()
        lines += [f"## {name}", "", f"{_sentence(verb.description or '')}", "", f"```text\n{usage}\n```", ""]
        lines += ["| argument | meaning |", "|---|---|"]
        lines += [f"| {_names(action)} | {_meaning(action)} |" for action in _actions(verb)]
        lines += ["", f"```text\n{verb.epilog}\n```" if verb.epilog else "", ""]
    return "\n".join(lines)


def verbs(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Name and parser of each verb."""
    for action in _actions(parser):
        if isinstance(action.choices, dict):  # the subparsers, whose class argparse keeps private
            yield from action.choices.items()


def _actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Arguments and options of a parser, but for --help."""
    return [a for a in parser._actions if a.help != argparse.SUPPRESS and "--help" not in a.option_strings]


def _names(action: argparse.Action) -> str:
    metavar = action.metavar if isinstance(action.metavar, str) else None
    if not action.option_strings:
        return f"`{metavar or action.dest}`"
    value = "" if action.nargs == 0 else f" {metavar or '{' + ','.join(map(str, action.choices or ())) + '}'}"
    return ", ".join(f"`{option}{value}`" for option in action.option_strings)


def _meaning(action: argparse.Action) -> str:
    text = html.escape(action.help or "", quote=False)
    return _sentence(text.replace("|", "\\|").replace("%%", "%"))


def _sentence(text: str) -> str:
    """The text as a sentence of its own."""
    return text[:1].upper() + text[1:] + ("" if not text or text.endswith((".", ")", "!")) else ".")
