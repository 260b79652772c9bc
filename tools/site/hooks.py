"""Hooks that MkDocs calls while it builds the site: the parsers write the page of the command line."""

from __future__ import annotations

import argparse
import html
import re
import textwrap
from collections.abc import Iterator

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

COMMAND_LINE_PAGE = "reference/command_line.md"


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The page's text with whole figures, and for the page of the command line the verbs below it."""
    if page.file.src_uri.startswith("results/"):
        return unbroken(markdown)
    if page.file.src_uri != COMMAND_LINE_PAGE:
        return markdown
    from underpaint.cli.parser import parser

    return markdown + command_line(parser())


def unbroken(markdown: str) -> str:
    """The text with no line break inside ``31.6 ± 0.2`` and ``+0.9 to +3.6``."""
    markdown = markdown.replace(" ± ", "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}")
    return re.sub(r"(?<=\d) to (?=[+-]?\d)", "\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}", markdown)


def command_line(parser: argparse.ArgumentParser) -> str:
    """A heading per verb in Markdown, with its usage, arguments and examples."""
    lines = [""]
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
